"""Fault 12: SIGTERM at any moment under load."""

import contextlib
import random
import time

import pytest

from tests.faults.proxy import Proxy
from tests.faults.site import Site, falls, rises
from tests.servers import eventually
from tests.workers import count, drained, pending, spooled, waiting

STOPPED_WITHIN = 10.0


def terminate_again_and_again(site: Site, times: int, seed: int, share: float = 1.0) -> None:
    """Stop one worker after the other in the first `share` of its work, then let one finish it."""
    rng = random.Random(seed)
    cut_short = 0
    for _ in range(times):
        site.send_requests(2_000)
        worker = site.worker(SPOOLWAY_BATCH_EVENTS="50").start()
        # From before its first read to after its last: by the work that is left.
        left = int(waiting(site.valkey) * (1 - rng.random() * share))
        falls(lambda: waiting(site.valkey), left, timeout=30, every=0.001)
        began = time.monotonic()
        assert worker.terminate(STOPPED_WITHIN) == 0, worker.output()
        assert time.monotonic() - began <= STOPPED_WITHIN
        assert pending(site.valkey) == 0, "what was in flight was finished and acknowledged"
        cut_short += waiting(site.valkey) > 0
    successor = site.worker().started()
    site.proven(fired=cut_short)
    assert (successor.status() or {})["duplicate"] == 0, "nothing that was committed comes again"


def test_worker_that_is_terminated_under_load_ends_in_order(site: Site) -> None:
    """SIGTERM in the middle: exit 0 within 10 s, nothing in flight left, nothing comes again."""
    terminate_again_and_again(site, 2, seed=1, share=0.5)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(5))
def test_worker_is_terminated_at_any_of_many_moments(seed: int, either_site: Site) -> None:
    """The same twenty times over."""
    terminate_again_and_again(either_site, 20, seed=10 + seed)


@pytest.mark.chaos
def test_worker_that_replays_into_a_database_that_hangs_ends_in_order(
    proxied_site: Site, proxy: Proxy
) -> None:
    """SIGTERM with both a replay and live batches held up: exit 0 within 10 s, nothing goes."""
    site = proxied_site
    spooling = site.worker(SPOOLWAY_SPOOL_DRAIN="false", SPOOLWAY_STARTUP_TIMEOUT="0.1")
    proxy.refuse()
    spooling.started()
    site.send_requests(6_000)
    drained(site.valkey, spooling)
    assert spooling.terminate() == 0
    proxy.restore()
    proxy.delay = 0.005  # so that it is in the middle of it when we look
    worker = site.worker(SPOOLWAY_BATCH_EVENTS="50").start()
    eventually(lambda: count(site.database) > 0, timeout=20, what="a replay")
    proxy.stalled = True
    site.send_requests(500)
    eventually(lambda: pending(site.valkey) > 0, what="a live batch that is held up")
    assert worker.terminate(STOPPED_WITHIN) == 0, worker.output()
    left = spooled(site.folder)
    proxy.stalled, proxy.delay = False, 0.0
    site.worker().started()
    site.proven(fired=left)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_worker_is_terminated_at_any_moment_of_an_outage(
    seed: int, proxied_site: Site, proxy: Proxy
) -> None:
    """While it spools, while it probes, while it replays: exit 0 within 10 s, nothing is lost."""
    site = proxied_site
    rng = random.Random(seed)
    spooled_at_the_end = 0
    for _ in range(15):
        rng.choice([proxy.refuse, proxy.restore])()
        site.send_requests(1_000)
        worker = site.worker(SPOOLWAY_BATCH_EVENTS="50", SPOOLWAY_STARTUP_TIMEOUT="0.2").start()
        left = rng.randrange(waiting(site.valkey) + spooled(site.folder))
        with contextlib.suppress(AssertionError):  # away, the spool does not shrink
            falls(lambda: waiting(site.valkey), left, timeout=3, every=0.001)
        assert worker.terminate(STOPPED_WITHIN) in (0, -15), worker.output()
        spooled_at_the_end += spooled(site.folder)
    proxy.restore()
    site.worker().started()
    site.proven(fired=spooled_at_the_end)


def test_worker_that_is_terminated_while_it_starts_ends_at_once(site: Site) -> None:
    """SIGTERM at any point of the start ends the process, and no event with it."""
    site.send_requests(500)
    for wait_until in (0.05, 0.3, 0.5, 0.7):
        worker = site.worker().start()
        started = time.monotonic()
        rises(time.monotonic, started + wait_until)
        assert worker.terminate(STOPPED_WITHIN) in (0, -15), worker.output()
    site.worker().started()
    site.proven(fired=True)
