"""The PostgreSQL store: COPY straight into the tables; through a staging table on conflict.

Everything COPY lands is new, so the common batch is one COPY per table. A unique violation means
that some of it was here before (a redelivery, a replay): then the batch goes through a staging
table, which tells exactly what was inserted and what was a duplicate.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID
from weakref import WeakSet

import asyncpg
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import QueuePool

from spoolway.schema import ErrorEvent, RequestEvent, lower_bound, new_id, time_of
from spoolway.worker.rollup.facts import facts_of
from spoolway.worker.stores.base import Conflict, Item, Written
from spoolway.worker.stores.classify import classify, is_without_partition
from spoolway.worker.stores.ending import CLOSING, ended
from spoolway.worker.stores.engine import make_engine
from spoolway.worker.stores.errors import Refused, StoreError, Unreachable
from spoolway.worker.stores.expired import GONE_WITH_IT, MARK
from spoolway.worker.stores.measured import Measured, PoolUse, measure_postgres
from spoolway.worker.stores.partitions import Partitions, day_number, utc_today
from spoolway.worker.stores.retention_postgres import PostgresRetention
from spoolway.worker.stores.rollup_postgres import PostgresRollup
from spoolway.worker.stores.rows import ENRICHED, ERRORS, FILLED_IN, REQUESTS, Row, Rows, split
from spoolway.worker.stores.storable import with_fitting_names
from spoolway.worker.stores.transaction import begin, in_transaction

T = TypeVar("T")

_sql = logging.getLogger("spoolway.sql")  # what goes past SQLAlchemy, which logs its own

_KNOWN_REQUESTS: Final = "SELECT id FROM request_logs WHERE id = ANY($1::uuid[])"
# An error is minted after its request starts: ids from an hour before it bound the partitions that
# are searched, and leave room for clocks that differ. What this misses, link_errors finds.
_LINK_EARLIER_ERRORS: Final = """
UPDATE error_logs SET request_log_id = request_id
WHERE request_log_id IS NULL AND request_id = ANY($1::uuid[]) AND id >= $2
"""
_LINK_LEFTOVERS: Final = """
UPDATE error_logs e SET request_log_id = r.id
FROM request_logs r
WHERE r.id = e.request_id AND e.request_log_id IS NULL AND e.created_at > now() - interval '1 day'
"""
# Asked first: the ids of a batch cost more to send than this does, and errors whose request comes
# later than they do are rare.
_IS_ANY_UNLINKED: Final = """
SELECT EXISTS (
    SELECT FROM error_logs
    WHERE request_log_id IS NULL AND request_id IS NOT NULL AND id >= $1
)
"""
_ADD_FACTS: Final = "INSERT INTO usage_pending (id, kind, facts) VALUES ($1, $2, $3)"
_CLOCKS_DIFFER: Final = timedelta(hours=1)
_JSONB_VERSION: Final = b"\x01"
"""What goes before the text of a jsonb on the wire (jsonb_recv)."""

# Shares of the deadline after which the server itself gives up: on a lock early enough to say so,
# on a statement not long after the client has stopped listening.
_LOCK_SHARE: Final = 0.5
_STATEMENT_SHARE: Final = 0.9
_LONG_SECONDS: Final = 600.0
"""What retention only reads or vacuums may take: nobody waits for it."""


class PostgresStore:
    """See `Store`. Connections are SQLAlchemy's; the hot path uses asyncpg under it."""

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        write_timeout: float,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Connect at the first use, to `pool_size` connections and no more.

        `options` are further arguments of create_async_engine, and win; see `make_engine`. One
        process migrates with a connection of its own before it has any of these.
        """
        defaults = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": write_timeout}
        self._engine, given = make_engine(
            url, write_timeout=write_timeout, options={**defaults, **(options or {})}
        )
        self._drivers: WeakSet[Any] = WeakSet()
        self._ending: set[asyncio.Task[None]] = set()
        event.listen(self._engine.sync_engine, "connect", self._connected)
        self._write_timeout = write_timeout
        statement, lock = write_timeout * _STATEMENT_SHARE, write_timeout * _LOCK_SHARE
        statement = min(statement, given.get("statement_timeout", statement))
        lock = min(lock, given.get("lock_timeout", lock))
        self._begin = begin(statement_timeout=statement, lock_timeout=lock)
        self._partitions = Partitions(statement_timeout=statement)

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; see `Store`."""
        requests, errors = split(with_fitting_names(item) for item in items)
        try:
            return await self._run(lambda connection: self._write(connection, requests, errors))
        except Refused as refusal:
            if (requests and errors) or len({item.event.id for item in items}) < len(items):
                refusal.row = None  # it counts in what one COPY was given, not in the batch
            raise

    async def prepare_days(self, first: date, days: int) -> int:
        """Create the partitions of these days that do not exist."""
        start = day_number(first)
        return await self._run(
            lambda connection: self._partitions.make(connection, range(start, start + days))
        )

    async def link_errors(self) -> int:
        """Link the errors whose request was committed by another worker at the same time."""

        async def link(connection: Any) -> str:
            return str(
                await in_transaction(
                    connection, self._begin, lambda: connection.execute(_LINK_LEFTOVERS)
                )
            )

        return _affected(await self._run(link))

    async def measure(self) -> Measured:
        """Return how large the database is, and how far ahead its partitions reach."""
        return await self._run(lambda connection: measure_postgres(connection, utc_today()))

    def pool_use(self) -> PoolUse | None:
        """Return how many connections are open."""
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            return None
        return PoolUse(pool.checkedout(), pool.checkedin())

    async def retention(self) -> PostgresRetention:
        """Return what removes old rows and bodies, on this pool's connections."""
        return PostgresRetention(
            self._run,
            partial(self._run, seconds=_LONG_SECONDS),
            statement_timeout=self._write_timeout * _STATEMENT_SHARE,
        )

    async def rollup(self) -> PostgresRollup:
        """Return what adds up usage, on this pool's connections."""
        return PostgresRollup(
            partial(self._run, seconds=_LONG_SECONDS),
            statement_timeout=self._write_timeout * _STATEMENT_SHARE,
        )

    async def close(self) -> None:
        """Close every connection; one that does not answer is cut."""
        # Not by the pool: it would wait for a server that hangs to say goodbye, and for ever.
        await asyncio.gather(*self._ending, return_exceptions=True)
        closing = [driver.close(timeout=CLOSING) for driver in list(self._drivers)]
        await asyncio.gather(*closing, return_exceptions=True)
        await self._engine.dispose()

    def _connected(self, dbapi_connection: Any, _record: Any) -> None:
        driver = dbapi_connection.driver_connection
        self._drivers.add(driver)
        if _sql.isEnabledFor(logging.DEBUG):
            driver.add_query_logger(_log_query)
        dbapi_connection.run_async(_send_json_as_it_is)

    async def _run(self, step: Callable[[Any], Awaitable[T]], *, seconds: float | None = None) -> T:
        """Run one step on a pooled connection within the deadline; raises StoreError alone."""
        deadline = asyncio.timeout(seconds or self._write_timeout)
        try:
            async with deadline, self._connection() as connection:
                return await step(connection)
        except StoreError:
            raise
        except Exception as error:
            raise classify(error) from error

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        pooled = await self._engine.connect()
        driver: Any = None
        try:
            driver = (await pooled.get_raw_connection()).driver_connection
            while driver.is_closed():  # the server went away while it lay in the pool
                await pooled.invalidate()
                driver = (await pooled.get_raw_connection()).driver_connection
            yield driver
        except BaseException as error:
            if driver is not None and not _answered(error):
                self._end(pooled, driver)
                raise
            await pooled.close()
            raise
        await pooled.close()

    def _end(self, pooled: AsyncConnection, driver: Any) -> None:
        """End a connection that was left in the middle of the protocol; nobody waits for that.

        Its place in the pool is free when the server has ended its side, too: else a server that
        is still busy with what was given up would have more connections than the pool may have.
        """
        ending = asyncio.create_task(ended(pooled, driver), name="spoolway-end")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def _write(
        self, connection: Any, requests: Sequence[Item], errors: Sequence[Item]
    ) -> Written:
        days = {item.day for item in (*requests, *errors)}
        if missing := self._partitions.missing(days):
            await self._partitions.make(connection, missing)
        try:
            return await in_transaction(
                connection, self._begin, lambda: _copy(connection, requests, errors)
            )
        except asyncpg.UniqueViolationError:
            pass
        except asyncpg.ForeignKeyViolationError:
            pass  # a request was deleted between our look and our COPY: staging looks again
        except asyncpg.CheckViolationError as error:
            if not is_without_partition(error):
                raise
            await self._partitions.make(connection, days)  # it was dropped behind us
        return await in_transaction(
            connection, self._begin, lambda: _copy_through_staging(connection, requests, errors)
        )


