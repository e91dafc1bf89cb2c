"""Reading from PostgreSQL: each question in a read-only transaction with limits of its own."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.engine import URL
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from spoolway.worker.connecting import explain
from spoolway.worker.reading.failures import (
    AWAY,
    BUSY,
    NO_TABLES,
    NOT_OURS,
    BadQuery,
    TooSlow,
    Unavailable,
)
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.ending import ended
from spoolway.worker.stores.engine import make_engine
from spoolway.worker.stores.errors import Refused, Retryable, Unreachable

_CONNECTING: Final = 5.0
"""Seconds in which there must be a connection, from the pool or a new one."""
_GRACE: Final = 1.0
"""Seconds after its time limit in which a server says that it has stopped."""
_IDLE: Final = 60.0
"""Seconds for which a transaction may wait for its client."""
_CONFLICT: Final = "40001"
"""On a replica: the primary has removed rows that were being read."""
_CANCELLED: Final = "57014"
_LOCKED: Final = "55P03"
_STOOD_STILL: Final = "25P03"

# One moment for all statements of a question. Of this transaction alone: behind a pooler the session
# is somebody else's next. Compiling a plan of many partitions takes longer than running it. The
# server's, the database's or the role's own limit counts where it is shorter.
_BEGIN: Final = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT set_config('jit', 'off', true);
SELECT set_config(name, ms::text, true) FROM (VALUES <limits>) AS limits (name, ms)
WHERE current_setting(name)::interval
      NOT BETWEEN interval '1 microsecond' AND ms * interval '1 millisecond'
"""


class PostgresBackend:
    """See `Backend`."""

    def __init__(self, url: URL, options: Mapping[str, Any]) -> None:
        """Connect at the first use. Raises UnusableOption."""
        given = dict(options.get("connect_args") or {})
        settings = {"application_name": "spoolway read", **given.pop("server_settings", {})}
        self._url = url
        self._engine, limits = make_engine(
            url,
            write_timeout=_CONNECTING,
            options={
                "pool_timeout": _CONNECTING,
                "pool_use_lifo": True,
                **options,
                "connect_args": {**given, "server_settings": settings},
                # BEGIN is sent by us, with what belongs to it.
                "isolation_level": "AUTOCOMMIT",
                "json_deserializer": orjson.loads,
            },
        )
        self._limits = limits
        self._ending: set[asyncio.Task[None]] = set()

    async def read(self, statements: Sequence[Any], seconds: float) -> list[list[Row[Any]]]:
        """Return each statement's rows, all of one moment."""
        try:
            return await self._read(statements, seconds)
        except _ConflictError:
            pass
        try:
            return await self._read(statements, seconds)
        except _ConflictError as error:
            raise Unavailable(BUSY, _REPLICA) from error

    async def _read(self, statements: Sequence[Any], seconds: float) -> list[list[Row[Any]]]:
        async with self._transaction(seconds) as connection:
            async with asyncio.timeout(seconds + _GRACE):
                return [list((await connection.execute(one)).all()) for one in statements]

    async def stream(
        self, statement: Any, at_once: int, seconds: float
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """Yield the rows in parts, through a cursor of the server's."""
        async with self._transaction(seconds) as connection:
            options = {"max_row_buffer": at_once, "yield_per": at_once}
            async with asyncio.timeout(seconds + _GRACE):
                result = await connection.stream(statement, execution_options=options)
            parts = result.partitions(at_once)
            while True:
                async with asyncio.timeout(seconds + _GRACE):
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, seconds: float) -> AsyncIterator[AsyncConnection]:
        """Begin a transaction on a connection of the pool; raises what `Backend` says."""
        try:
            async with asyncio.timeout(_CONNECTING + _GRACE):
                pooled, driver = await self._connected(seconds)
        except Exception as error:
            raise self._failure(error, seconds) from error
        try:
            yield pooled
            async with asyncio.timeout(_GRACE):
                await driver.execute("ROLLBACK")
        except TimeoutError as error:
            self._end(pooled, driver)
            raise TooSlow(seconds) from error
        except Exception as error:
            failure = self._failure(error, seconds)
            if isinstance(failure, Unavailable) or not await _rolled_back(driver):
                self._end(pooled, driver)
            else:
                await pooled.close()
            raise failure from error
        except BaseException:  # cancelled, or a stream that nobody goes on with
            self._end(pooled, driver)
            raise
        await pooled.close()

    async def _connected(self, seconds: float) -> tuple[AsyncConnection, Any]:
        """Return a connection in which a transaction has begun, and the driver's own."""
        # One that died while it lay in the pool is found by BEGIN, and replaced: once, because
        # behind it there may be as many dead ones as the pool has places.
        for _ in range(self._places() + 1):
            pooled = await self._engine.connect()
            driver: Any = None
            try:
                driver = (await pooled.get_raw_connection()).driver_connection
                await driver.execute(self._begin(seconds))
            except BaseException as error:
                if driver is None:
                    await pooled.close()
                    raise
                self._end(pooled, driver)
                if isinstance(error, Exception) and driver.is_closed():
                    continue
                raise
            return pooled, driver
        raise ConnectionError("every connection was closed by the server")

    def _places(self) -> int:
        pool: Any = self._engine.pool
        return int(pool.size()) if hasattr(pool, "size") else 0

    def _begin(self, seconds: float) -> str:
        limits = {
            "statement_timeout": min(seconds, self._limits.get("statement_timeout", seconds)),
            "lock_timeout": min(seconds / 2, self._limits.get("lock_timeout", seconds)),
            "idle_in_transaction_session_timeout": _IDLE,
        }
        values = ", ".join(
            f"('{name}', {max(1, round(limit * 1000))})" for name, limit in limits.items()
        )
        return _BEGIN.replace("<limits>", values)

    def _failure(self, error: Exception, seconds: float) -> Exception:
        """Return what to raise; what is a mistake of ours stays as it is."""
        if isinstance(error, (Unavailable, TooSlow, BadQuery)):
            return error
        reason = explain(error, self._url) or f"{type(error).__name__}: {error}"
        if isinstance(error, PoolTimeout):
            return Unavailable(BUSY, reason)
        known = classify(error)
        state = known.sqlstate or ""
        if state == _CANCELLED:
            return TooSlow(seconds)
        if state == _CONFLICT:
            return _ConflictError(reason)
        if state == _LOCKED:
            return Unavailable(BUSY, reason)
        if state == _STOOD_STILL:
            return Unavailable("nobody went on reading for a minute: ask again", reason)
        if isinstance(known, Refused):
            return BadQuery("a value in the question is none that the database can compare with")
        if state.startswith("42"):  # no such table or column, or no right to it
            told = explain(error, self._url) or f"PostgreSQL: {known}; {NO_TABLES}"
            return Unavailable(NOT_OURS, told)
        if isinstance(known, (Unreachable, Retryable)):
            return Unavailable(AWAY, reason)
        return error

    def _end(self, pooled: AsyncConnection, driver: Any) -> None:
        """End a connection in the middle of a question; the server is told to stop working on it."""
        ending = asyncio.create_task(ended(pooled, driver), name="spoolway-read-end")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _ConflictError(Exception):
    """A replica could not keep what was being read. To be asked again."""


_REPLICA: Final = (
    "the replica had to remove rows that were being read: raise max_standby_streaming_delay there, "
    "or set hot_standby_feedback = on"
)


async def _rolled_back(driver: Any) -> bool:
    try:
        async with asyncio.timeout(_GRACE):
            await driver.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - whatever it is, the connection is of no more use
        return False
    return True
