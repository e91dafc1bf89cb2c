"""The SQLite store: one writer, one transaction per batch, WAL, an fsync per commit."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Final, TypeVar

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from spoolway.worker.stores.base import Item, Written
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import Refused, StoreError
from spoolway.worker.stores.measured import Measured, PoolUse, measure_sqlite
from spoolway.worker.stores.retention_sqlite import SqliteRetention
from spoolway.worker.stores.rollup_sqlite import SqliteRollup
from spoolway.worker.stores.rows import split
from spoolway.worker.stores.sqlite_batch import (
    STATEMENTS,
    SqliteBatch,
    in_transaction,
    link_leftovers,
)
from spoolway.worker.stores.sqlite_thread import SqliteThread
from spoolway.worker.stores.storable import storable_line

T = TypeVar("T")

_CLOSING: Final = 0.5
"""Seconds that closing a connection may hold up a write: a thread on a hung disk never ends."""
_LONG_SECONDS: Final = 600.0
"""What making a day's roll-ups anew may take: a day of ten million rows a month has taken three."""
_PRAGMAS: Final = (
    "journal_mode=WAL",
    # FULL, not NORMAL: in WAL mode NORMAL loses the last commits on a power cut, and they were
    # acknowledged by then.
    "synchronous=FULL",
    "foreign_keys=ON",
    # 16 MiB of memory instead of 2: more than a batch has, whose pages would otherwise be written
    # out in the middle of its transaction, and those of the indexes read again.
    "cache_size=-16384",
    # What a statement of many rows needs to undo itself is in memory, and in no file.
    "temp_store=MEMORY",
    # The WAL is written back, and both files synced, every 16 MiB instead of at each batch; pages
    # of the indexes once for many batches. It takes that much more of the disk, and after a crash
    # the first to open the file reads all of it: a millisecond per MB.
    "wal_autocheckpoint=4000",
)


class SqliteStore:
    """See `Store`. SQLAlchemy opens the connection; the hot path uses the one of `sqlite3` in it."""

    def __init__(self, url: URL, *, write_timeout: float) -> None:
        self._engine = create_engine(
            url.set(drivername="sqlite"),
            poolclass=NullPool,  # one connection, which is kept by its thread
            # Transactions are begun and ended here: the module's own handling would commit for us.
            connect_args={
                "isolation_level": None,
                "timeout": write_timeout / 2,
                "cached_statements": STATEMENTS,
            },
        )
        event.listen(self._engine, "connect", _set_pragmas)
        self._path = Path(url.database or "")
        self._write_timeout = write_timeout
        self._one_writer = asyncio.Lock()
        self._thread: SqliteThread | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; see `Store`."""
        try:
            # Before its turn: the batch before this one is being written meanwhile.
            requests, errors = split(storable_line(item) for item in items)
            batch = SqliteBatch(requests, errors)
        except Exception as error:
            raise classify(error) from error
        try:
            return await self._run(batch.write)
        except Refused as refusal:
            if requests and errors:
                refusal.row = None  # it counts in one table's rows, not in the batch
            raise

    async def prepare_days(self, first: date, days: int) -> int:  # noqa: ARG002 - see `Store`
        """Do nothing: SQLite has no partitions."""
        return 0

    async def link_errors(self) -> int:
        """Link the errors whose request was committed by another worker at the same time."""
        return await self._run(link_leftovers)

    async def measure(self) -> Measured:
        """Return how large the file is."""
        try:
            return await asyncio.to_thread(measure_sqlite, self._path)
        except Exception as error:
            raise classify(error) from error

    def pool_use(self) -> PoolUse | None:
        """Return None: there is one connection, and no pool."""
        return None

    async def retention(self) -> SqliteRetention:
        """Return what removes old rows and bodies, in this connection's own transactions."""
        return SqliteRetention(self._run, self._path)

    async def rollup(self) -> SqliteRollup:
        """Return what adds up usage, in this connection's own transactions."""
        return SqliteRollup(partial(self._run, seconds=_LONG_SECONDS))

    async def close(self) -> None:
        """Close the connection."""
        async with self._one_writer:
            await self._disconnect()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSING)
        self._engine.dispose()

    async def _run(self, step: Callable[[Connection], T], *, seconds: float | None = None) -> T:
        """Run one step in a transaction within the deadline; raises StoreError alone."""
        try:
            async with asyncio.timeout(seconds or self._write_timeout), self._one_writer:
                return await self._in_transaction(step)
        except StoreError:
            raise
        except Exception as error:
            raise classify(error) from error

    async def _in_transaction(self, step: Callable[[Connection], T]) -> T:
        is_abandoned = False
        try:
            return await self._connected().run(
                lambda connection: in_transaction(connection, step, lambda: is_abandoned)
            )
        except BaseException as error:
            is_abandoned = True  # before the interrupt, which only stops a statement
            # Opening anew costs some milliseconds: not for every row refused.
            if not isinstance(error, Refused):
                await self._disconnect(interrupted=True)
            raise

    def _connected(self) -> SqliteThread:
        if self._thread is None:
            self._thread = SqliteThread(self._engine, self._path)
        return self._thread

    async def _disconnect(self, *, interrupted: bool = False) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            if interrupted:
                thread.interrupt()
            closing = asyncio.create_task(thread.close(), name="spoolway-close")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            await asyncio.wait({closing}, timeout=_CLOSING)


def _set_pragmas(dbapi_connection: Any, _record: Any) -> None:
    cursor = dbapi_connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
