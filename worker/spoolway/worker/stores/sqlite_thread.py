"""One connection to a SQLite file and the thread that it is used in, from opening to closing."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.pool import PoolProxiedConnection

T = TypeVar("T")

_SWITCH: Final = 0.0005
"""Seconds after which one Python thread lets another one go on. It is 5 ms by default, as long as
SQLite takes for 250 rows: so long the thread would wait after each statement, and SQLite with it,
while the event loop decodes."""


class SqliteThread:
    """Runs steps one after another; the first of them finds the file opened."""

    def __init__(self, engine: Engine, path: Path) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH))
        self._engine = engine
        self._path = path
        self._steps = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spoolway-sqlite")
        self._pooled: PoolProxiedConnection | None = None
        self._connection: Any = None
        self._file: object = None

    async def run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """Run a step in the thread. When this is cancelled, a step that was begun goes on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._steps, self._run, step)

    def interrupt(self) -> None:
        """End the statement that is being executed, if it is one that SQLite can end."""
        connection = self._connection  # the thread may close it at any moment
        if connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is closed already
                connection.interrupt()

    async def close(self) -> None:
        """Close the file when all steps have ended: rolled back, if one of them left a transaction."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._steps, self._closed)
        finally:
            self._steps.shutdown(wait=False)

    def _run(self, step: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._opened()
        try:
            return step(connection)
        finally:
            if connection.in_transaction:  # it could not be rolled back
                self._closed()

    def _opened(self) -> sqlite3.Connection:
        if self._pooled is not None and self._file != _identity(self._path):
            # Removed or replaced while it was open: what is written there is gone with it.
            self._closed()
        if self._pooled is None:
            self._pooled = self._engine.raw_connection()
            self._connection = self._pooled.driver_connection
            self._file = _identity(self._path)
        connection: sqlite3.Connection = self._connection
        return connection

    def _closed(self) -> None:
        pooled, self._pooled, self._connection = self._pooled, None, None
        if pooled is not None:
            with contextlib.suppress(Exception):  # nothing that is left in it can be kept
                pooled.rollback()
            with contextlib.suppress(Exception):  # as above
                pooled.invalidate()


def _identity(path: Path) -> object:
    """Return what tells one file from another one of the same name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
