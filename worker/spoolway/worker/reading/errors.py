"""Error events: listed newest first, exported, and watched as they come."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, func, select

from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.reading.conditions import (
    FILTERED_MS,
    PLAIN_MS,
    Condition,
    Ids,
    between,
    check_statuses,
    has_status,
    ids_of_requests,
    is_of_request,
)
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.filters import EVERY_ROW, EVERYTHING, Scope, check_values, is_any_of
from spoolway.worker.reading.listing import Listing, Page
from spoolway.worker.reading.period import Period
from spoolway.worker.reading.words import in_text, words_of

COLUMNS: Final[Sequence[Column[Any]]] = list(error_logs.c)
"""What a listing has of an error: everything."""
_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class ErrorQuery:
    """Which errors. What is not given is not asked about; "" is what is NULL.

    Raises:
        BadQuery: what no error can have.
    """

    period: Period | None = None
    """By timestamp; None is the last 400 days."""
    scope: Scope = EVERYTHING
    """Of the token that asks: only errors whose request is there, and is one that it sees."""
    model: tuple[str, ...] = ()
    error_type: tuple[str, ...] = ()
    backend: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    """HTTP status: "500", "4xx", "" for none."""
    request: UUID | None = None
    """Id of the request that they belong to."""
    q: str = ""
    """Words in error_message; see `spoolway.worker.reading.words`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        check_values("model", self.model)
        check_values("error_type", self.error_type)
        check_values("backend", self.backend)
        check_statuses(self.status)
        words_of(self.q)

    @property
    def indexed(self) -> list[tuple[Column[Any], Sequence[str]]]:
        """The filters on columns that have an index."""
        error = error_logs.c
        given = ((error.model_name, self.model), (error.error_type, self.error_type))
        return [(column, values) for column, values in given if values]

    @property
    def first_ms(self) -> int:
        """Milliseconds of ids to look at first."""
        is_plain = self == ErrorQuery(period=self.period)
        return PLAIN_MS if is_plain else FILTERED_MS

    def conditions(self, dialect: str, ids: Ids, *, is_dense: bool) -> list[Condition]:  # noqa: ARG002 - see `Question`
        """Return the SQL of all but the period and `indexed`."""
        error = error_logs.c
        found: list[Condition] = []
        if not self.scope.is_everything:
            found.append(_is_of_request_in(self.scope, ids))
        if self.backend:
            found.append(is_any_of(error.backend_name, self.backend))
        if self.status:
            found.append(has_status(error.http_status, self.status))
        if self.request is not None:
            found.append(is_of_request(self.request))
        if words := words_of(self.q):
            found.append(in_text(error.error_message, words, dialect))
        return found


class Errors:
    """The error events of a database. See `Logs`."""

    def __init__(self, database: ReadDatabase, *, fragments: bool = False) -> None:
        self._listing = Listing(database, error_logs, "timestamp", fragments=fragments)

    async def page(self, query: ErrorQuery, *, after: str | None = None, limit: int = 50) -> Page:
        """Return errors, newest first; see `Logs.page`."""
        return await self._listing.page(query, COLUMNS, after=after, limit=limit)

    def export(self, query: ErrorQuery) -> AsyncIterator[dict[str, Any]]:
        """Yield all errors, newest first; see `Logs.export`."""
        return self._listing.export(query, COLUMNS, at_once=_AT_ONCE)

    async def recent(
        self, query: ErrorQuery, *, since: datetime, limit: int = 200
    ) -> list[dict[str, Any]]:
        """Return the newest errors that came in from `since` on, oldest first; see `Listing`."""
        return await self._listing.recent(query, COLUMNS, since=since, limit=limit)


def _is_of_request_in(scope: Scope, ids: Ids) -> Condition:
    """Return the SQL of errors with these ids belonging to a request that a token sees."""
    request = request_logs.c
    return (
        select(request.id)
        .where(
            # Linked, or as it was given where nobody has linked it yet.
            request.id == func.coalesce(error_logs.c.request_log_id, error_logs.c.request_id),
            between(request.id, ids_of_requests(ids)),
            *EVERY_ROW.within(scope).conditions(request_logs),
        )
        # Kept as it is: as a join PostgreSQL would look for all requests that the token sees.
        .offset(0)
        .correlate(error_logs)
        .exists()
    )
