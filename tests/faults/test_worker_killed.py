"""Fault 1: SIGKILL at every named step, and at random moments; the successor finishes the work."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.crashing_worker import STEPS
from tests.faults.oracle import key_and_hash
from tests.faults.proxy import Proxy
from tests.faults.site import Site, error_line, total
from tests.servers import ValkeyServer, eventually
from tests.workers import WorkerProcess, drained, pending, rows, spooled, waiting

LIVE_STEPS = [step for step in STEPS if "spool" not in step and "segment" not in step]
"""Steps on the way from the stream to rows and dead letters."""
TELLING_STEPS = {
    "after COMMIT",
    "in the dead letters' write",
    "between XACK and XDEL",
}
"""Those after which different things are half done; `make chaos` has the others."""
BAD_ID = b'{"type":"request","id":"9b2e7d1c-8f0a-4c3e-9d55-%012x"}'
"""No UUIDv7: a dead letter."""


def killed_itself(worker: WorkerProcess, timeout: float = 30.0) -> bool:
    """Wait for the end of a crashing worker; tell whether it was SIGKILL that ended it."""
    eventually(lambda: worker.exit_code is not None, timeout=timeout, what="the worker's crash")
    return worker.exit_code == -9


def send_good_and_bad(site: Site, count: int) -> list[str]:
    """Push requests with a bad one in each frame; return the keys of the bad ones."""
    bad = []
    for start in range(0, count, 50):
        line = BAD_ID % (len(site.ledger.accepted) + start)
        site.send([line], per_frame=1)
        bad.append(key_and_hash(line)[0])
        site.send_requests(49, per_frame=49)
    return bad


@pytest.mark.parametrize(
    "step",
    [
        step if step in TELLING_STEPS else pytest.param(step, marks=pytest.mark.chaos)
        for step in LIVE_STEPS
    ],
)
def test_worker_killed_at_a_step_leaves_every_event_once(step: str, site: Site) -> None:
    """SIGKILL at this very step: the successor finds every event, and doubles none."""
    site.crashes = True
    dead = send_good_and_bad(site, 300)
    crashing = site.worker("crashing_worker.py", step, "1", SPOOLWAY_BATCH_EVENTS="100").start()
    assert killed_itself(crashing), crashing.output()
    site.worker().started()
    found = site.proven(fired=crashing.exit_code == -9, dead=dead)
    if step in ("after the dead letters' fsync", "before XACK"):
        assert len(found.dead) > len(dead), "a dead letter that was not acknowledged came again"


@pytest.mark.chaos
@pytest.mark.parametrize("nth", [1, 2, 3, 5])
@pytest.mark.parametrize("step", LIVE_STEPS)
def test_worker_killed_at_the_nth_step_leaves_every_event_once(
    step: str, nth: int, either_site: Site
) -> None:
    """The same at later batches, on both databases, with two workers killed one after the other."""
    site = either_site
    dead = send_good_and_bad(site, 1_000)
    crashing = [
        site.worker("crashing_worker.py", step, str(nth), SPOOLWAY_BATCH_EVENTS="50").start()
        for _ in range(2)
    ]
    fired = [killed_itself(worker) for worker in crashing]
    site.worker().started()
    site.proven(fired=all(fired), dead=dead)


def kill_at_random_moments(site: Site, moments: int, seed: int) -> None:
    """Let one worker after the other die somewhere in its work, then let one finish it."""
    rng = random.Random(seed)
    site.crashes = True
    dead: list[str] = []
    for _ in range(moments):
        dead += send_good_and_bad(site, 500)
        moment = rng.uniform(0.0, 0.12)
        worker = site.worker(
            "crashing_worker.py",
            "at a moment",
            f"{moment:.6f}",
            SPOOLWAY_BATCH_EVENTS="25",  # many steps in each of them
        ).start()
        assert killed_itself(worker), f"seed {seed}, after {moment} s: {worker.output()}"
    left = waiting(site.valkey), pending(site.valkey)
    site.worker().started()
    site.proven(fired=True, dead=dead, timeout=100)
    assert moments < 5 or left != (0, 0), "no kill left anything to do"


@pytest.mark.chaos
def test_worker_killed_at_random_moments_leaves_every_event_once(site: Site) -> None:
    """SIGKILL anywhere, again and again."""
    kill_at_random_moments(site, 3, seed=1)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(20))
def test_worker_killed_at_500_random_moments_leaves_every_event_once(
    seed: int, either_site: Site
) -> None:
    """Twenty times 25 kills, half of them on SQLite."""
    kill_at_random_moments(either_site, 13 - seed % 2, seed=100 + seed)


@pytest.mark.chaos
def test_work_of_a_killed_worker_is_taken_over_within_30_s(
    sites: Callable[..., Site], newest_postgres_logs: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Another host's worker takes over what is pending: 20 s idle, and a look every 5 s."""
    site = sites(newest_postgres_logs, valkey)
    site.send_requests(1_000)
    crashing = site.worker("crashing_worker.py", "before COMMIT", "1", folder=tmp_path / "away")
    assert killed_itself(crashing.start())
    died = time.monotonic()
    assert pending(valkey) > 0
    worker = site.worker(SPOOLWAY_CONSUMER="another-host").started()
    site.settle(timeout=35)
    assert time.monotonic() - died <= 30
    site.proven(fired=eventually(lambda: total(worker, "entries_claimed")))


