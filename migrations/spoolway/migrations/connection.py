"""One connection per command, made for it and closed after it; and SQLite's file."""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from spoolway.migrations.errors import NoDatabaseFile

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until a PostgreSQL server that does not answer is given up."""
BUSY_TIMEOUT: Final = 10.0
"""Seconds a statement waits for a lock on SQLite's file."""


@asynccontextmanager
async def connected(url: URL) -> AsyncIterator[AsyncConnection]:
    """Connect, and close whatever happens. Raises what the driver raises."""
    sqlite = url.get_backend_name() == "sqlite"
    engine = (
        create_async_engine(url, poolclass=NullPool, connect_args=SQLITE)
        if sqlite
        else create_async_engine(
            url,
            poolclass=NullPool,
            connect_args=POSTGRESQL,
            # A transaction that has waited for a lock must see what the one before it did.
            isolation_level="READ COMMITTED",
        )
    )
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def make_file(url: URL) -> None:
    """Make SQLite's file and its folder, if they do not exist, for their owner only.

    What is in it is what clients have said to models. SQLite gives -wal and -shm the file's mode.
    """
    if (path := _file(url)) is not None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def require_file(url: URL) -> None:
    """Raise NoDatabaseFile where SQLite would make an empty file by being asked."""
    if (path := _file(url)) is not None and not path.exists():
        raise NoDatabaseFile(str(path))


def _file(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or not url.database or url.query.get("uri"):
        return None
    return Path(url.database)


def _unique_name() -> str:
    return f"__spoolway_{uuid.uuid4()}__"


# Behind pgbouncer in transaction mode a prepared statement's name may be taken by another client's.
POSTGRESQL: Final[dict[str, Any]] = {
    "timeout": CONNECT_TIMEOUT,
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": _unique_name,
    "server_settings": {"application_name": "spoolway db"},
}
# Python's sqlite3 commits before some statements, and begins before others only: DDL would not be
# part of a transaction. Here BEGIN is said where it is meant (see `lock`).
SQLITE: Final[dict[str, Any]] = {"isolation_level": None, "timeout": BUSY_TIMEOUT}
