"""Fixtures of the fault tests: migrated databases, and sites on them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site
from tests.servers import PostgresServer, ValkeyServer
from tests.stores import Templates


@pytest.fixture(scope="session")
def migrated(server_folder: Path) -> Templates:
    """Migrated databases to copy from: a worker on one starts in half the time."""
    folder = server_folder / "fault-templates"
    folder.mkdir()
    return Templates(folder)


@pytest.fixture
def newest_postgres_logs(migrated: Templates, newest_postgres: PostgresServer) -> Iterator[str]:
    """A migrated database of this test's own, on the newest PostgreSQL."""
    with migrated.postgres(newest_postgres) as logs:
        yield logs.dsn


@pytest.fixture
def sqlite_logs_url(migrated: Templates, tmp_path: Path) -> Iterator[str]:
    """A migrated SQLite file of this test's own."""
    with migrated.sqlite(tmp_path) as logs:
        yield f"sqlite:///{logs.path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def either_logs(request: pytest.FixtureRequest) -> str:
    """A migrated database of either kind."""
    name = "sqlite_logs_url" if request.param == "sqlite" else "newest_postgres_logs"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make sites: `sites(database, valkey, **settings)`. Their workers end with the test."""
    with ExitStack() as stop:

        def make(database: str, valkey: ValkeyServer, **environment: str) -> Site:
            site = Site(database, valkey, tmp_path / "var", environment=environment)
            stop.callback(site.close)
            return site

        yield make


@pytest.fixture
def site(sites: Callable[..., Site], newest_postgres_logs: str, valkey: ValkeyServer) -> Site:
    """A site on the newest PostgreSQL and the shared Valkey."""
    return sites(newest_postgres_logs, valkey)


@pytest.fixture
def either_site(sites: Callable[..., Site], either_logs: str, valkey: ValkeyServer) -> Site:
    """A site on either database and the shared Valkey."""
    return sites(either_logs, valkey)


@pytest.fixture
def proxy(newest_postgres: PostgresServer) -> Iterator[Proxy]:
    """A proxy to the newest PostgreSQL."""
    with Proxy("127.0.0.1", newest_postgres.port).running() as running:
        yield running


@pytest.fixture
def proxied_site(site: Site, proxy: Proxy) -> Site:
    """A site whose workers reach the database through the proxy."""
    site.reached_at = proxy.url(site.database)
    return site


@pytest.fixture
def breakable_site(
    sites: Callable[..., Site],
    migrated: Templates,
    private_postgres: PostgresServer,
    valkey: ValkeyServer,
) -> Iterator[Site]:
    """A site on a PostgreSQL of this test's own."""
    with migrated.postgres(private_postgres) as logs:
        yield sites(logs.dsn, valkey)
