"""Faults 1, 2, 11 and 14 at once, as in a bad night: from the proxy's emit to the rows."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spoolway.producer import Producer
from spoolway.schema import encode_line, new_id
from spoolway.spool import SpoolFolder
from tests.faults.site import Site, rises
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.stores import Templates
from tests.workers import WorkerProcess

SLOWEST_EMIT = 0.5
"""Seconds, on a machine that does other things, too. A network's timeout would be longer."""


class Night:
    """A proxy with traffic, and what it stands on."""

    def __init__(self, site: Site, server: PostgresServer, producer: Producer) -> None:
        self.site = site
        self.server = server
        self.producer = producer
        self.worker: WorkerProcess | None = None
        self.slowest = 0.0
        self.emitted = 0

    def traffic(self, requests: int) -> None:
        """Emit so many requests and some errors; whatever is away, each takes no time."""
        for _ in range(requests):
            n = self.emitted = self.emitted + 1
            event = {"type": "request", "id": new_id(), "model_name": "gpt-4o", "body": {"n": n}}
            error = {"type": "error", "id": new_id(), "request_id": event["id"]}
            for one in (event, error) if n % 10 == 0 else (event,):
                began = time.perf_counter()
                accepted = self.producer.emit(one)
                self.slowest = max(self.slowest, time.perf_counter() - began)
                assert accepted, "its buffer is not full"
                self.site.ledger.accept([encode_line(one)])

    def new_worker(self) -> None:
        """Kill the worker, and start another."""
        if self.worker is not None:
            self.worker.kill()
        self.worker = self.site.worker().start()

    def break_something(self, what: str) -> None:
        """Do to a server, or to the worker, what a night does."""
        if what == "database":
            if self.server.running:
                self.server.kill()
            else:
                self.server.start()
        elif what == "redis":
            if self.site.valkey.running:
                self.site.valkey.kill()
            else:
                self.site.valkey.start()
        elif what == "worker" and self.site.valkey.running:
            self.new_worker()

    def morning(self, *, by_hand: bool = False) -> None:
        """Bring everything back, and ask the oracle.

        What the proxy has spooled returns by itself while it lives, and by hand when it is gone.
        """
        if not self.server.running:
            self.server.start()
        if not self.site.valkey.running:
            self.site.valkey.start()
        self.new_worker()
        [proxy] = self.site.proxies
        if not by_hand:
            eventually(lambda: not SpoolFolder(proxy / "spool").segments(), timeout=60, every=0.05)
        assert self.producer.close(timeout=30)
        if by_hand:
            replay = self.site.command("spoolway", "replay", "--dir", str(proxy), "--json").start()
            eventually(lambda: replay.exit_code is not None, timeout=60, what="a replay's end")
            assert replay.exit_code == 0, replay.output()
        stats = self.producer.stats
        assert (stats.dropped, stats.abandoned) == (0, 0)
        self.site.proven(fired=stats.spooled, timeout=100)
        assert self.slowest <= SLOWEST_EMIT, f"an emit took {self.slowest:.3f} s"


@pytest.fixture
def tonight(
    sites: Callable[..., Site],
    migrated: Templates,
    private_postgres: PostgresServer,
    start_valkey: Callable[..., ValkeyServer],
    tmp_path: Path,
) -> Iterator[Night]:
    """A night that begins, on servers of its own."""
    settings = {"SPOOLWAY_STARTUP_TIMEOUT": "0.5", "SPOOLWAY_BATCH_EVENTS": "100"}
    with migrated.postgres(private_postgres) as logs:
        site = sites(logs.dsn, start_valkey(append_only="always"), **settings)
        site.crashes = True
        site.proxies.append(tmp_path / "proxy")
        with Producer(site.valkey.url, folder=site.proxies[0]) as producer:
            yield Night(site, private_postgres, producer)


def test_night_of_outages_from_the_proxy_to_the_rows(tonight: Night) -> None:
    """Database and Redis die under traffic, the worker twice: each event is one row by morning."""
    tonight.new_worker()
    tonight.traffic(500)
    for what in ("database", "worker", "redis", "database", "redis", "worker"):
        tonight.break_something(what)
        tonight.traffic(300)
        if what == "redis" and not tonight.site.valkey.running:
            eventually(
                lambda: tonight.producer.stats.spooled, timeout=20, what="events in its spool"
            )
    tonight.morning()


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5))
def test_any_night_of_outages_from_the_proxy_to_the_rows(seed: int, tonight: Night) -> None:
    """The same in any order, for longer."""
    rng = random.Random(seed)
    tonight.new_worker()
    for _ in range(30):
        tonight.traffic(rng.randrange(500))
        tonight.break_something(rng.choice(["database", "redis", "worker"]))
        if not tonight.site.valkey.running and rng.random() < 0.5:
            spooled = tonight.producer.stats.spooled
            tonight.traffic(1)
            rises(lambda: tonight.producer.stats.spooled, spooled + 1, timeout=20)
    tonight.morning(by_hand=seed % 2 == 1)