# --- While the database is away ------------------------------------------------------

SPOOLING_STEPS = ["in the spool's write", "before the spool's fsync", "after the spool's fsync"]
ALSO_WHILE_SPOOLING = ["after read", "before XACK", "between XACK and XDEL", "after XDEL"]
REPLAYING_STEPS = [
    *("before COMMIT", "after COMMIT", "after the dead letters' fsync"),
    *("before the segment's removal", "after the segment's removal"),
]


def kill_while_spooling(site: Site, proxy: Proxy, step: str, nth: int) -> None:
    """Let a worker die at a step on the way to the spool, and a successor bring all of it back."""
    site.crashes = True
    proxy.refuse()
    dead = send_good_and_bad(site, 300)
    crashing = site.worker(
        *("crashing_worker.py", step, str(nth)),
        SPOOLWAY_BATCH_EVENTS="50",
        SPOOLWAY_STARTUP_TIMEOUT="0.1",
    ).start()
    assert killed_itself(crashing), crashing.output()
    proxy.restore()
    site.worker().started()
    site.proven(fired=crashing.exit_code == -9, dead=dead)


@pytest.mark.parametrize("step", SPOOLING_STEPS[-1:])
def test_worker_killed_while_it_spools_leaves_every_event_once(
    step: str, proxied_site: Site, proxy: Proxy
) -> None:
    """SIGKILL at this step of an outage: what was acknowledged is on disk, the rest is in Redis."""
    kill_while_spooling(proxied_site, proxy, step, 2)


@pytest.mark.chaos
@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize("step", [*SPOOLING_STEPS, *ALSO_WHILE_SPOOLING])
def test_worker_killed_at_the_nth_step_of_spooling_leaves_every_event_once(
    step: str, nth: int, proxied_site: Site, proxy: Proxy
) -> None:
    """The same at any of them, and at the others on that way."""
    kill_while_spooling(proxied_site, proxy, step, nth)


def kill_while_replaying(site: Site, proxy: Proxy, step: str, nth: int) -> None:
    """Let a worker die at a step of the way back, and a successor finish it."""
    proxy.refuse()
    spooling = site.worker(SPOOLWAY_STARTUP_TIMEOUT="0.1").started()
    site.send_requests(300)
    [poison] = site.send([error_line(model_name="poison", error_message="refused")])
    drained(site.valkey, spooling)
    assert spooling.terminate() == 0
    assert spooled(site.folder) == 301
    rows(site.database, "ALTER TABLE error_logs ADD CHECK (model_name <> 'poison')")
    proxy.restore()
    crashing = site.worker("crashing_worker.py", step, str(nth), SPOOLWAY_BATCH_EVENTS="50")
    crashing.start()
    assert killed_itself(crashing), crashing.output()
    site.worker().started()
    site.proven(fired=crashing.exit_code == -9, dead=[key_and_hash(poison)[0]])


@pytest.mark.chaos
@pytest.mark.parametrize("step", REPLAYING_STEPS[1:2])
def test_worker_killed_while_it_replays_leaves_every_event_once(
    step: str, proxied_site: Site, proxy: Proxy
) -> None:
    """SIGKILL at this step of the way back: a segment goes when all of it is safe, and is known."""
    kill_while_replaying(proxied_site, proxy, step, 1)


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("step", "nth"),
    [*((step, 1) for step in REPLAYING_STEPS), *((step, 4) for step in REPLAYING_STEPS[:2])],
)
def test_worker_killed_at_the_nth_step_of_replaying_leaves_every_event_once(
    step: str, nth: int, proxied_site: Site, proxy: Proxy
) -> None:
    """The same in the middle of a segment."""
    kill_while_replaying(proxied_site, proxy, step, nth)
