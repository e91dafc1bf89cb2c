"""The SQLite store: one writer, one transaction per batch, WAL, an fsync per commit."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from spoolway.schema import ErrorEvent
from spoolway.worker.stores.base import Conflict, Item, Written
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import Refused, StoreError
from spoolway.worker.stores.rows import ERRORS, REQUESTS, Row, Rows, split
from spoolway.worker.stores.storable import storable_line

T = TypeVar("T")


def _insert(rows: Rows) -> str:
    """DO NOTHING on the id alone: OR IGNORE would also swallow a row that breaks a CHECK."""
    columns = ", ".join(f'"{name}"' for name in rows.columns)
    marks = ", ".join("?" * len(rows.columns))
    return (
        f"INSERT INTO {rows.table} ({columns}) VALUES ({marks}) "  # noqa: S608 - our own names
        "ON CONFLICT (id) DO NOTHING"
    )


def _present(rows: Rows) -> str:
    columns = ", ".join(f'"{name}"' for name in rows.columns)
    return (
        f"SELECT {columns} FROM {rows.table} "  # noqa: S608 - our own names
        "WHERE id IN (SELECT value FROM json_each(?))"
    )


_INSERT: Final = {rows.table: _insert(rows) for rows in (REQUESTS, ERRORS)}
_PRESENT: Final = {rows.table: _present(rows) for rows in (REQUESTS, ERRORS)}
# Both directions at once: errors of this batch to requests that are there, and earlier errors to
# requests of this batch. Left alone, the planner walks through every error that has no link.
_LINK_ERRORS: Final = """
UPDATE error_logs INDEXED BY ix_error_logs_unlinked SET request_log_id = request_id
WHERE request_log_id IS NULL AND request_id IN (SELECT value FROM json_each(?))
AND EXISTS (SELECT 1 FROM request_logs WHERE request_logs.id = error_logs.request_id)
"""
_LINK_LEFTOVERS: Final = """
UPDATE error_logs INDEXED BY ix_error_logs_unlinked SET request_log_id = request_id
WHERE request_log_id IS NULL AND request_id IS NOT NULL
AND EXISTS (SELECT 1 FROM request_logs WHERE request_logs.id = error_logs.request_id)
"""


_CLOSING: Final = 0.5
"""Seconds that closing a connection may hold up a write: a thread on a hung disk never ends."""


class SqliteStore:
    """See `Store`. SQLAlchemy owns the connection; the hot path uses aiosqlite under it."""

    def __init__(self, url: URL, *, write_timeout: float) -> None:
        self._engine = create_async_engine(
            url,
            # Transactions are begun and ended here: the module's own handling would commit for us.
            connect_args={"isolation_level": None, "timeout": write_timeout / 2},
        )
        event.listen(self._engine.sync_engine, "connect", _set_pragmas)
        self._path = Path(url.database or "")
        self._write_timeout = write_timeout
        self._one_writer = asyncio.Lock()
        self._pooled: AsyncConnection | None = None
        self._file: object = None
        self._closing: set[asyncio.Task[None]] = set()

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; see `Store`."""
        requests, errors = split(storable_line(item) for item in items)
        try:
            return await self._run(lambda connection: _write(connection, requests, errors))
        except Refused as refusal:
            if requests and errors:
                refusal.row = None  # it counts in one table's rows, not in the batch
            raise

    async def prepare_days(self, first: date, days: int) -> int:  # noqa: ARG002 - see `Store`
        """Do nothing: SQLite has no partitions."""
        return 0

    async def link_errors(self) -> int:
        """Link the errors whose request was committed by another worker at the same time."""

        async def link(connection: Any) -> int:
            return int((await connection.execute(_LINK_LEFTOVERS)).rowcount)

        return await self._run(link)

    async def close(self) -> None:
        """Close the connection."""
        async with self._one_writer:
            await self._disconnect()
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSING)
        await self._engine.dispose()

    async def _run(self, step: Callable[[Any], Awaitable[T]]) -> T:
        """Run one step in a transaction within the deadline; raises StoreError alone."""
        try:
            async with asyncio.timeout(self._write_timeout), self._one_writer:
                return await self._in_transaction(step)
        except StoreError:
            raise
        except Exception as error:
            raise classify(error) from error

    async def _in_transaction(self, step: Callable[[Any], Awaitable[T]]) -> T:
        connection = await self._connected()
        try:
            # IMMEDIATE: a reader that turned writer would get SQLITE_BUSY without waiting.
            await connection.execute("BEGIN IMMEDIATE")
            result = await step(connection)
            await connection.execute("COMMIT")
        except BaseException as error:
            # Closing rolls back, also when this was cancelled while the thread is in the middle
            # of a statement. Opening anew costs some milliseconds: not for every row refused.
            if not (isinstance(error, Refused) and await _rolled_back(connection)):
                await self._disconnect(interrupted=True)
            raise
        return result

    async def _connected(self) -> Any:
        if self._pooled is not None and self._file != _identity(self._path):
            # Removed or replaced while it was open: what is written there is gone with it.
            await self._disconnect()
        if self._pooled is None:
            self._pooled = await self._connect()
            self._file = _identity(self._path)
        return (await self._pooled.get_raw_connection()).driver_connection

    async def _connect(self) -> AsyncConnection:
        async def opened() -> AsyncConnection:
            return await self._engine.connect()

        opening = asyncio.create_task(opened(), name="spoolway-open")
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # aiosqlite's thread opens the file all the same: what comes of it must be closed.
            _ = self._in_background(_closed_when_opened(opening))
            raise

    async def _disconnect(self, *, interrupted: bool = False) -> None:
        pooled, self._pooled = self._pooled, None
        if pooled is not None:
            closing = self._in_background(_closed(pooled, interrupted=interrupted))
            await asyncio.wait({closing}, timeout=_CLOSING)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="spoolway-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task


