"""One migration at a time per database, and everybody else waits for it.

On PostgreSQL the lock is an advisory one of the migration's own transaction, not of the session.
The transaction ends with the lock, so whoever gets it next sees all that was done under it; it is
gone when its holder dies; and it holds behind pgbouncer in transaction mode, where a session lock
would stay with a server connection that by then serves somebody else. The price: a revision
must not leave that transaction (`autocommit_block`, CREATE INDEX CONCURRENTLY).

It is asked for again and again, in a new transaction each time, instead of waited for: waiting
inside a statement would be ended by a `lock_timeout` or `statement_timeout` of the role, and would
keep pgbouncer's connection. On SQLite the lock is the file's write lock, BEGIN IMMEDIATE, and is
asked for in the same way.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from spoolway.migrations.connection import BUSY_TIMEOUT

logger = logging.getLogger(__name__)

KEY: Final = 0x5F_53_50_4F_4F_4C_50_02
"""Advisory lock of migrations; the worker's lock for partitions ends in 01."""

_ASK_AGAIN: Final = 0.1
_TELL_AGAIN: Final = 30.0


@asynccontextmanager
async def exclusive(connection: AsyncConnection) -> AsyncIterator[None]:
    """Hold the lock in a transaction that is committed at the end, but not after an exception.

    Waits without end, and says so in the log; cancelling it is safe at any moment.
    """
    loop = asyncio.get_running_loop()
    began, told = loop.time(), None
    # Whatever a read has left open: the transaction must begin with the lock.
    await connection.rollback()
    while not await _try(connection):
        await connection.rollback()
        if told is None:
            logger.info("waiting for another process to migrate")
            told = began
        elif loop.time() - told >= _TELL_AGAIN:
            told = loop.time()
            logger.info("still waiting for another process to migrate, for %.0f s", told - began)
        await asyncio.sleep(_ASK_AGAIN)
    yield
    # After an exception there is no commit, and the connection's owner closes it: a rollback.
    await connection.commit()


async def _try(connection: AsyncConnection) -> bool:
    """Begin a transaction, and say whether it has the lock."""
    if connection.dialect.name == "sqlite":
        return await _try_sqlite(connection)
    # A role's statement_timeout is made for a proxy's queries; an index on a full table is none.
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    got = await connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": KEY})
    return bool(got)


async def _try_sqlite(connection: AsyncConnection) -> bool:
    """The driver is in autocommit mode: this is the BEGIN, and SQLAlchemy's COMMIT ends it."""
    # Not in SQLite's busy handler: it says nothing while it waits, and cannot be cancelled.
    await connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        # For a file that this makes: retention can give pages back to the disk. Later it says
        # nothing. In here, because it takes the write lock where the file is still empty.
        await connection.exec_driver_sql("PRAGMA auto_vacuum = INCREMENTAL")
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    except DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is None or code & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        # COMMIT waits for readers to finish, where the database is not in WAL mode yet.
        await connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1000:.0f}")
    return True
