"""Where rows go: the store that writes them, and the same database read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from spoolway import migrations
from spoolway.migrations.connection import connected
from spoolway.worker.config import Settings
from spoolway.worker.copying.reader import PostgresReader, Reader, SqliteReader
from spoolway.worker.opening import bring_up_to_date
from spoolway.worker.stores import Store, open_store


@dataclass(slots=True)
class Target:
    """An opened target."""

    store: Store
    reader: Reader


@asynccontextmanager
async def opened_target(settings: Settings, *, migrate: bool = True) -> AsyncIterator[Target]:
    """Bring the settings' database up to date, as a worker does, and open it.

    Raises UsageError, MigrationError, and what the drivers raise.
    """
    url = settings.database
    if migrate:
        await bring_up_to_date(settings)
    else:
        await migrations.require_newest(url)
    store = open_store(settings)
    try:
        async with _reading(url) as reader:
            yield Target(store, reader)
    finally:
        await store.close()


@asynccontextmanager
async def _reading(url: URL) -> AsyncIterator[Reader]:
    if url.get_backend_name() == "sqlite":
        reader = SqliteReader(Path(url.database or ""), writable=True)
        try:
            yield reader
        finally:
            await reader.close()
    else:
        async with connected(url) as connection:
            yield PostgresReader(connection)