async def _copy(connection: Any, requests: Sequence[Item], errors: Sequence[Item]) -> Written:
    if requests:
        # Made as they are sent: the server works on the first while the last are still made.
        await _copy_requests(
            connection, requests, (REQUESTS.row(item.event) for item in requests), REQUESTS.table
        )
    if errors:
        rows = [ERRORS.row(item.event) for item in errors]
        await _copy_errors(connection, errors, rows, ERRORS.table)
    await _link_earlier(connection, [item.event.id for item in requests])
    await _add_facts(connection, requests, errors)
    return Written(inserted=len(requests) + len(errors))


async def _copy_requests(
    connection: Any, requests: Sequence[Item], rows: Iterable[Row], into: str
) -> bool:
    """COPY requests, and where something was filled in, what; return whether it was."""
    if not any(item.enriched for item in requests):
        await _copy_rows(connection, REQUESTS, rows, into)
        return False
    told = ((*row, item.enriched or None) for item, row in zip(requests, rows, strict=True))
    await _copy_rows(connection, REQUESTS, told, into, ENRICHED)
    return True


async def _add_facts(connection: Any, requests: Iterable[Item], errors: Iterable[Item]) -> None:
    """Add what was inserted to the roll-ups, in its own transaction; see `spoolway.schema.usage`."""
    for kind, facts in facts_of(
        [item.event for item in requests if isinstance(item.event, RequestEvent)],
        [item.event for item in errors if isinstance(item.event, ErrorEvent)],
    ):
        await connection.execute(_ADD_FACTS, new_id(), kind, facts)


