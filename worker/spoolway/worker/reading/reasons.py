"""Why requests have failed, in a few words: for one who sees many of them go by."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, func, or_, select

from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.reading.conditions import between, ids_of_errors
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.rows import parsed, selected

_LONGEST: Final = 500
"""Characters of a message that are read: a line has no room for more."""


async def reasons(database: ReadDatabase, ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the last error of each of these requests that has one: "timeout: no answer in 30 s".

    From its error events, or where they are not there (yet) from its own column. Raises as
    `ReadDatabase.fetch`.
    """
    if not ids:
        return {}
    of_errors, of_requests = await database.fetch_together(_errors(ids), _summaries(ids))
    found = {}
    for row in of_requests:
        summaries = parsed(row.errors) if row.errors else None
        if isinstance(summaries, list) and summaries and isinstance(summaries[-1], dict):
            last: dict[str, Any] = summaries[-1]
            found[row.id] = reason(last.get("error_type"), last.get("error_message"))
    for row in of_errors:  # oldest first: the last one counts
        found[row.request] = reason(row.error_type, row.error_message)
    return {one: why for one, why in found.items() if why}


def reason(error_type: object, message: object) -> str:
    """Return an error's type and message as one text, as far as they are known."""
    return ": ".join(str(part)[:_LONGEST] for part in (error_type, message) if part)


def _errors(ids: Sequence[UUID]) -> Select[Any]:
    error = error_logs.c
    request = func.coalesce(error.request_log_id, error.request_id)
    # Linked, or as it was given where nobody has linked it yet: each has an index.
    is_theirs = or_(
        error.request_log_id.in_(ids),
        and_(error.request_log_id.is_(None), error.request_id.in_(ids)),
    )
    return (
        select(
            request.label("request"),
            error.error_type,
            func.substr(error.error_message, 1, _LONGEST).label("error_message"),
        )
        .where(is_theirs, between(error.id, ids_of_errors((min(ids), max(ids)))))
        .order_by(error.id)
    )


def _summaries(ids: Sequence[UUID]) -> Select[Any]:
    columns = selected([request_logs.c.id, request_logs.c.errors])
    return select(*columns).where(request_logs.c.id.in_(ids))
