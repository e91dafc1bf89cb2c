"""What can be done with a database's tables: upgrade, downgrade, look, compare, and revise."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from spoolway.migrations.connection import connected, make_file, require_file
from spoolway.migrations.differences import differences
from spoolway.migrations.errors import (
    DatabaseIsNewer,
    DatabaseIsOlder,
    MigrationError,
    TablesInTheWay,
)
from spoolway.migrations.lock import exclusive
from spoolway.migrations.revisions import (
    BASE,
    HEAD,
    VERSION_TABLE,
    config,
    history,
    newest,
    position,
    resolve,
)
from spoolway.schema.tables import TABLES

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migrated:
    """Where a database was and is; None is a database without tables."""

    before: str | None
    after: str | None

    @property
    def changed(self) -> bool:
        """Whether it was this call that moved it."""
        return self.before != self.after


@dataclass(frozen=True, slots=True)
class Current:
    """Where a database is, and where this version of Spoolway would bring it."""

    revision: str | None
    newest: str

    @property
    def is_newest(self) -> bool:
        """Whether `upgrade` has nothing to do."""
        return self.revision == self.newest

    @property
    def is_known(self) -> bool:
        """Whether this version knows the revision; if not, a newer one has migrated."""
        return _is_known(self.revision)


async def upgrade(url: URL, revision: str = HEAD) -> Migrated:
    """Bring the tables to a revision, in one transaction; nothing happens when they are there.

    Any number of processes may call it at once: one migrates, the others wait until it has, and
    return with nothing changed. SQLite's file is made if it does not exist.

    Raises:
        MigrationError: the database stays as it was; the message says what to do.
        OSError, sqlalchemy.exc.DBAPIError, asyncpg.PostgresError: it could not be used.
    """
    target = resolve(revision)
    await asyncio.to_thread(make_file, url)
    async with connected(url) as connection:
        before = await connection.run_sync(_known_revision)
        if position(before) >= position(target):  # the common start: no lock, no write
            return Migrated(before, before)
        return await _migrate(connection, _upgrade, target)


async def downgrade(url: URL, revision: str) -> Migrated:
    """Take the tables back to a revision; "base" drops them with all their rows.

    Raises as `upgrade` does.
    """
    target = resolve(revision)
    await asyncio.to_thread(require_file, url)
    async with connected(url) as connection:
        return await _migrate(connection, _downgrade, target)


async def current(url: URL) -> Current:
    """Return where the database is, even if that is a revision this version does not know."""
    await asyncio.to_thread(require_file, url)
    async with connected(url) as connection:
        return Current(await connection.run_sync(_revision), newest())


async def require_newest(url: URL) -> None:
    """Return if the database is at this version's tables, for who must not migrate it.

    Raises as `upgrade` does, and DatabaseIsOlder.
    """
    await asyncio.to_thread(require_file, url)
    async with connected(url) as connection:
        at = await connection.run_sync(_known_revision)
        if at != newest():
            raise DatabaseIsOlder(at or BASE, newest())


async def check(url: URL) -> list[str]:
    """Return how the database differs from the tables as declared, one line each.

    Partitions and everybody else's tables are not looked at. Raises as `upgrade` does.
    """
    await asyncio.to_thread(require_file, url)
    async with connected(url) as connection:
        return await connection.run_sync(_check)


async def revision(url: URL, message: str) -> Path:
    """Write a new revision that turns this database's tables into those declared: a first draft.

    For development: the file goes to where this package is. Raises as `upgrade` does.
    """
    await asyncio.to_thread(require_file, url)
    async with connected(url) as connection:
        at = await connection.run_sync(_known_revision)
        if at != newest():
            raise DatabaseIsOlder(at or BASE, newest())
        async with _alembic():
            return await connection.run_sync(_write_revision, message)


async def _migrate(
    connection: AsyncConnection,
    step: Callable[[Connection, str | None], Migrated],
    target: str | None,
) -> Migrated:
    async with exclusive(connection), _alembic():
        done = await connection.run_sync(step, target)
    if done.changed:
        logger.info("migrated the database from %s to %s", done.before or BASE, done.after or BASE)
    return done


def _upgrade(connection: Connection, target: str | None) -> Migrated:
    # Read again: whoever had the lock before has changed it.
    before = _known_revision(connection)
    if position(before) >= position(target):
        return Migrated(before, before)
    if before is None and (taken := _names_taken(connection)):
        raise TablesInTheWay(taken)
    command.upgrade(_config(connection), target or BASE)
    return Migrated(before, _revision(connection))


def _downgrade(connection: Connection, target: str | None) -> Migrated:
    before = _known_revision(connection)
    if position(before) < position(target):
        raise MigrationError(
            f"the database is at {before or BASE}, which is before {target}: nothing to downgrade"
        )
    command.downgrade(_config(connection), target or BASE)
    return Migrated(before, _revision(connection))


def _check(connection: Connection) -> list[str]:
    at = _known_revision(connection)
    if at == newest():
        return differences(connection)
    return [str(DatabaseIsOlder(at or BASE, newest())), *differences(connection)]


def _write_revision(connection: Connection, message: str) -> Path:
    number = f"{len(history()) + 1:04d}"
    try:
        script = command.revision(
            _config(connection), message=message, autogenerate=True, rev_id=number
        )
    except CommandError as error:
        raise MigrationError(" ".join(str(error).split())) from error
    if not isinstance(script, Script):
        raise MigrationError("no revision was written")
    return Path(script.path)


def _revision(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _known_revision(connection: Connection) -> str | None:
    at = _revision(connection)
    if at is not None and not _is_known(at):
        raise DatabaseIsNewer(at, newest())
    return at


def _is_known(revision: str | None) -> bool:
    return revision in {None, *(step.revision for step in history())}


def _names_taken(connection: Connection) -> list[str]:
    inspector = inspect(connection)
    return [table.name for table in TABLES.values() if inspector.has_table(table.name)]


def _config(connection: Connection) -> Config:
    settings = config()
    settings.attributes["connection"] = connection  # env.py's
    return settings


_one_alembic: Final = threading.Lock()


@asynccontextmanager
async def _alembic() -> AsyncIterator[None]:
    """Alembic keeps the running migration in module globals: one at a time in this process.

    Not an asyncio.Lock: that one belongs to a loop, and these globals belong to all of them.
    """
    while not _one_alembic.acquire(blocking=False):  # noqa: ASYNC110 - a thread's lock: no event
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _one_alembic.release()