async def _copy_errors(
    connection: Any, errors: Sequence[Item], rows: Sequence[Row], into: str
) -> None:
    """COPY errors with their links; the requests of this batch are in the table by now."""
    wanted = {_request_of(item) for item in errors} - {None}
    known = {row[0] for row in await connection.fetch(_KNOWN_REQUESTS, list(wanted))}
    linked = [
        (*row, request if (request := _request_of(item)) in known else None)
        for item, row in zip(errors, rows, strict=True)
    ]
    await _copy_rows(connection, ERRORS, linked, into, "request_log_id")


async def _link_earlier(connection: Any, requests: list[UUID]) -> None:
    """Link the errors that came before these requests."""
    if requests:
        since = lower_bound(time_of(min(requests)) - _CLOCKS_DIFFER)
        if await connection.fetchval(_IS_ANY_UNLINKED, since):
            await connection.execute(_LINK_EARLIER_ERRORS, requests, since)


async def _copy_through_staging(
    connection: Any, requests: Sequence[Item], errors: Sequence[Item]
) -> Written:
    written = Written()
    first_requests = _first_of_each_id(REQUESTS, requests, written)
    first_errors = _first_of_each_id(ERRORS, errors, written)
    new_requests: list[Item] = []
    new_errors: list[Item] = []
    if first_requests:
        staging = await _staging(connection, REQUESTS)
        items, rows = map(list, zip(*first_requests.values(), strict=True))
        more = [ENRICHED] if await _copy_requests(connection, items, rows, staging) else []
        new_requests = await _merge(connection, REQUESTS, first_requests, written, *more)
    if first_errors:
        staging = await _staging(connection, ERRORS)
        items, rows = map(list, zip(*first_errors.values(), strict=True))
        await _copy_errors(connection, items, rows, staging)
        new_errors = await _merge(connection, ERRORS, first_errors, written, "request_log_id")
    await _link_earlier(connection, list(first_requests))
    await _add_facts(connection, new_requests, new_errors)
    return written


def _answered(error: BaseException) -> bool:
    """Tell whether the server refused the work and its connection is as good as before."""
    return isinstance(error, asyncpg.PostgresError) and not isinstance(classify(error), Unreachable)


async def _send_json_as_it_is(driver: Any) -> None:
    await driver.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_JSONB_VERSION.__add__,
        decoder=lambda data: data[1:].decode(),
        format="binary",
    )


