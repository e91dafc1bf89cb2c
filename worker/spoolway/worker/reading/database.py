"""Questions to the database that logs are in: read only, each with a time limit, on either backend.

Nothing here can write, create or migrate. No statement has a name and no session has a setting of
its own, so it works behind pgbouncer as the stores do, and on a replica.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Literal, Protocol

from sqlalchemy import Row, Select
from sqlalchemy.sql.selectable import CompoundSelect

from spoolway.migrations.postgresql import UnusableOption
from spoolway.worker.config import Settings, UsageError
from spoolway.worker.reading.failures import BadQuery, TooSlow, Unavailable
from spoolway.worker.reading.postgres import PostgresBackend
from spoolway.worker.reading.sqlite import SqliteBackend

__all__ = ["BadQuery", "ReadDatabase", "TooSlow", "Unavailable"]

Statement = Select[Any] | CompoundSelect[Any]


class Backend(Protocol):
    """One kind of database. Every method raises Unavailable, TooSlow or BadQuery alone."""

    async def read(self, statements: Sequence[Statement], seconds: float) -> list[list[Row[Any]]]:
        """Return each statement's rows, all of one moment."""
        ...

    def stream(
        self, statement: Statement, at_once: int, seconds: float
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """Yield the rows in parts; each part has the time limit."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


class ReadDatabase:
    """The database as who looks at logs and usage has it. Safe to use from many tasks at once.

    A task that is cancelled takes its question back: the server, or SQLite, stops working on it.
    """

    def __init__(
        self,
        backend: Backend,
        dialect: Literal["postgresql", "sqlite"],
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dialect = dialect
        self.seconds = seconds
        """What one question may take, unless it says otherwise."""
        self.clock = clock
        self._backend = backend

    @classmethod
    def open(cls, settings: Settings) -> "ReadDatabase":
        """Return the database of SPOOLWAY_READ_DATABASE_URL, or DATABASE_URL; connects when asked.

        Raises:
            UsageError: a URL, or an option of it, that no connection can be made with.
        """
        url, seconds = settings.read_database, settings.query_timeout
        if url.get_backend_name() == "sqlite":
            return cls(SqliteBackend(url), "sqlite", seconds=seconds)
        options = {
            "pool_size": settings.database_pool_size,
            "max_overflow": settings.database_max_overflow,
            "pool_recycle": settings.database_conn_max_lifetime or -1,
            **settings.read_engine,
        }
        try:
            return cls(PostgresBackend(url, options), "postgresql", seconds=seconds)
        except UnusableOption as error:
            raise UsageError(str(error)) from error

    async def fetch(self, statement: Statement, *, seconds: float | None = None) -> list[Row[Any]]:
        """Return all rows of a statement over `spoolway.schema.tables` or `.usage`.

        Raises:
            Unavailable: the database is away, or has not these tables.
            TooSlow: it takes longer than `seconds`.
            BadQuery: a value that the database cannot compare with.
        """
        [rows] = await self.fetch_together(statement, seconds=seconds)
        return rows

    async def fetch_together(
        self, *statements: Statement, seconds: float | None = None
    ) -> list[list[Row[Any]]]:
        """Return each statement's rows as they were at one and the same moment; raises as `fetch`."""
        return await self._backend.read(statements, seconds or self.seconds)

    async def first(self, statement: Statement, *, seconds: float | None = None) -> Row[Any] | None:
        """Return the first row, None without one; raises as `fetch`. Give it a LIMIT."""
        rows = await self.fetch(statement, seconds=seconds)
        return rows[0] if rows else None

    def stream(
        self, statement: Statement, *, at_once: int = 500, seconds: float | None = None
    ) -> AsyncIterator[Sequence[Row[Any]]]:
        """Yield a statement's rows, `at_once` at a time, all of one moment; raises as `fetch`.

        A transaction is open for so long, which keeps the database from cleaning up behind it: a
        consumer that stands still for a minute loses it. To end early, `aclose` it.
        """
        return self._backend.stream(statement, at_once, seconds or self.seconds)

    async def close(self) -> None:
        """Let go of every connection; what is being asked ends."""
        await self._backend.close()
