"""Retention on PostgreSQL: partitions of whole days are dropped; bodies are nulled piece by piece.

Partitions are those that the worker makes, known by their names; what an operator has attached
under another name stays. Everything is asked of the parent table by a range of ids, because the
worker's role need not have rights on the partitions themselves.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from spoolway.worker.stores.errors import Retryable
from spoolway.worker.stores.expired import IS_THERE, MARK, PAYLOAD
from spoolway.worker.stores.partitions import Partitions
from spoolway.worker.stores.retaining import Cuts, Removed, Run, Share, start_of
from spoolway.worker.stores.transaction import begin, in_transaction

_LOCK: Final = 0x5F_53_50_4F_4F_4C_50_03
"""Advisory lock of a step: where two runs meet, one of them gives way."""
_DROP_SECONDS: Final = 0.8
"""Most that a drop may take, waiting for its locks included: as long writers wait behind it."""
_LOCK_SECONDS: Final = 0.3
"""Of that, for each lock. Below deadlock_timeout: this gives way before PostgreSQL chooses."""
_CHECK_SECONDS: Final = 0.4
"""DETACH looks for errors that point into the partition, and nobody writes meanwhile. If that takes
longer than this, the partition is emptied before."""
_TRIES: Final = 8
"""Times to ask for locks; long queries of others may have them. Then, next time."""
_LINKS: Final = 2_000
"""Links that are nulled in one step."""
_BLOCKS: Final = 256
"""Blocks of a partition (8 KiB each) whose bodies are nulled in one step."""
_VACUUMS: Final = 8
"""Times that a partition is vacuumed on the way: rows without their bodies fill the room of those
before, and it grows by an eighth at most."""
_LEAST_VACUUM: Final = 1024
"""Blocks that are worth a vacuum."""
_MOVES: Final = 8
"""Times that rows are moved out of their blocks, a few less each time."""
_LATE: Final = timedelta(hours=1)
"""A row has the time when its transaction began; it is there when that has ended."""
_NAME: Final = re.compile(r"_logs_p(\d{4})(\d{2})(\d{2})$", re.ASCII)
_NOTE: Final = re.compile(r"bodies expired: (\S+)", re.ASCII)

_PARTITIONS: Final = """
SELECT part.relname::text, part.reltuples::bigint, pg_total_relation_size(part.oid),
       pg_relation_size(part.oid) / current_setting('block_size')::int,
       obj_description(part.oid, 'pg_class')
FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
WHERE inhparent = to_regclass($1) AND NOT inhdetachpending ORDER BY 1
"""
# What PostgreSQL itself asks in DETACH (RI_PartitionRemove_Check).
_IS_POINTED_AT: Final = """
SELECT FROM error_logs JOIN request_logs ON request_logs.id = error_logs.request_log_id
WHERE request_logs.id >= '{first}' AND request_logs.id < '{last}'
AND error_logs.request_log_id IS NOT NULL LIMIT 1
"""
_LAST_OF_SOME_LINKS: Final = """
SELECT max(request_log_id::text)::uuid FROM (
    SELECT request_log_id FROM error_logs
    WHERE request_log_id >= $1 AND request_log_id < $2 ORDER BY request_log_id LIMIT $3
) AS links
"""
_UNLINK: Final = "UPDATE error_logs SET request_log_id = NULL WHERE request_log_id >= $1 AND request_log_id <= $2"
_MOVE: Final = "UPDATE request_logs SET truncated = truncated WHERE {rows}"
_BLOCKS_OF: Final = "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::int"
_EMPTY: Final = "DELETE FROM request_logs WHERE {rows}"
_EXPIRE: Final = f"""
UPDATE request_logs SET {", ".join(f"{name} = NULL" for name in PAYLOAD)},
    truncated = coalesce(truncated, '[]') || to_jsonb(array_remove(ARRAY[
        {", ".join(f"CASE WHEN {name} IS NOT NULL THEN '{name}' END" for name in PAYLOAD)}, '{MARK}'
    ], NULL))
