"""Fault 4: the database takes connections and never answers, or holds a lock for ever."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site, total
from tests.servers import PostgresServer, eventually
from tests.workers import drained, rows, spooled

DEADLINE = 2.0
"""SPOOLWAY_WRITE_TIMEOUT of these tests, in seconds."""
SLACK = 2.0
"""Seconds for all else on a busy machine."""
POOL = 2
SETTINGS = {"SPOOLWAY_WRITE_TIMEOUT": str(DEADLINE), "DATABASE_POOL_SIZE": str(POOL)}
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE application_name = 'spoolway' AND datname = current_database()"
)


def connections(site: Site) -> int:
    """Count the workers' connections, as the server sees them."""
    return int(rows(site.database, CONNECTIONS)[0][0])


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Hold a lock that lets no batch in."""
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE request_logs IN ACCESS EXCLUSIVE MODE")
            held.set()
            await asyncio.to_thread(release.wait)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert held.wait(30)
        yield
    finally:
        release.set()
        thread.join()


def spooled_within_the_deadline(site: Site, events: int) -> float:
    """Push events and wait until all of them are in the spool; return the seconds that took."""
    began = time.monotonic()
    site.send_requests(events)
    eventually(lambda: spooled(site.folder) >= events, timeout=60, what="spooled events")
    return time.monotonic() - began


def suspend_again_and_again(site: Site, server: PostgresServer, times: int) -> None:
    """Stop the database's processes, look how long that is waited for, and let it go on."""
    site.environment |= SETTINGS
    worker = site.worker().started()
    for _ in range(times):
        server.suspend()
        assert spooled_within_the_deadline(site, 300) <= DEADLINE + SLACK
        began = time.monotonic()
        site.send_requests(300)
        drained(site.valkey, worker)
        assert time.monotonic() - began <= DEADLINE, "nobody waits for it a second time"
        server.resume()
        site.settle()
        eventually(lambda: connections(site) <= POOL, what="no leaked connection")
    site.proven(fired=eventually(lambda: total(worker, "spooled") >= 600 * times))
    assert connections(site) <= POOL
    assert worker.terminate() == 0


def test_suspended_database_is_an_unreachable_one_after_the_deadline(
    breakable_site: Site, private_postgres: PostgresServer
) -> None:
    """SIGSTOP: spooled within the write deadline, later batches at once; no connection leaks."""
    suspend_again_and_again(breakable_site, private_postgres, 1)


@pytest.mark.chaos
def test_database_that_is_suspended_again_and_again_costs_no_connections(
    breakable_site: Site, private_postgres: PostgresServer
) -> None:
    """The same ten times over."""
    suspend_again_and_again(breakable_site, private_postgres, 10)


def test_locked_table_is_an_unreachable_one_after_the_deadline(site: Site) -> None:
    """LOCK TABLE: spooled within the write deadline; what waited for the lock does not pile up."""
    site.environment |= SETTINGS
    worker = site.worker().started()
    site.send_requests(100)
    site.settle()
    with locked(site.database):
        took = spooled_within_the_deadline(site, 300)
        most = connections(site)
        site.send_requests(300)
        drained(site.valkey, worker)
        assert max(most, connections(site)) <= POOL, "a connection leaked"
    site.proven(fired=eventually(lambda: total(worker, "spooled") >= 300))
    assert took <= DEADLINE + SLACK, f"spooled only after {took:.1f} s"


@pytest.mark.chaos
def test_worker_that_starts_while_the_database_hangs_spools_soon(
    proxied_site: Site, proxy: Proxy
) -> None:
    """Restarted in the middle of such an outage: it waits as long as it was told, and spools."""
    site = proxied_site
    site.environment |= SETTINGS | {"SPOOLWAY_STARTUP_TIMEOUT": "1"}
    proxy.stalled = True
    worker = site.worker()
    began = time.monotonic()
    site.send_requests(300)
    worker.start()
    eventually(lambda: spooled(site.folder) == 300, timeout=60, what="spooled events")
    took = time.monotonic() - began
    proxy.stalled = False
    site.proven(fired=eventually(lambda: total(worker, "spooled") >= 300))
    assert took <= 1 + DEADLINE + 2 * SLACK, f"spooled only after {took:.1f} s"


@pytest.mark.chaos
@pytest.mark.parametrize("fault", ["stalled", "slow"])
def test_network_that_swallows_or_delays_is_sat_out(
    fault: str, proxied_site: Site, proxy: Proxy
) -> None:
    """Bytes that never arrive are a database that hangs; bytes that come late are none."""
    site = proxied_site
    site.environment |= SETTINGS
    worker = site.worker().started()
    if fault == "stalled":
        proxy.stalled = True
        assert spooled_within_the_deadline(site, 300) <= DEADLINE + SLACK
        eventually(lambda: total(worker, "spooled"))
        proxy.stalled = False
    else:
        proxy.delay = 0.02
        site.send_requests(300)
        site.settle()
        proxy.delay = 0.0
    site.proven(fired=(total(worker, "spooled") > 0) == (fault == "stalled"))