def _request_of(item: Item) -> UUID | None:
    return item.event.request_id if isinstance(item.event, ErrorEvent) else None


def _log_query(done: Any) -> None:
    """Log a statement, without its arguments: they are what clients have said."""
    _sql.debug("%s (%.1f ms)", " ".join(done.query.split()), done.elapsed * 1000)


async def _copy_rows(
    connection: Any, rows: Rows, records: Iterable[Row], into: str, *more_columns: str
) -> None:
    _sql.debug("COPY %s", into)
    await connection.copy_records_to_table(
        into, records=records, columns=[*rows.columns, *more_columns]
    )


Firsts = dict[UUID, tuple[Item, Row]]


def _first_of_each_id(rows: Rows, items: Sequence[Item], written: Written) -> Firsts:
    """Keep the first item of each id; a second one is a duplicate, or a conflict."""
    first: Firsts = {}
    for item in items:
        row = rows.row(item.event)
        kept = first.get(item.event.id)
        if kept is None:
            first[item.event.id] = item, row
        elif rows.same(kept[1], row):
            written.duplicates += 1
        else:
            written.conflicts.append(Conflict(item))
    return first


async def _staging(connection: Any, rows: Rows) -> str:
    """Make the table that a batch goes through; it is gone at the end of the transaction."""
    name = f"spoolway_staging_{rows.table}"
    # LIKE does not take over compression unless told: lz4 values would be packed anew as pglz.
    await connection.execute(
        f"CREATE TEMP TABLE {name} "
        f"(LIKE {rows.table} INCLUDING DEFAULTS INCLUDING COMPRESSION) ON COMMIT DROP"
    )
    return name


async def _merge(
    connection: Any, rows: Rows, items: Firsts, written: Written, *more_columns: str
) -> list[Item]:
    """Insert what is new from staging, in the ids' order so that two workers never deadlock.

    Return the items that were.
    """
    columns = ", ".join(f'"{name}"' for name in [*rows.columns, *more_columns])
    staging = f"spoolway_staging_{rows.table}"
    inserted = await connection.fetch(
        f"INSERT INTO {rows.table} ({columns}) SELECT {columns} FROM {staging} ORDER BY id "  # noqa: S608 - names of our own tables and columns
        "ON CONFLICT (id) DO NOTHING RETURNING id"
    )
    there_before = items.keys() - {row[0] for row in inserted}
    if there_before:
        differing = await connection.fetch(_differing(rows), list(there_before))
        written.conflicts += [Conflict(items[row[0]][0]) for row in differing]
        written.duplicates += len(there_before) - len(differing)
    written.inserted += len(inserted)
    return [items[row[0]][0] for row in inserted]


def _differing(rows: Rows) -> str:
    """Return the SQL that finds, of the ids $1, those whose staged row is not the one there.

    The ids are asked of both tables: a planner that knows nothing of the staging table would read
    every partition for the join.
    """
    theirs = ", ".join(f't."{name}"' for name in rows.columns)
    ours = ", ".join(_unless_changed_here(rows, name) for name in rows.columns)
    return (
        f"SELECT s.id FROM spoolway_staging_{rows.table} s JOIN {rows.table} t ON t.id = s.id "  # noqa: S608 - names of our own tables and columns
        "WHERE s.id = ANY($1::uuid[]) AND t.id = ANY($1::uuid[]) "
        f"AND ROW({ours}) IS DISTINCT FROM ROW({theirs})"
    )


def _unless_changed_here(rows: Rows, name: str) -> str:
    """Return the SQL of a staged column, or of the one there, when it is not the event's own.

    Retention may have taken it, or a worker have filled it in.
    """
    if rows is REQUESTS and name in GONE_WITH_IT:
        return f"""CASE WHEN t.truncated ? '{MARK}' THEN t."{name}" ELSE s."{name}" END"""
    if rows is REQUESTS and name in FILLED_IN:
        is_filled_in = f"s.{ENRICHED} IS NOT NULL OR t.{ENRICHED} IS NOT NULL"
        return f"""CASE WHEN {is_filled_in} THEN t."{name}" ELSE s."{name}" END"""
    return f's."{name}"'


def _affected(status: str) -> int:
    """Return the number of rows in a command's status ("UPDATE 12")."""
    return int(status.rpartition(" ")[2])
