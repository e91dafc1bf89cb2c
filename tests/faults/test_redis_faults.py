"""Faults 10 and 11, the worker's half: Redis is full, killed, emptied, or has lost its group."""

import os
import time
from collections.abc import Callable

import pytest
import redis

from spoolway.schema import DEFAULT_STREAM
from tests.faults.oracle import key_and_hash
from tests.faults.proxy import Proxy
from tests.faults.site import Site, rises, total
from tests.servers import ValkeyServer, eventually
from tests.workers import GROUP, WorkerProcess, pending, request_line, waiting

RESUMED_WITHIN = 5.0


def fill(site: Site) -> None:
    """Push until Redis takes no more."""
    while True:
        lines = [request_line(body={"text": os.urandom(4_000).hex()}) for _ in range(20)]
        try:
            site.send(lines, per_frame=20)
        except redis.exceptions.OutOfMemoryError:
            return


def outages(worker: WorkerProcess) -> int:
    """Count the outages of Redis that a worker has noticed."""
    return worker.output().count("goes on when it answers")


def test_full_redis_is_drained_while_the_worker_lives_and_after_it_was_killed(
    sites: Callable[..., Site], newest_postgres_logs: str, start_valkey: Callable[..., ValkeyServer]
) -> None:
    """maxmemory, noeviction: what fills Redis does not keep the worker from draining it."""
    site = sites(newest_postgres_logs, start_valkey(max_memory="8mb"))
    killed = site.worker().started()
    killed.kill()  # its group is there, and nobody reads
    fill(site)
    accepted = len(site.ledger.accepted)
    with site.valkey.client() as client:
        client.config_set("maxmemory", "1mb")  # full before, during and after the draining
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("full", "1")
        site.worker().started()
        site.settle()
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("full", "1")
        client.config_set("maxmemory", "8mb")
    site.proven(fired=accepted > 100)


def test_killed_redis_is_drained_within_5_s_of_its_return(
    sites: Callable[..., Site], newest_postgres_logs: str, start_valkey: Callable[..., ValkeyServer]
) -> None:
    """SIGKILL under load and its return: what it had synced is all there, and work goes on."""
    site = sites(newest_postgres_logs, start_valkey(append_only="always"))
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="100").started()
    for time_ in (1, 2):
        site.send_requests(3_000)
        site.valkey.kill()
        rises(lambda: outages(worker), time_, timeout=15, what="an outage in the log")
        site.valkey.start()
        back = time.monotonic()
        site.fresh_event_lands(timeout=RESUMED_WITHIN + 5)
        assert time.monotonic() - back <= RESUMED_WITHIN + 1, "it resumed late"
    site.proven(fired=outages(worker) == 2)


@pytest.mark.parametrize(
    "accident",
    [
        "FLUSHALL",
        pytest.param("XGROUP DESTROY", marks=pytest.mark.chaos),
        pytest.param("DEL", marks=pytest.mark.chaos),
    ],
)
def test_emptied_redis_is_read_again_within_5_s(accident: str, site: Site) -> None:
    """The stream or its group goes while work is in flight: recreated, counted, and read on."""
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="100").started()
    site.send_requests(500)
    site.settle()
    with site.valkey.client() as client:
        if accident == "FLUSHALL":
            client.flushall()
        elif accident == "DEL":
            client.delete(DEFAULT_STREAM)
        else:
            client.xgroup_destroy(DEFAULT_STREAM, GROUP)
    began = time.monotonic()
    site.send_requests(500)
    site.settle(timeout=RESUMED_WITHIN + 5)
    assert time.monotonic() - began <= RESUMED_WITHIN + 1
    site.proven(fired=eventually(lambda: total(worker, "groups_recreated") == 1))


@pytest.mark.chaos
def test_group_deleted_with_entries_in_flight_doubles_nothing(
    proxied_site: Site, proxy: Proxy
) -> None:
    """A group that is made anew starts at the first entry: what is in flight comes again, once."""
    site = proxied_site
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="50", SPOOLWAY_IN_FLIGHT="4").started()
    for _ in range(3):
        proxy.stalled = True  # for less than the write deadline: batches are held up in between
        site.send_requests(2_000)
        eventually(lambda: pending(site.valkey) == 4, what="entries in flight")
        with site.valkey.client() as client:
            client.xgroup_destroy(DEFAULT_STREAM, GROUP)
        proxy.stalled = False
        site.settle()
    site.proven(fired=eventually(lambda: total(worker, "groups_recreated") == 3))


def test_entries_that_were_deleted_while_pending_are_counted_to_the_unit(site: Site) -> None:
    """Somebody trims the stream under the worker: what is lost is counted, all else lands."""
    lines = site.send_requests(1_000)
    with site.valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        ((_, entries),) = client.xreadgroup(GROUP, "gone", {DEFAULT_STREAM: ">"}, count=4)
        entry_ids = [entry_id for entry_id, _ in entries]
        client.xclaim(DEFAULT_STREAM, GROUP, "gone", 0, entry_ids, idle=60_000)
        client.xdel(DEFAULT_STREAM, *entry_ids[:3])
    assert waiting(site.valkey) == 7
    site.ledger.destroyed(key_and_hash(line)[0] for line in lines[:300])
    worker = site.worker().started()
    site.proven(fired=eventually(lambda: total(worker, "lost_entries") == 3))
