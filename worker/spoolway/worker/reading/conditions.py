"""Conditions that both listings have, and between which ids they look."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from spoolway.schema import is_uuid7, lower_bound
from spoolway.schema.tables import error_logs
from spoolway.worker.reading.failures import BadQuery
from spoolway.worker.reading.filters import check_values
from spoolway.worker.reading.period import LONGEST, Period

Condition = ColumnElement[bool]
Ids = tuple[UUID, UUID]
"""The first id, and the one that ends the range and is not in it."""

AFTER_ITS_REQUEST: Final = timedelta(days=7)
BEFORE_ITS_REQUEST: Final = timedelta(hours=1)
"""When an error may have happened, counted from when its request began, to be found by it: what
may be searched without it are the partitions of all days."""
ALL: Final = UUID(int=2**128 - 1)
"""Above every id."""
PLAIN_MS: Final = 24 * 3_600_000
FILTERED_MS: Final = 3_600_000
"""Milliseconds of ids that are looked at first, where every row is asked for, and where not."""
_STATUS: Final = re.compile(r"[1-9]\d\d|[1-5]xx", re.ASCII)


def ids_of(period: Period | None, now: datetime) -> Ids:
    """Return the ids to look at; without a period those of the last 400 days, and of the future."""
    return period.ids() if period else (lower_bound(now - LONGEST), ALL)


def ids_of_errors(of_requests: Ids) -> Ids:
    """Return the ids that errors of these requests have."""
    first, last = of_requests
    return _shifted(first, -BEFORE_ITS_REQUEST), _shifted(last, AFTER_ITS_REQUEST)


def ids_of_requests(of_errors: Ids) -> Ids:
    """Return the ids that requests of these errors have."""
    first, last = of_errors
    return _shifted(first, -AFTER_ITS_REQUEST), _shifted(last, BEFORE_ITS_REQUEST)


def _shifted(position: UUID, by: timedelta) -> UUID:
    ms = by // timedelta(milliseconds=1)
    return UUID(int=min(max(position.int + (ms << 80), 0), ALL.int))


def is_of_request(request: UUID) -> Condition:
    """Return the SQL of errors of a request: as they are linked, or as given and not linked yet."""
    error = error_logs.c
    # Each has an index, but request_id one of those alone that are not linked.
    is_its = or_(
        error.request_log_id == request,
        and_(error.request_log_id.is_(None), error.request_id == request),
    )
    if not is_uuid7(request):
        return is_its
    return and_(is_its, between(error.id, ids_of_errors((request, request))))


def between(column: ColumnElement[UUID], ids: Ids) -> Condition:
    """Return the SQL of an id being in a range; each end is written so that partitions are left out."""
    return and_(column >= ids[0], column < ids[1])


def during(column: ColumnElement[datetime], period: Period | None) -> list[Condition]:
    """Return the SQL of a time being in a period."""
    return [column >= period.start, column < period.end] if period else []


def without_index(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column that SQLite looks up in no index.

    It knows nothing of how many rows have a value: for a page of the newest it would sort all those
    that succeeded.
    """
    return UnaryExpression(column, operator=custom_op("+"), type_=column.type)


def check_statuses(values: Sequence[str]) -> None:
    """Refuse what is no HTTP status. Raises BadQuery."""
    check_values("status", values)
    for value in values:
        if value and not _STATUS.fullmatch(value):
            raise BadQuery("status is a number such as 500, 4xx for a class, or empty for none")


def has_status(column: ColumnElement[int], values: Sequence[str]) -> Condition:
    """Return the SQL of one of these: "500", "4xx", or "" for none."""
    conditions: list[Condition] = []
    for value in values:
        if not value:
            conditions.append(column.is_(None))
        elif value.endswith("xx"):
            first = int(value[0]) * 100
            conditions.append(column.between(first, first + 99))
        else:
            conditions.append(column == int(value))
    return or_(*conditions)


def is_or_begins(column: ColumnElement[str], values: Sequence[str]) -> Condition:
    """Return the SQL of one of these texts; "/v1/*" is all that begin with /v1/, "" is none."""
    conditions: list[Condition] = []
    for value in values:
        if not value:
            conditions += [column.is_(None), column == ""]
        elif value.endswith("*"):
            # Not LIKE, which on SQLite takes a to z for A to Z.
            beginning = value[:-1]
            conditions.append(func.substr(column, 1, len(beginning)) == beginning)
        else:
            conditions.append(column == value)
    return or_(*conditions)


def check_milliseconds(name: str, value: float | None) -> None:
    """Refuse what is no length of time. Raises BadQuery."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise BadQuery(f"{name} is a number of milliseconds, 0 or more")


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
