"""Fault 13: two workers and two replays on one spool, and a replay that is killed."""

import orjson
import pytest

from spoolway.spool import Limits, SpoolWriter
from tests.faults.proxy import Proxy
from tests.faults.site import Site, launched, total
from tests.servers import eventually
from tests.workers import WorkerProcess, count, drained, request_line, spooled

REPLAY = ("spoolway", "replay", "--json")


def spool(site: Site, events: int, segments: int) -> None:
    """Put events into so many segments, as a worker or a proxy that went away has."""
    writer = SpoolWriter(site.folder / "spool", Limits(min_free_bytes=0))
    for _ in range(segments):
        lines = [request_line(body={"n": n}) for n in range(events // segments)]
        writer.append(lines)
        site.ledger.accept(lines)
        writer.seal()


def ended(process: WorkerProcess, timeout: float = 60.0) -> int:
    """Wait for a command's end."""
    eventually(lambda: process.exit_code is not None, timeout=timeout, what="a command's end")
    assert process.exit_code is not None
    return process.exit_code


def test_two_workers_and_two_replays_on_one_spool_double_nothing(site: Site) -> None:
    """Four processes bring back the same folder at once, and live events go on: one row each."""
    spool(site, 4_000, segments=40)
    replays = [site.command(*REPLAY).start() for _ in range(2)]
    workers = [site.worker().start() for _ in range(2)]
    site.send_requests(1_000)
    assert [ended(replay) in (0, 1) for replay in replays] == [True, True]
    site.settle()
    told = [orjson.loads(replay.output().splitlines()[-1]) for replay in replays]
    by_replays = sum(int(one["inserted"]) for one in told)

    def inserted() -> int:
        return by_replays + sum(int(total(worker, "replay_inserted")) for worker in workers)

    site.proven(fired=eventually(lambda: inserted() == 4_000, what="4,000 from the spool"))
    assert [worker.terminate() for worker in workers] == [0, 0]


@pytest.mark.chaos
@pytest.mark.parametrize("attempt", range(10))
def test_workers_and_replays_that_crash_on_one_spool_double_nothing(
    attempt: int, site: Site
) -> None:
    """The same with one of each killed in the middle."""
    site.crashes = True
    spool(site, 8_000, segments=80)
    step = ["after COMMIT", "before the segment's removal"][attempt % 2]
    crash = ("crashing_worker.py", step, str(1 + attempt))
    crashing = site.worker(*crash).start()
    replay = site.command(*launched(*crash, command=REPLAY)).start()
    others = [site.worker().start(), site.command(*REPLAY).start()]
    site.send_requests(1_000)
    site.settle()
    ended(replay)
    ended(others[1])
    site.proven(fired=-9 in (crashing.exit_code, replay.exit_code))


@pytest.mark.chaos
@pytest.mark.parametrize("step", ["after COMMIT", "before the segment's removal"])
def test_replay_that_is_killed_is_resumed_by_the_next(step: str, site: Site) -> None:
    """SIGKILL of `spoolway replay`: the next one finishes it, and doubles nothing."""
    spool(site, 1_000, segments=4)
    crashing = site.command(*launched("crashing_worker.py", step, "2", command=REPLAY)).start()
    assert ended(crashing) == -9, crashing.output()
    assert spooled(site.folder) > 0
    assert ended(site.command(*REPLAY).start()) == 0
    assert spooled(site.folder) == 0
    assert count(site.database) == 1_000
    site.worker().started()
    site.proven(fired=True)


@pytest.mark.chaos
def test_replay_by_hand_brings_back_what_the_worker_leaves(
    proxied_site: Site, proxy: Proxy
) -> None:
    """SPOOLWAY_SPOOL_DRAIN=false: an outage under load, then one command puts all of it back."""
    site = proxied_site
    site.environment |= {"SPOOLWAY_SPOOL_DRAIN": "false", "SPOOLWAY_BATCH_EVENTS": "100"}
    worker = site.worker().started()
    proxy.refuse()
    site.send_requests(2_000)
    drained(site.valkey, worker)
    assert ended(site.command(*REPLAY).start()) == 1, "the database is still away"
    assert spooled(site.folder) == 2_000
    proxy.restore()
    eventually(lambda: (worker.status() or {})["breaker"] != "open", timeout=20)
    replay = site.command(*REPLAY).start()
    site.send_requests(500)
    assert ended(replay) == 0, replay.output()
    assert spooled(site.folder) == 0
    site.proven(fired=True)


@pytest.mark.chaos
def test_replay_to_the_stream_hands_the_events_to_the_workers(site: Site) -> None:
    """`--to stream`: back through Redis, one row each, also when it is killed in the middle."""
    spool(site, 2_000, segments=8)
    crashing = site.command(
        *launched(
            *("crashing_worker.py", "before the segment's removal", "3"),
            command=(*REPLAY, "--to", "stream"),
        )
    ).start()
    assert ended(crashing) == -9, crashing.output()
    assert ended(site.command(*REPLAY, "--to", "stream").start()) == 0
    assert spooled(site.folder) == 0
    site.worker().started()
    site.proven(fired=crashing.exit_code == -9)