WHERE {{rows}} AND {IS_THERE}
"""  # noqa: S608 - names of our own columns
_BODIES: Final = f"""
SELECT count(*), coalesce(sum({" + ".join(f"coalesce(pg_column_size({n}), 0)" for n in PAYLOAD)}), 0)
FROM request_logs WHERE {{rows}} AND {IS_THERE}
"""  # noqa: S608 - names of our own columns
_HAS_LATE_ONES: Final = (
    f"SELECT EXISTS (SELECT FROM request_logs WHERE {{rows}} AND created_at >= $1 AND {IS_THERE})"  # noqa: S608 - as above
)
_COUNT: Final = "SELECT count(*) FROM {table} WHERE {rows}"


@dataclass(slots=True, frozen=True)
class _Partition:
    table: str
    name: str
    day: date
    estimate: int
    """Rows, as of the last ANALYZE; -1 if there was none."""
    bytes: int
    blocks: int
    expired: datetime | None
    """Its bodies were gone at that time."""

    @property
    def first(self) -> UUID:
        return start_of(self.day)

    @property
    def last(self) -> UUID:
        """The first id that is not in it any more."""
        return start_of(self.day + timedelta(days=1))

    @property
    def rows(self) -> str:
        """SQL for its rows: of the parent, and pruned to it when it is planned."""
        return f"id >= '{self.first}' AND id < '{self.last}'"


class PostgresRetention:
    """See `Retention`."""

    def __init__(self, run: Run, run_long: Run, *, statement_timeout: float) -> None:
        """Take what runs a step on a pooled connection: within the store's deadline, or longer."""
        self._run = run
        self._run_long = run_long
        self._begin = begin(statement_timeout=statement_timeout, lock_timeout=_LOCK_SECONDS)
        self._partitions = Partitions(
            statement_timeout=min(_DROP_SECONDS, statement_timeout), lock_timeout=_LOCK_SECONDS
        )

    async def due(self, cuts: Cuts) -> Removed:
        """Count what would go; rows of analysed partitions by the server's estimate."""
        found = Removed()
        for part in await self._before("error_logs", cuts.errors):
            found.errors.add(await self._share(part))
        for part in await self._before("request_logs", cuts.requests):
            found.requests.add(await self._share(part))
        for part in await self._with_bodies(cuts):
            found.bodies.add(await self._bodies(part))
        return found

    async def steps(self, cuts: Cuts) -> AsyncIterator[Removed]:
        """Drop partitions, oldest first: errors before requests, whose links are fewer then."""
        for part in await self._before("error_logs", cuts.errors):
            share = await self._share(part)
            if await self._drop(part):
                yield Removed(errors=share)
        for part in await self._before("request_logs", cuts.requests):
            share = await self._share(part)
            async for _ in self._unlink(part):
                yield Removed()
            async for _ in self._emptied_if_large(part):
                yield Removed()
            if await self._drop(part):
                yield Removed(requests=share)
        for part in await self._with_bodies(cuts):
            async for share in self._expire(part):
                yield Removed(bodies=share)

    # --- Which ones -------------------------------------------------------------------------

    async def _before(self, table: str, cut: date | None) -> list[_Partition]:
        if cut is None:
            return []
        rows = await self._run(lambda connection: connection.fetch(_PARTITIONS, table))
        parts = [_partition(table, row) for row in rows]
        return [part for part in parts if part is not None and part.day < cut]

    async def _with_bodies(self, cuts: Cuts) -> list[_Partition]:
        """Return partitions that stay and whose bodies do not: not those that have none any more."""
        found = []
        for part in await self._before("request_logs", cuts.bodies):
            if cuts.requests is not None and part.day < cuts.requests:
                continue
            if part.expired is None or await self._run_long(
                partial(_has_late_ones, part=part, since=part.expired - _LATE)
            ):
                found.append(part)
        return found

    async def _share(self, part: _Partition) -> Share:
        rows = part.estimate
        if rows < 0:
            count = _COUNT.format(table=part.table, rows=part.rows)
            rows = await self._run_long(lambda connection: connection.fetchval(count))
        return Share(1, rows, part.bytes)

    async def _bodies(self, part: _Partition) -> Share:
        ((rows, size),) = await self._run_long(
            partial(_fetch, statement=_BODIES.format(rows=part.rows))
        )
        return Share(0, rows, int(size))

    # --- Rows -------------------------------------------------------------------------------

    async def _drop(self, part: _Partition) -> bool:
        for tried in range(1, _TRIES + 1):
            try:
                return bool(
                    await self._run(
                        lambda connection: self._partitions.drop(connection, part.table, part.day)
                    )
                )
            except Retryable as error:
                if tried == _TRIES:
                    raise Retryable(
                        f"partition {part.name} cannot be dropped now, because other "
                        f"transactions use {part.table}: {error}",
                        error.sqlstate,
                    ) from error
            await asyncio.sleep(_pause(tried))
            if part.table == "request_logs":
                async for _ in self._unlink(part):  # what was linked since
                    pass
        return False

    async def _unlink(self, part: _Partition) -> AsyncIterator[None]:
        """Null the links into a partition, which DETACH would trip over."""

        async def some(connection: Any) -> bool:
            bounds = part.first, part.last
            last = await connection.fetchval(_LAST_OF_SOME_LINKS, *bounds, _LINKS)
            if last is not None:
                await connection.execute(_UNLINK, part.first, last)
            return last is not None

        while await self._step(some):
            yield

    async def _emptied_if_large(self, part: _Partition) -> AsyncIterator[None]:
        """Delete the rows beforehand, if DETACH would look through them for too long."""
        check = _IS_POINTED_AT.format(first=part.first, last=part.last)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._run_long(lambda connection: connection.fetchval(check))
        if loop.time() - began <= _CHECK_SECONDS:
            return
        async for _ in self._by_blocks(part, _EMPTY, range(0, part.blocks, _BLOCKS)):
            yield

    # --- Bodies -----------------------------------------------------------------------------

    async def _expire(self, part: _Partition) -> AsyncIterator[Share]:
        seen = datetime.now(UTC)
        size = (await self._bodies(part)).bytes
        async for rows in self._by_blocks(part, _EXPIRE, range(0, part.blocks, _BLOCKS)):
            yield Share(0, rows, size)
            size = 0
        # The first rows found no room but behind the others; moved to the front by now, they let
        # VACUUM cut off the end of the file.
        blocks = await self._run(partial(_fetchval, statement=_BLOCKS_OF, argument=part.name))
        moved = range(part.blocks, blocks or 0, _BLOCKS)  # None: somebody has dropped it meanwhile
        async for _ in self._by_blocks(part, _MOVE, moved):
            yield Share()
        await self._run(
            lambda connection: connection.execute(
                "SELECT spoolway_note_expired($1, $2)", part.day, seen
            )
        )

    async def _by_blocks(
        self, part: _Partition, statement: str, blocks: range
    ) -> AsyncIterator[int]:
        """Run a statement over the rows in these blocks of a partition, some at a time."""
        often = max(part.blocks // _VACUUMS, _LEAST_VACUUM)
        unvacuumed = 0
        for block in blocks:
            rows = (
                f"{part.rows} AND ctid >= '({block},0)'::tid "
                f"AND ctid < '({block + _BLOCKS},0)'::tid"
            )
            changed = await self._step(partial(_changed, statement=statement, rows=rows))
            if changed:
                yield changed
                unvacuumed += _BLOCKS
            if unvacuumed >= often:
                await self._vacuum(part)
                unvacuumed = 0
        if unvacuumed:
            await self._vacuum(part)

    async def _vacuum(self, part: _Partition) -> None:
        """Give the room of old rows to new ones, and empty ends of files to the disk.

        Of another owner's partition PostgreSQL says a warning: autovacuum comes to it.
        """
        await self._run_long(lambda connection: connection.execute(f'VACUUM "{part.name}"'))

    async def _step(self, work: Any) -> Any:
        """Run one transaction, if no other retention runs one; again, if others are in its way."""

        async def alone(connection: Any) -> Any:
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                raise Retryable("another retention is at work on this database")
            return await work(connection)

        async def step(connection: Any) -> Any:
            return await in_transaction(connection, self._begin, partial(alone, connection))

        for tried in range(1, _TRIES):
            try:
                return await self._run(step)
            except Retryable as error:
                if error.sqlstate is None:
                    raise
            await asyncio.sleep(_pause(tried))
        return await self._run(step)


def _pause(tried: int) -> float:
    """Return seconds in which others go on, after so many tries."""
    return min(0.2 * 2.0**tried, 10.0)


def _partition(table: str, row: Sequence[Any]) -> _Partition | None:
    name, estimate, size, blocks, note = row
    found = _NAME.search(name)
    if found is None or not name.startswith(table):
        return None
    try:
        day = date(*map(int, found.groups()))
    except ValueError:
        return None
    return _Partition(table, name, day, estimate, size, blocks, _noted(note))


def _noted(note: str | None) -> datetime | None:
    found = _NOTE.match(note or "")
    try:
        return datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


async def _fetch(connection: Any, *, statement: str) -> Any:
    return await connection.fetch(statement)


async def _fetchval(connection: Any, *, statement: str, argument: str) -> Any:
    return await connection.fetchval(statement, argument)


async def _changed(connection: Any, *, statement: str, rows: str) -> int:
    """Change rows, and leave none of them in its blocks; return how many were changed.

    PostgreSQL puts the new version of a row beside the old one while there is room, and one small
    row in each block would keep the file as long as it was. What is done here is not cleaned up
    before the transaction ends: soon there is no room left.
    """
    changed = await _execute(connection, statement.format(rows=rows))
    moved = changed
    for _ in range(_MOVES):
        if not moved or statement == _EMPTY:
            break
        moved = await _execute(connection, _MOVE.format(rows=rows))
    return changed


async def _execute(connection: Any, statement: str) -> int:
    status: str = await connection.execute(statement)
    return int(status.rpartition(" ")[2])


async def _has_late_ones(connection: Any, *, part: _Partition, since: datetime) -> bool:
    return bool(await connection.fetchval(_HAS_LATE_ONES.format(rows=part.rows), since))
