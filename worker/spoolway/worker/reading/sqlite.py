"""Reading from a SQLite file: opened read only, in threads of its own, beside the one writer."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeVar
from urllib.parse import quote

import orjson
from sqlalchemy import Connection, Row, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import QueuePool

from spoolway.worker.connecting import explain
from spoolway.worker.reading.failures import (
    AWAY,
    BUSY,
    NO_TABLES,
    NOT_OURS,
    NOT_THERE,
    BadQuery,
    TooSlow,
    Unavailable,
)
from spoolway.worker.reading.words import SQLITE_FUNCTION, has_words
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import Refused, Retryable, Unreachable

T = TypeVar("T")

_THREADS: Final = 4
"""Questions at once. SQLite reads beside its writer, and Python runs one thread at a time."""
_STEPS: Final = 2_000
"""Instructions of SQLite's machine between two looks at the clock: well below a millisecond."""
_PRAGMAS: Final = (
    "query_only=ON",  # beside mode=ro, which lets a temporary table be made
    "cache_size=-16384",
)


class SqliteBackend:
    """See `Backend`."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._path = Path(url.database or "")
        self._engine = create_engine(
            "sqlite://",
            creator=self._open,
            poolclass=QueuePool,
            pool_size=_THREADS,
            max_overflow=-1,  # a stream keeps one for as long as its consumer takes
            hide_parameters=True,
            json_deserializer=orjson.loads,
        )
        event.listen(self._engine, "checkout", self._require_same_file)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="spoolway-read")
        self._running: set[_Limit] = set()

    async def read(self, statements: Sequence[Any], seconds: float) -> list[list[Row[Any]]]:
        """Return each statement's rows, all of one moment."""

        def step(limit: _Limit) -> list[list[Row[Any]]]:
            with self._engine.connect() as connection, limit.of(connection):
                connection.exec_driver_sql("BEGIN")
                # Rolled back by the pool, which every connection goes back to.
                return [list(connection.execute(one).all()) for one in statements]

        return await self._run(step, seconds)

    async def stream(
        self, statement: Any, at_once: int, seconds: float
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """Yield the rows in parts."""
        connection = await self._run(lambda _: self._engine.connect(), seconds)
        one_at_a_time = Lock()

        def begin(limit: _Limit) -> Any:
            with one_at_a_time, limit.of(connection):
                connection.exec_driver_sql("BEGIN")
                found = connection.execute(statement, execution_options={"yield_per": at_once})
                return found.partitions(at_once)

        def following(limit: _Limit) -> Sequence[Row[Any]] | None:
            with one_at_a_time, limit.of(connection):
                return next(parts, None)

        def end() -> None:
            with one_at_a_time:  # a part may still be read that nobody waits for any more
                connection.close()

        try:
            parts = await self._run(begin, seconds)
            while (part := await self._run(following, seconds)) is not None:
                yield part
        finally:
            with suppress(RuntimeError):  # closed meanwhile, with every thread
                self._threads.submit(end)

    async def close(self) -> None:
        """Interrupt what is being read, and close the file."""
        for limit in self._running:
            limit.is_cancelled = True
        await asyncio.to_thread(self._threads.shutdown, wait=True, cancel_futures=True)
        self._engine.dispose()

    async def _run(self, step: "Callable[[_Limit], T]", seconds: float) -> T:
        """Run a step in a thread; when this is cancelled, SQLite is interrupted."""
        limit = _Limit(seconds)
        self._running.add(limit)
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, step, limit)
        except Exception as error:
            raise self._failure(error, limit) from error
        finally:
            self._running.discard(limit)
            limit.is_cancelled = True

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path.absolute()))}?mode=ro",
            uri=True,
            timeout=1.0,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function(SQLITE_FUNCTION, -1, has_words, deterministic=True)
        # Bytes that are no UTF-8, from another program: shown, instead of an end to all reading.
        connection.text_factory = _text
        return connection

    def _require_same_file(self, driver: Any, record: Any, _proxy: Any) -> None:
        """Open anew when the file was removed or replaced: what is read there would be the past."""
        there = _identity(self._path)
        if record.info.setdefault("file", there) != there:
            record.info.clear()
            raise DisconnectionError
        driver.rollback()

    def _failure(self, error: Exception, limit: "_Limit") -> Exception:
        if isinstance(error, (Unavailable, TooSlow, BadQuery)):
            return error
        if limit.is_over():
            return TooSlow(limit.seconds)
        reason = explain(error, self._url) or f"{type(error).__name__}: {error}"
        if not self._path.is_file():
            return Unavailable(NOT_THERE, reason)
        known = classify(error)
        if isinstance(known, Refused):
            return BadQuery("a value in the question is none that the database can compare with")
        code = getattr(known.__cause__ or getattr(error, "orig", error), "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_ERROR:  # no such table or column
            missing = str(getattr(error, "orig", error))
            return Unavailable(NOT_OURS, f"SQLite database {self._path}: {missing}; {NO_TABLES}")
        if isinstance(known, Retryable):
            return Unavailable(BUSY, reason)
        if isinstance(known, Unreachable):
            return Unavailable(AWAY, reason)
        return error


class _Limit:
    """Ends a statement of SQLite's when its time is over, or nobody waits for it any more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_cancelled = False
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Tell whether to stop; true ends the statement."""
        return self.is_cancelled or time.monotonic() > self._end

    def of(self, connection: Connection) -> "_Guarded":
        """Return what holds for the length of a block."""
        return _Guarded(connection, self)


class _Guarded:
    def __init__(self, connection: Connection, limit: _Limit) -> None:
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._limit = limit

    def __enter__(self) -> None:
        self._driver.set_progress_handler(self._limit.is_over, _STEPS)

    def __exit__(self, *_: object) -> None:
        self._driver.set_progress_handler(None, 0)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
