"""Fixtures of the store tests: a plugin (`pytest_plugins`), so that several modules share them."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from spoolway.worker.stores import Store
from tests.servers import PostgresServer
from tests.stores import Database, Templates
from tests.versions import postgres_versions


@pytest.fixture(scope="session")
def templates(server_folder: Path) -> Templates:
    """Migrated databases to copy from."""
    folder = server_folder / "templates"
    folder.mkdir()
    return Templates(folder)


@pytest.fixture(params=["sqlite", *postgres_versions()])
def logs(
    request: pytest.FixtureRequest,
    templates: Templates,
    tmp_path: Path,
    postgres_servers: Callable[[str], PostgresServer],
) -> Iterator[Database]:
    """A migrated database of this test's own: SQLite, and every PostgreSQL found."""
    if request.param == "sqlite":
        with templates.sqlite(tmp_path) as fresh:
            yield fresh
    else:
        with templates.postgres(postgres_servers(request.param)) as fresh:
            yield fresh


@pytest.fixture
def sqlite_logs(templates: Templates, tmp_path: Path) -> Iterator[Database]:
    """A migrated SQLite database of this test's own."""
    with templates.sqlite(tmp_path) as fresh:
        yield fresh


@pytest.fixture
def postgres_logs(templates: Templates, postgres_server: PostgresServer) -> Iterator[Database]:
    """A migrated database of this test's own, on every PostgreSQL found."""
    with templates.postgres(postgres_server) as fresh:
        yield fresh


@pytest.fixture
def newest_logs(templates: Templates, newest_postgres: PostgresServer) -> Iterator[Database]:
    """A migrated database of this test's own, on the newest PostgreSQL."""
    with templates.postgres(newest_postgres) as fresh:
        yield fresh


@pytest.fixture
def private_logs(templates: Templates, private_postgres: PostgresServer) -> Iterator[Database]:
    """A migrated database on a server of this test's own: kill it, suspend it."""
    with templates.postgres(private_postgres) as fresh:
        yield fresh


@pytest.fixture
async def store(logs: Database) -> AsyncIterator[Store]:
    """A store on the test's database, with a deadline that no test should meet."""
    async with logs.opened() as opened:
        yield opened


@pytest.fixture
async def both(
    sqlite_logs: Database, newest_logs: Database
) -> AsyncIterator[list[tuple[Database, Store]]]:
    """SQLite and the newest PostgreSQL, side by side."""
    async with sqlite_logs.opened() as one, newest_logs.opened() as other:
        yield [(sqlite_logs, one), (newest_logs, other)]
