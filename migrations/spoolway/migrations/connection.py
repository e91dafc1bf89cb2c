"""One connection per command, made for it and closed after it; and SQLite's file."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from spoolway.migrations.errors import NoDatabaseFile
from spoolway.migrations.postgresql import reach

CONNECT_TIMEOUT: Final = 10.0
"""Seconds until a PostgreSQL server that does not answer is given up."""
BUSY_TIMEOUT: Final = 10.0
"""Seconds a statement waits for a lock on SQLite's file."""


@asynccontextmanager
async def connected(url: URL) -> AsyncIterator[AsyncConnection]:
    """Connect, and close whatever happens. Raises what the driver raises."""
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)
    try:
        async with engine.connect() as connection:
            yield connection
    finally:
        await engine.dispose()


def _sqlite(url: URL) -> AsyncEngine:
    return create_async_engine(url, poolclass=NullPool, connect_args=SQLITE)


def _postgresql(url: URL) -> AsyncEngine:
    bare, connect_args = reach(
        url, timeout=CONNECT_TIMEOUT, server_settings={"application_name": "spoolway db"}
    )
    return create_async_engine(
        bare,
        poolclass=NullPool,
        connect_args=connect_args,
        # A transaction that has waited for a lock must see what the one before it did.
        isolation_level="READ COMMITTED",
    )


def make_file(url: URL) -> None:
    """Make SQLite's file and its folder, if they do not exist, for their owner only.

    What is in it is what clients have said to models. SQLite gives -wal and -shm the file's mode.
    """
    if (path := _file(url)) is not None:
        # Not with parents=True: what is made on the way would be as open as the umask is.
        for folder in reversed([path.parent, *path.parent.parents]):
            folder.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def require_file(url: URL) -> None:
    """Raise NoDatabaseFile where SQLite would make an empty file by being asked."""
    if (path := _file(url)) is not None and not path.exists():
        raise NoDatabaseFile(str(path))


def _file(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or not url.database or url.query.get("uri"):
        return None
    return Path(url.database)


# Python's sqlite3 commits before some statements, and begins before others only: DDL would not be
# part of a transaction. Here BEGIN is said where it is meant (see `lock`).
SQLITE: Final[dict[str, Any]] = {"isolation_level": None, "timeout": BUSY_TIMEOUT}
