"""The roll-ups on PostgreSQL: what `spoolway.worker.rollup.steps` wants, asked with asyncpg.

Each is one transaction that sees the tables as they were at its start (REPEATABLE READ). Only one of
them changes the levels at a time; writers, who add to `usage_pending` alone, wait for none of them.
"""

from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from spoolway.schema import new_id
from spoolway.schema.usage import Level
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
from spoolway.worker.stores.transaction import begin, in_transaction
from spoolway.worker.threads import in_thread

R = TypeVar("R")

_AT_ONCE: Final = 60
"""Batches of a merge: some seconds of work. The more of them, the fewer times each group is read and
written; nobody waits for it."""
_FEW: Final = 5
"""Batches of a merge beside a worker that takes in what it can: a quarter of a second of work."""
_ROWS: Final = 5_000
"""Rows of events that are held at once."""

_TRY_LOCK: Final = "SELECT pg_try_advisory_xact_lock(x'5F53504F4F4C5002'::bigint)"
# What was changed meanwhile makes this transaction fail (40001) when it comes to it: Retryable.
_LOCK: Final = "SELECT pg_advisory_xact_lock(x'5F53504F4F4C5002'::bigint) IS NOT NULL"
_TAKE_PENDING: Final = """
DELETE FROM usage_pending WHERE id IN (
    SELECT id FROM usage_pending WHERE kind <> 'unreadable' ORDER BY id LIMIT $1
)
RETURNING kind, facts
"""
_SEE_PENDING: Final = "SELECT kind, facts FROM usage_pending WHERE kind <> 'unreadable'"
_SET_ASIDE: Final = "INSERT INTO usage_pending (id, kind, facts) VALUES ($1, 'unreadable', $2)"


class PostgresRollup:
    """See `Rollup`."""

    def __init__(self, run: Run, *, statement_timeout: float) -> None:
        """Take what runs a step on the store's own connections, and how long a statement may take."""
        self._run = run
        self._begin = begin(
            statement_timeout=statement_timeout,
            lock_timeout=statement_timeout,
            isolation="REPEATABLE READ",
        )

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

        async def ends(connection: Any) -> Any:
            return await connection.fetchrow(ENDS)

        *ids, first, last = await self._run(ends)
        return Span.of(ids, (first, last))

    async def _do(self, generator: steps.Steps[R]) -> R:
        async def whole(connection: Any) -> R:
            return await in_transaction(
                connection, self._begin, lambda: _driven(connection, generator)
            )

        done: R = await self._run(whole)
        return done


async def _driven(connection: Any, generator: steps.Steps[R]) -> R:
    answer: Any = None
    while True:
        # In a thread: adding up a hundred thousand facts would hold up the batches of this worker.
        step, done = await in_thread(partial(_next, generator, answer))
        if step is None:
            result: R = done
            return result
        answer = await _answer(connection, step)


def _next(generator: steps.Steps[R], answer: Any) -> tuple[steps.Step | None, Any]:
    try:
        return generator.send(answer), None
    except StopIteration as done:
        return None, done.value


async def _answer(connection: Any, step: steps.Step) -> Any:
    match step:
        case steps.Lock(wait):
            return await connection.fetchval(_LOCK if wait else _TRY_LOCK)
        case steps.TakePending(most):
            return await connection.fetch(_TAKE_PENDING, most)
        case steps.SetAside(facts):
            return await connection.executemany(_SET_ASIDE, [(new_id(), one) for one in facts])
        case steps.SeePending():
            return await connection.fetch(_SEE_PENDING)
        case steps.TakeKeys(level, keys):
            periods, ids = zip(*keys, strict=True)
            return await connection.fetch(_take_keys(level), periods, ids)
        case steps.Insert(level, rows):
            return await connection.copy_records_to_table(
                level.table.name, records=rows, columns=level.table.c.keys()
            )
        case steps.Delete(level, start, end):
            statement = f"DELETE FROM {_of_period(level)}"  # noqa: S608 - our own names
            return await connection.execute(statement, start, end)
        case steps.Read(level, start, end):
            columns = ", ".join((level.period, *level.dimensions, *MEASURES))
            statement = f"SELECT {columns} FROM {_of_period(level)}"  # noqa: S608 - our own names
            return await connection.fetch(statement, start, end)
        case steps.SeeOldest():
            return await connection.fetchrow(OLDEST)
        case steps.ReadRows():
            return await _read_rows(connection, step)


async def _read_rows(connection: Any, step: steps.ReadRows) -> None:
    for name, table, columns in EVENTS:
        # A cursor of SQL's own: asyncpg's would be a named statement, which a pooler loses.
        await connection.execute(
            f"DECLARE spoolway_rows NO SCROLL CURSOR FOR SELECT {', '.join(columns)} FROM {table} "  # noqa: S608 - our own names
            f"WHERE {columns[0]} >= '{step.start.isoformat()}' AND {columns[0]} < '{step.end.isoformat()}'"
        )
        while rows := await connection.fetch(f"FETCH {_ROWS} FROM spoolway_rows"):
            getattr(step, name)(rows)
        await connection.execute("CLOSE spoolway_rows")


def _take_keys(level: Level) -> str:
    measures = ", ".join(f"t.{name}" for name in MEASURES)
    return (
        f"DELETE FROM {level.table.name} t "  # noqa: S608 - our own names
        "USING unnest($1::timestamptz[], $2::uuid[]) AS wanted (period, key) "
        f"WHERE t.{level.period} = wanted.period AND t.key = wanted.key "
        f"RETURNING t.{level.period}, t.key, {measures}"
    )


def _of_period(level: Level) -> str:
    return f"{level.table.name} WHERE {level.period} >= $1 AND {level.period} < $2"
