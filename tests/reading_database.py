"""A test's database, opened as who only looks at it opens it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from spoolway.worker.config import Settings
from spoolway.worker.reading import ReadDatabase
from tests.stores import Database


@asynccontextmanager
async def reading(logs: Database, **settings: Any) -> AsyncIterator[ReadDatabase]:
    """Open it for the length of a block."""
    url = logs.url.set(drivername=logs.url.get_backend_name())
    database = ReadDatabase.open(
        Settings(database_url=url.render_as_string(hide_password=False), **settings)
    )
    try:
        yield database
    finally:
        await database.close()


def note_into(asked: list[Any], fetch: Any) -> Any:
    """Return a `fetch` that also notes what is asked."""

    async def noted(statement: Any, **options: Any) -> Any:
        asked.append(statement)
        return await fetch(statement, **options)

    return noted
