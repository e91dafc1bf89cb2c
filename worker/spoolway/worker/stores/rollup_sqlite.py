"""The roll-ups on SQLite: what `spoolway.worker.rollup.steps` wants, in the writer's transactions."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from spoolway.schema import new_id
from spoolway.schema.usage import MAPS, Level
from spoolway.worker.rollup import steps
from spoolway.worker.rollup.rebuilding import (
    ALL_KEPT,
    ENDS,
    EVENTS,
    OLDEST,
    Difference,
    Kept,
    Span,
)
from spoolway.worker.rollup.totals import MEASURES
from spoolway.worker.stores.retaining import Run
from spoolway.worker.stores.rows import sqlite_time

R = TypeVar("R")

_AT_ONCE: Final = 5
"""Batches of a merge: the file has one writer, and who adds events waits meanwhile."""
_FEW: Final = 2
_ROWS: Final = 5_000


_SEE_PENDING: Final = "SELECT kind, facts FROM usage_pending WHERE kind <> 'unreadable'"
_SET_ASIDE: Final = "INSERT INTO usage_pending (id, kind, facts) VALUES (?, 'unreadable', ?)"


class SqliteRollup:
    """See `Rollup`."""

    def __init__(self, run: Run) -> None:
        """Take what runs a step in a transaction of the store's own connection."""
        self._run = run

    async def merge(self, *, few: bool = False) -> int:
        """Add some of what is pending to the levels."""
        return await self._do(steps.merge(_FEW if few else _AT_ONCE))

    async def check_hour(self, hour: datetime, kept: Kept = ALL_KEPT) -> list[Difference]:
        """Compare an hour's groups with its rows."""
        return await self._do(steps.check_hour(hour, kept))

    async def rebuild_hour(self, hour: datetime, kept: Kept = ALL_KEPT) -> bool:
        """Make an hour's groups anew of its rows."""
        return await self._do(steps.rebuild_hour(hour, kept))

    async def check_day(self, day: datetime) -> list[Difference]:
        """Compare what is coarser than a day's hours with them."""
        return await self._do(steps.check_day(day))

    async def rebuild_day(self, day: datetime) -> bool:
        """Make what is coarser than a day's hours anew of them."""
        return await self._do(steps.rebuild_day(day))

    async def span(self) -> Span | None:
        """Return the hours there is anything of."""
        *ids, first, last = await self._run(lambda connection: connection.execute(ENDS).fetchone())
        hours = [_time(hour) for hour in (first, last) if hour]
        return Span.of([one and UUID(one) for one in ids], hours)

    async def _do(self, generator: steps.Steps[R]) -> R:
        done: R = await self._run(partial(_driven, generator=generator))
        return done


def _driven(connection: sqlite3.Connection, *, generator: steps.Steps[R]) -> R:
    answer: Any = None
    while True:
        try:
            step = generator.send(answer)
        except StopIteration as done:
            result: R = done.value
            return result
        answer = _answer(connection, step)


def _answer(connection: sqlite3.Connection, step: steps.Step) -> Any:
    match step:
        case steps.Lock():
            return True  # BEGIN IMMEDIATE has it
        case steps.TakePending(most):
            return _take_pending(connection, most)
        case steps.SetAside(facts):
            return connection.executemany(_SET_ASIDE, [(str(new_id()), one) for one in facts])
        case steps.SeePending():
            return connection.execute(_SEE_PENDING).fetchall()
        case steps.TakeKeys(level, keys):
            return _take_keys(connection, level, keys)
        case steps.Insert(level, rows):
            marks = ", ".join("?" * len(level.table.c))
            statement = f"INSERT INTO {level.table.name} VALUES ({marks})"  # noqa: S608 - our own names
            return connection.executemany(statement, map(_bound, rows))
        case steps.Delete(level, start, end):
            statement = f"DELETE FROM {_of_period(level)}"  # noqa: S608 - our own names
            return connection.execute(statement, (sqlite_time(start), sqlite_time(end)))
        case steps.Read(level, start, end):
            columns = ", ".join((level.period, *level.dimensions, *MEASURES))
            statement = f"SELECT {columns} FROM {_of_period(level)}"  # noqa: S608 - our own names
            found = connection.execute(statement, (sqlite_time(start), sqlite_time(end)))
            return [(_time(row[0]), *row[1:]) for row in found]
        case steps.SeeOldest():
            return [one and UUID(one) for one in connection.execute(OLDEST).fetchone()]
        case steps.ReadRows():
            return _read_rows(connection, step)


def _take_pending(connection: sqlite3.Connection, most: int | None) -> list[tuple[str, str]]:
    found = connection.execute(
        "SELECT id, kind, facts FROM usage_pending WHERE kind <> 'unreadable' ORDER BY id LIMIT ?",
        (-1 if most is None else most,),
    ).fetchall()
    if found:
        last = found[-1][0]
        connection.execute(
            "DELETE FROM usage_pending WHERE id <= ? AND kind <> 'unreadable'", (last,)
        )
    return [(kind, facts) for _, kind, facts in found]


def _take_keys(
    connection: sqlite3.Connection, level: Level, keys: Sequence[tuple[datetime, UUID]]
) -> list[tuple[Any, ...]]:
    where = f"FROM {level.table.name} WHERE {level.period} = ? AND key = ?"
    select = f"SELECT {', '.join(MEASURES)} {where}"
    found = []
    for period, key in keys:
        at = sqlite_time(period), str(key)
        row = connection.execute(select, at).fetchone()
        if row is not None:
            connection.execute(f"DELETE {where}", at)
            found.append((period, key, *row))
    return found


def _read_rows(connection: sqlite3.Connection, step: steps.ReadRows) -> None:
    for name, table, columns in EVENTS:
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM {table} "  # noqa: S608 - our own names
            f"WHERE {columns[0]} >= ? AND {columns[0]} < ?",
            (sqlite_time(step.start), sqlite_time(step.end)),
        )
        while some := rows.fetchmany(_ROWS):
            getattr(step, name)(some)


def _of_period(level: Level) -> str:
    return f"{level.table.name} WHERE {level.period} >= ? AND {level.period} < ?"


def _bound(row: Sequence[Any]) -> list[Any]:
    """Return what a level's row is bound as: times and keys as text, and JSON."""
    period, key, *values = row
    for at in range(-len(MAPS), 0):
        values[at] = values[at] and values[at].decode()
    return [sqlite_time(period), str(key), *values]


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
