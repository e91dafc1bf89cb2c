"""Requests: listed newest first, looked at one by one, exported, and watched as they come."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Column, Select, or_, select

from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.reading.conditions import (
    FILTERED_MS,
    PLAIN_MS,
    Condition,
    Ids,
    between,
    check_milliseconds,
    check_statuses,
    has_status,
    ids_of_errors,
    is_of_request,
    is_or_begins,
)
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.filters import (
    EVERY_ROW,
    EVERYTHING,
    Filters,
    Scope,
    check_values,
    is_any_of,
)
from spoolway.worker.reading.listing import Listing, Page
from spoolway.worker.reading.period import Period
from spoolway.worker.reading.rows import RowReader, scalars, selected
from spoolway.worker.reading.words import in_json, words_of

SUMMARY: Final[Sequence[Column[Any]]] = scalars(request_logs)
"""What a listing has of a request: all but JSON."""
WHOLE: Final[Sequence[Column[Any]]] = list(request_logs.c)
SEARCHED: Final = ("body", "response", "stream_chunks", "errors")
"""The columns that `q` looks into: those that `spoolway db index` is for."""

_AT_ONCE: Final = 1_000
_WHOLE_AT_ONCE: Final = 50
"""Rows that an export has in memory: fewer where each may have megabytes."""
_INDEXED: Final = ("model_name", "outcome")


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which requests. What is not given is not asked about.

    Raises:
        BadQuery: what no request can have.
    """

    period: Period | None = None
    """By request_time; None is the last 400 days."""
    filters: Filters = EVERY_ROW
    scope: Scope = EVERYTHING
    """Of the token that asks: it always wins."""
    status: tuple[str, ...] = ()
    """HTTP status: "500", "4xx", "" for none."""
    path: tuple[str, ...] = ()
    """As it was, or "/v1/*" for all that begin so."""
    request_id: tuple[str, ...] = ()
    """The proxy's or the client's own id, or ours."""
    error_type: tuple[str, ...] = ()
    """Requests with an error event of one of these types, whatever came of them."""
    has_error: bool | None = None
    """With any error event, or with none."""
    is_stream: bool | None = None
    min_duration_ms: float | None = None
    max_duration_ms: float | None = None
    """Both inclusive."""
    q: str = ""
    """Words in `SEARCHED`; see `spoolway.worker.reading.words`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be asked."""
        check_statuses(self.status)
        check_values("path", self.path)
        check_values("request_id", self.request_id)
        check_values("error_type", self.error_type)
        check_milliseconds("min_duration_ms", self.min_duration_ms)
        check_milliseconds("max_duration_ms", self.max_duration_ms)
        words_of(self.q)

    @property
    def indexed(self) -> list[tuple[Column[Any], Sequence[str]]]:
        """The filters on columns that have an index."""
        given = self.filters.within(self.scope).given
        return [(request_logs.c[name], given[name]) for name in _INDEXED if name in given]

    @property
    def first_ms(self) -> int:
        """Milliseconds of ids to look at first."""
        is_plain = self == LogQuery(period=self.period)
        return PLAIN_MS if is_plain else FILTERED_MS

    def conditions(self, dialect: str, ids: Ids, *, is_dense: bool) -> list[Condition]:
        """Return the SQL of all but the period and `indexed`."""
        row = request_logs.c
        narrowed = self.filters.within(self.scope)
        found = narrowed.conditions(request_logs, without=_INDEXED)
        if self.status:
            found.append(has_status(row.http_status, self.status))
        if self.path:
            found.append(is_or_begins(row.path, self.path))
        if self.request_id:
            ours = [UUID(value) for value in self.request_id if _is_uuid(value)]
            found.append(or_(is_any_of(row.request_id, self.request_id), row.id.in_(ours)))
        if self.is_stream is not None:
            found.append(row.is_stream.is_(self.is_stream))
        if self.min_duration_ms is not None:
            found.append(row.duration_ms >= self.min_duration_ms)
        if self.max_duration_ms is not None:
            found.append(row.duration_ms <= self.max_duration_ms)
        if self.has_error is not None:
            condition = _has_errors(ids)
            found.append(condition if self.has_error else ~condition)
        if self.error_type:
            found.append(_has_errors(ids, is_any_of(error_logs.c.error_type, self.error_type)))
        if words := words_of(self.q):
            columns = [row[name] for name in SEARCHED]
            found.append(in_json(dialect, columns, words, by_index=not is_dense))
        return found


class Logs:
    """The requests of a database. Every method raises what `ReadDatabase.fetch` does.

    JSON columns are Python's objects, or with `fragments` what orjson takes as it is.
    """

    def __init__(self, database: ReadDatabase, *, fragments: bool = False) -> None:
        self._database = database
        self._fragments = fragments
        self._listing = Listing(database, request_logs, "request_time", fragments=fragments)

    async def page(self, query: LogQuery, *, after: str | None = None, limit: int = 50) -> Page:
        """Return summaries, newest first; `after` is the `next` of the page before.

        Raises:
            BadQuery: a limit not between 1 and 1,000, or no cursor.
            TooSlow: nothing could be read in time. Otherwise there is a page that is not complete.
        """
        return await self._listing.page(query, SUMMARY, after=after, limit=limit)

    async def one(self, log_id: UUID, scope: Scope = EVERYTHING) -> dict[str, Any] | None:
        """Return a request with all its columns, and its `error_logs`, the oldest first.

        None: there is no such request, or not for this token.
        """
        request = select(*selected(WHOLE)).where(
            request_logs.c.id == log_id, *EVERY_ROW.within(scope).conditions(request_logs)
        )
        rows, error_rows = await self._database.fetch_together(request, _errors_of(log_id))
        if not rows:
            return None
        found = RowReader(WHOLE, fragments=self._fragments).read(rows[0])
        errors = RowReader(list(error_logs.c), fragments=self._fragments)
        return found | {"error_logs": [errors.read(row) for row in error_rows]}

    def export(self, query: LogQuery, *, whole: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Yield all summaries, newest first, or with `whole` all columns; memory does not grow.

        Raises:
            TooSlow: a second of events cannot be searched in the time limit.
        """
        if whole:
            return self._listing.export(query, WHOLE, at_once=_WHOLE_AT_ONCE)
        return self._listing.export(query, SUMMARY, at_once=_AT_ONCE)

    async def recent(
        self, query: LogQuery, *, since: datetime, limit: int = 200
    ) -> list[dict[str, Any]]:
        """Return the newest summaries that came in from `since` on, oldest first; see `Listing`."""
        return await self._listing.recent(query, SUMMARY, since=since, limit=limit)


def _has_errors(ids: Ids, *conditions: Condition) -> Condition:
    """Return the SQL of requests with these ids having an error event."""
    # With bounds of its own: else the partitions of all days are searched for each request.
    error = error_logs.c
    return (
        select(error.id)
        .where(
            error.request_log_id == request_logs.c.id,
            between(error.id, ids_of_errors(ids)),
            *conditions,
        )
        .correlate(request_logs)
        .exists()
    )


def _errors_of(log_id: UUID) -> Select[Any]:
    error = error_logs.c
    return select(*selected(list(error))).where(is_of_request(log_id)).order_by(error.id)


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