async def _rolled_back(connection: Any) -> bool:
    try:
        if connection.in_transaction:
            await connection.execute("ROLLBACK")
    except sqlite3.Error:
        return False
    return True


async def _closed_when_opened(opening: asyncio.Task[AsyncConnection]) -> None:
    with contextlib.suppress(Exception):  # it could not be opened: there is nothing to close
        await (await opening).close()


async def _closed(pooled: AsyncConnection, *, interrupted: bool) -> None:
    driver: Any = (await pooled.get_raw_connection()).driver_connection
    if interrupted:
        with contextlib.suppress(ValueError):  # it is closed already
            await driver.interrupt()
    with contextlib.suppress(Exception):  # nothing that is left in it can be kept
        # A connection that is closed with a cursor left lives on, and its transaction with it:
        # aiosqlite's thread holds the cursor of the statement before until it has done another.
        await driver.rollback()
    with contextlib.suppress(Exception):  # as above
        await pooled.invalidate()
    await pooled.close()


def _identity(path: Path) -> object:
    """Return what tells one file from another one of the same name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


async def _write(connection: Any, requests: Sequence[Item], errors: Sequence[Item]) -> Written:
    written = Written()
    await _insert_all(connection, REQUESTS, requests, written)
    await _insert_all(connection, ERRORS, errors, written)
    linked = [str(item.event.id) for item in requests]
    linked += [
        str(item.event.request_id)
        for item in errors
        if isinstance(item.event, ErrorEvent) and item.event.request_id is not None
    ]
    if linked:
        await connection.execute(_LINK_ERRORS, [_json_array(linked)])
    return written


async def _insert_all(connection: Any, rows: Rows, items: Sequence[Item], written: Written) -> None:
    if not items:
        return
    records = [rows.text_row(item.event) for item in items]
    taken = _Taken(records)
    try:
        inserted = (await connection.executemany(_INSERT[rows.table], taken)).rowcount
    except sqlite3.Error as error:
        refusal = classify(error)
        if isinstance(refusal, Refused):
            refusal.row = taken.count - 1
        raise refusal from error
    written.inserted += inserted
    if inserted < len(records):
        there = await _rows_by_id(connection, rows, [record[0] for record in records])
        differing = [
            Conflict(item)
            for item, record in zip(items, records, strict=True)
            if not rows.same(there[record[0]], record)
        ]
        written.conflicts += differing
        written.duplicates += len(records) - inserted - len(differing)


class _Taken:
    """Hands out rows, and knows how many it handed out: the last one is where it failed."""

    def __init__(self, records: Iterable[Row]) -> None:
        self.count = 0
        self._records = iter(records)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        record = next(self._records)
        self.count += 1
        return record


async def _rows_by_id(connection: Any, rows: Rows, ids: list[str]) -> dict[str, Row]:
    cursor = await connection.execute(_PRESENT[rows.table], [_json_array(ids)])
    return {row[0]: tuple(row) for row in await cursor.fetchall()}


def _json_array(ids: list[str]) -> str:
    return f"[{','.join(f'{chr(34)}{one}{chr(34)}' for one in ids)}]"


def _set_pragmas(dbapi_connection: Any, _record: Any) -> None:
    cursor = dbapi_connection.cursor()
    # FULL, not NORMAL: in WAL mode NORMAL loses the last commits on a power cut, and they were
    # acknowledged by then.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
