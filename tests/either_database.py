"""A migrated database with rows in it, SQLite or the newest PostgreSQL, for commands that read it."""

import asyncio
from collections.abc import Sequence

import pytest

from spoolway.worker.stores import Item
from tests.stores import Database

pytest_plugins = ["tests.store_fixtures"]

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202etxt\r\nsecond\tline\x00\x9b31m\ufeff"
"""A title, a cleared screen, text from right to left, a line of its own, and C1's own escape."""


@pytest.fixture(params=["sqlite_logs", "newest_logs"])
def either(request: pytest.FixtureRequest) -> Database:
    """SQLite, then the newest PostgreSQL."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Database)
    return found


def url_of(logs: Database) -> str:
    """What DATABASE_URL is for it."""
    plain = logs.url.set(drivername=logs.url.get_backend_name())
    return plain.render_as_string(hide_password=False)


async def insert(logs: Database, *items: Item) -> None:
    """Commit items as a worker does, in one transaction."""
    async with logs.opened() as store:
        written = await store.write(list(items))
    assert written.inserted == len(items)


def put(logs: Database, items: Sequence[Item]) -> None:
    """The same, where no event loop runs."""
    asyncio.run(insert(logs, *items))


def is_inert(text: str) -> bool:
    """Tell whether a terminal only shows it: lines of printable characters."""
    return all(line.isprintable() for line in text.split("\n"))
