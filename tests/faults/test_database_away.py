"""Faults 2 and 14: the database is away for a day, or the database and Redis are."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site, rises, total
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.stores import Templates, id_at
from tests.workers import count, drained, request_line, spooled, waiting

DAY = timedelta(days=1)


def send_a_minute(site: Site, moment: datetime, count: int) -> None:
    """Push what a proxy sends at this moment, by the ids' clock."""
    site.send(
        [
            request_line(
                id=id_at(moment + timedelta(seconds=n % 60)), body={"n": n, "t": "x" * 500}
            )
            for n in range(count)
        ]
    )


def bytes_of_keys(server: ValkeyServer) -> int:
    """Sum up what the keys take in Redis's memory; not its buffers, which come and go."""
    with server.client() as client:
        return sum(client.memory_usage(key, samples=0) or 0 for key in client.scan_iter())


def database_away_for_a_day(site: Site, server: PostgresServer, minutes: int) -> None:
    """Stop the database, send a day's events, and look at what that costs."""
    began = datetime.now(UTC) - DAY
    # The worker's clock starts a day ago, and a day goes by in a few seconds.
    pace = f"{24 * 60 * 60 / (minutes * 0.05):.0f}"
    worker = site.worker("shifted_worker.py", str(-DAY.total_seconds()), pace).started()
    send_a_minute(site, began, 100)
    site.settle()
    server.stop()
    memory: list[int] = []
    used: list[int] = []
    for minute in range(minutes):
        send_a_minute(site, began + minute * DAY / minutes, 100)
        drained(site.valkey, worker)
        memory.append(psutil.Process(worker.pid).memory_info().rss)
        used.append(bytes_of_keys(site.valkey))
    eventually(lambda: total(worker, "inserted") == 100)
    assert spooled(site.folder) == 100 * minutes
    warm = minutes // 4
    assert max(memory[warm:]) <= 1.1 * memory[warm], f"the worker grew: {memory[::warm]}"
    assert max(used) <= 100_000, f"Redis grew: {used[::warm]}"
    server.start()
    eventually(lambda: spooled(site.folder) == 0, timeout=100, every=0.1, what="an empty spool")
    site.proven(fired=eventually(lambda: total(worker, "replay_inserted") == 100 * minutes))


def test_database_that_was_away_for_a_day_gets_everything_back(
    breakable_site: Site, private_postgres: PostgresServer
) -> None:
    """A day of events in seconds: memory stays flat, Redis too, and the spool drains by itself."""
    database_away_for_a_day(breakable_site, private_postgres, minutes=60)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_database_that_was_away_for_1440_minutes_gets_everything_back(
    breakable_site: Site, private_postgres: PostgresServer
) -> None:
    """The same with every minute of the day."""
    database_away_for_a_day(breakable_site, private_postgres, minutes=1_440)


@pytest.mark.chaos
@pytest.mark.parametrize("first", ["database", "redis"])
def test_database_and_redis_that_were_both_away_lose_nothing(
    first: str,
    sites: Callable[..., Site],
    migrated: Templates,
    private_postgres: PostgresServer,
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    """Both die with events in flight and spooled, and come back in either order: all lands once."""
    with migrated.postgres(private_postgres) as logs:
        site = sites(logs.dsn, start_valkey(append_only="always"), SPOOLWAY_WRITE_TIMEOUT="2")
        worker = site.worker(SPOOLWAY_BATCH_EVENTS="100").started()
        site.send_requests(1_000)
        site.settle()
        private_postgres.kill()
        site.send_requests(500)
        drained(site.valkey, worker)
        assert spooled(site.folder) == 500
        site.send_requests(1_500)
        # What is sent while the worker stands still is on the stream when Redis dies.
        process = psutil.Process(worker.pid)
        process.suspend()
        site.send_requests(1_500)
        left = waiting(site.valkey)
        site.valkey.kill()
        process.resume()
        eventually(lambda: "goes on when it answers" in worker.output(), timeout=15)
        for server in (
            (private_postgres, site.valkey)
            if first == "database"
            else (site.valkey, private_postgres)
        ):
            server.start()
            if server is site.valkey:
                eventually(lambda: waiting(site.valkey) == 0, timeout=20, what="an empty stream")
            else:
                eventually(lambda: total(worker, "replayed"), timeout=20, what="a replay")
        site.proven(fired=left)
        assert worker.terminate() == 0


def flap(site: Site, proxy: Proxy, times: int) -> None:
    """Let the database come and go, each time in the middle of what it is given."""
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="50", SPOOLWAY_WRITE_TIMEOUT="3").started()
    cut_off = 0
    for n in range(times):
        if n % 3 == 2:
            proxy.stalled = True
        else:
            proxy.refuse()
        site.send_requests(600, per_frame=20)
        eventually(lambda: spooled(site.folder) > 100, timeout=20, every=0.002)
        before = count(site.database)
        proxy.delay = 0.005  # so that it is in the middle of it when we look
        proxy.stalled = False
        proxy.restore()
        site.send_requests(600, per_frame=20)
        rises(lambda: count(site.database), before + 1, timeout=60)
        cut_off += spooled(site.folder) + waiting(site.valkey) > 0
    proxy.delay = 0.0
    site.proven(fired=cut_off)
    assert worker.terminate() == 0


@pytest.mark.chaos
def test_flapping_database_loses_nothing(proxied_site: Site, proxy: Proxy) -> None:
    """It comes and goes in the middle of batches and replays; what is settled stays settled."""
    flap(proxied_site, proxy, 2)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_database_that_flaps_for_long_loses_nothing(proxied_site: Site, proxy: Proxy) -> None:
    """The same twenty times over."""
    flap(proxied_site, proxy, 20)
