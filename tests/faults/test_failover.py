"""Failover: the primary is gone, and what answers is its streaming standby, which only reads."""

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.stores import Templates
from tests.workers import count, spooled


def fail_over(
    site: Site, primary: PostgresServer, standby: PostgresServer, switch: Callable[[], None]
) -> None:
    """Lose the primary under load, find a standby in its place, promote it, and miss nothing."""
    name = urlsplit(site.database).path.removeprefix("/")
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="100").started()
    site.send_requests(1_000)
    site.settle()
    # What a failover without synchronous replication loses is lost in PostgreSQL: not looked at.
    eventually(lambda: count(standby.url(name)) == 1_000, timeout=30, what="a standby that is even")
    site.database = standby.url(name)

    primary.kill()
    switch()
    site.send_requests(1_000)
    eventually(lambda: spooled(site.folder) >= 1_000, timeout=30, what="a spool of all")
    assert standby.sql("select pg_is_in_recovery()") == "t"
    assert count(site.database) == 1_000

    standby.promote()
    site.proven(fired=standby.sql("select pg_is_in_recovery()") == "f")
    assert worker.terminate() == 0


@pytest.fixture
def primary(start_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A primary of this test's own."""
    return start_postgres()


@pytest.fixture
def replicated(
    sites: Callable[..., Site], migrated: Templates, primary: PostgresServer, valkey: ValkeyServer
) -> Iterator[Site]:
    """A site on the primary."""
    with migrated.postgres(primary) as logs:
        yield sites(logs.dsn, valkey)


@pytest.fixture
def standby(
    replicated: Site, primary: PostgresServer, start_postgres: Callable[..., PostgresServer]
) -> PostgresServer:
    """The primary's streaming standby, with the site's database."""
    assert replicated.database
    return start_postgres(standby_of=primary)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("option", "said"),
    [("", "read-only"), ("?target_session_attrs=read-write", "target attribute")],
)
def test_standby_behind_the_old_address_is_an_outage_until_it_is_promoted(
    option: str, said: str, replicated: Site, primary: PostgresServer, standby: PostgresServer
) -> None:
    """The address leads to a standby: spooled; promoted: all of it lands, nothing twice."""
    with Proxy("127.0.0.1", primary.port).running() as proxy:
        replicated.reached_at = proxy.url(replicated.database) + option

        def switch() -> None:
            proxy.port = standby.port
            proxy.cut_all()

        fail_over(replicated, primary, standby, switch)
        assert said in replicated.outputs()


@pytest.mark.chaos
def test_several_hosts_with_target_session_attrs_find_the_new_primary(
    replicated: Site, primary: PostgresServer, standby: PostgresServer
) -> None:
    """Both hosts in DATABASE_URL, target_session_attrs=read-write: the one that writes is used."""
    here = f"127.0.0.1:{primary.port}"
    both = replicated.database.replace(here, f"127.0.0.1:{standby.port},{here}")
    replicated.reached_at = f"{both}?target_session_attrs=read-write"
    fail_over(replicated, primary, standby, lambda: None)
