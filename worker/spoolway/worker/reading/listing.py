"""A table of events as pages, as an export, and as what has just come in; newest first, by id."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import Column, Select, Table, func, literal, select

from spoolway.schema import lower_bound
from spoolway.worker.reading.conditions import (
    ALL,
    Condition,
    Ids,
    between,
    during,
    ids_of,
    utc_now,
    without_index,
)
from spoolway.worker.reading.cursor import cursor_of, position_of
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import BadQuery, TooSlow
from spoolway.worker.reading.filters import is_any_of
from spoolway.worker.reading.period import Period
from spoolway.worker.reading.rows import RowReader, selected
from spoolway.worker.reading.walking import Found, Window, walk

MOST_ROWS: Final = 1_000
"""Of a page."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RARE: Final = 5_000
"""Rows that SQLite finds by an index and sorts, instead of walking by id until it meets them."""
_COUNTING: Final = 0.5
"""Seconds to find that out."""
_LATE: Final = timedelta(days=1)
"""How long before it came into the database an event may have begun, to be seen by who watches."""


@dataclass(slots=True)
class Page:
    """Some rows, newest first."""

    data: list[dict[str, Any]]
    next: str | None
    """Cursor of what follows; None at the end."""
    complete: bool
    """False: the time was over, and there may be fewer rows than asked for, or none yet."""


class Question(Protocol):
    """Which rows are asked for."""

    @property
    def period(self) -> Period | None:
        """By the event's own time."""
        ...

    @property
    def indexed(self) -> list[tuple[Column[Any], Sequence[str]]]:
        """Columns that have an index, and the values they are to have."""
        ...

    @property
    def first_ms(self) -> int:
        """Milliseconds of ids to look at first: more where most rows are asked for."""
        ...

    def conditions(self, dialect: str, ids: Ids, *, is_dense: bool) -> list[Condition]:
        """Return the SQL of all but the period and `indexed`, for rows with these ids.

        `is_dense`: many of the rows are expected to be asked for.
        """
        ...


class Listing:
    """Rows of one table."""

    def __init__(
        self, database: ReadDatabase, table: Table, time_column: str, *, fragments: bool
    ) -> None:
        self._database = database
        self._table = table
        self._time: Column[Any] = table.c[time_column]
        self._fragments = fragments

    async def page(
        self,
        question: Question,
        columns: Sequence[Column[Any]],
        *,
        after: str | None,
        limit: int,
    ) -> Page:
        """Return the first rows, or those after a cursor, within the database's time limit."""
        _check_limit(limit)
        reader = RowReader(columns, fragments=self._fragments)
        data: list[dict[str, Any]] = []
        ids = ids_of(question.period, utc_now())
        if after:
            ids = ids[0], min(ids[1], position_of(after))
        found: Found | None = None
        try:
            async with aclosing(
                walk(
                    self._database,
                    await self._window(question, columns),
                    ids,
                    most=lambda: limit + 1 - len(data),
                    first_ms=question.first_ms,
                    now_ms=_now_ms(),
                    seconds=self._database.seconds,
                )
            ) as windows:
                async for found in windows:
                    data += map(reader.read, found.rows)
                    if len(data) > limit:
                        return Page(data[:limit], cursor_of(UUID(data[limit - 1]["id"])), True)
        except TooSlow:
            if found is None:
                raise
        if found is None and ids[0] < ids[1]:  # who goes on there would come back here
            raise TooSlow(self._database.seconds)
        if found is None or found.is_last:
            return Page(data, None, True)
        return Page(data, cursor_of(found.down_to), False)

    async def export(
        self, question: Question, columns: Sequence[Column[Any]], *, at_once: int
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield all rows, newest first, in as many statements as it takes: none stays open.

        What comes in meanwhile is not among them, unless it began before what was read last.
        """
        reader = RowReader(columns, fragments=self._fragments)
        async with aclosing(
            walk(
                self._database,
                await self._window(question, columns),
                ids_of(question.period, utc_now()),
                most=lambda: at_once,
                first_ms=question.first_ms,
                now_ms=_now_ms(),
            )
        ) as windows:
            async for found in windows:
                for row in found.rows:
                    yield reader.read(row)

    async def recent(
        self, question: Question, columns: Sequence[Column[Any]], *, since: datetime, limit: int
    ) -> list[dict[str, Any]]:
        """Return the newest of the rows that came into the database from `since` on, oldest first.

        A transaction's rows all have the time at which it began, and others may have ended before
        it: who goes on from the newest time that it saw has to look some seconds back, and leave
        out what it has. Events that began more than a day before `since` are not found.
        """
        _check_limit(limit)
        created_at = self._table.c.created_at
        ids = lower_bound(max(since - _LATE, _EPOCH)), ALL
        statement = (
            select(*selected(columns))
            .where(created_at >= since, *self._where(question, ids, by_index=False, by_id=False))
            .order_by(created_at.desc(), self._table.c.id.desc())
            .limit(limit)
        )
        reader = RowReader(columns, fragments=self._fragments)
        rows = await self._database.fetch(statement)
        return [reader.read(row) for row in reversed(rows)]

    async def _window(self, question: Question, columns: Sequence[Column[Any]]) -> Window:
        by_index = self._database.dialect != "sqlite" or await self._is_rare(question)

        def window(first: UUID, last: UUID, most: int, is_dense: bool) -> Select[Any]:
            conditions = self._where(question, (first, last), by_index=by_index, is_dense=is_dense)
            return (
                select(*selected(columns))
                .where(*conditions)
                .order_by(self._table.c.id.desc())
                .limit(most)
            )

        return window

    def _where(
        self,
        question: Question,
        ids: Ids,
        *,
        by_index: bool,
        is_dense: bool = False,
        by_id: bool = True,
    ) -> list[Condition]:
        is_sqlite = self._database.dialect == "sqlite"
        moment = without_index(self._time) if is_sqlite else self._time
        # Of those that came in just now a day of ids would be read, were they not found by their time.
        key = self._table.c.id if by_id or not is_sqlite else without_index(self._table.c.id)
        return [
            between(key, ids),
            *during(moment, question.period),
            *(
                is_any_of(column if by_index or not is_sqlite else without_index(column), values)
                for column, values in question.indexed
            ),
            *question.conditions(self._database.dialect, ids, is_dense=is_dense),
        ]

    async def _is_rare(self, question: Question) -> bool:
        """Tell whether so few rows have a value that an index leads to them soonest."""
        for column, values in question.indexed:
            some = select(literal(1)).where(is_any_of(column, values)).limit(_RARE + 1)
            counted = select(func.count()).select_from(some.subquery())
            with suppress(TooSlow):
                [[number]] = await self._database.fetch(counted, seconds=_COUNTING)
                if number <= _RARE:
                    return True
        return False


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_ROWS:
        raise BadQuery(f"limit is between 1 and {MOST_ROWS}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
