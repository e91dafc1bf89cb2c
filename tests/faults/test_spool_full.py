"""Fault 7, the worker's half: no database, and no room for what it should have got."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from spoolway.spool import SpoolFolder
from tests.faults.oracle import key_and_hash
from tests.faults.proxy import Proxy
from tests.faults.site import Site, run, total
from tests.servers import ValkeyServer, eventually
from tests.workers import WorkerProcess, pending, waiting

FULL = "nothing is acknowledged, events stay in Redis"


def stays_full(site: Site, worker: WorkerProcess) -> None:
    """Wait for a full spool, and assert that the worker then acknowledges nothing, and lives."""
    eventually(lambda: FULL in worker.output(), timeout=20, what="a full spool in the log")
    left = waiting(site.valkey)
    assert left > 0, "what does not fit stays in Redis"
    turned = total(worker, "turned_at")
    eventually(lambda: total(worker, "turned_at") > turned + 1, timeout=20, what="it goes round")
    assert waiting(site.valkey) == left, "nothing was acknowledged"
    assert 0 < pending(site.valkey) <= left
    told = run("spoolway", "health", "--dir", str(worker.folder))
    assert told.returncode == 0, told.stdout


def size(folder: Path) -> int:
    """Return the bytes in a spool."""
    return sum(file.size for file in SpoolFolder(folder / "spool").segments())


def test_full_spool_leaves_events_in_redis_until_the_database_is_back(
    proxied_site: Site, proxy: Proxy
) -> None:
    """SPOOLWAY_SPOOL_MAX_BYTES: no ack, events stay in Redis, the worker lives and goes on."""
    site = proxied_site
    site.environment |= {"SPOOLWAY_SPOOL_MAX_BYTES": "100000", "SPOOLWAY_BATCH_EVENTS": "100"}
    worker = site.worker().started()
    proxy.refuse()
    site.send_requests(3_000)
    stays_full(site, worker)
    assert 50_000 < size(site.folder) <= 100_000
    proxy.restore()
    site.proven(fired=total(worker, "spooled"))
    assert worker.terminate() == 0


@pytest.mark.chaos
def test_worker_with_a_full_spool_stops_in_order(proxied_site: Site, proxy: Proxy) -> None:
    """SIGTERM while it can put events nowhere: exit 0 within 10 s, and they are in Redis."""
    site = proxied_site
    site.environment |= {"SPOOLWAY_SPOOL_MAX_BYTES": "0"}
    worker = site.worker().started()
    proxy.refuse()
    site.send_requests(1_000)
    stays_full(site, worker)
    assert worker.terminate(10) == 0
    assert waiting(site.valkey) == 10
    proxy.restore()
    site.worker().started()
    site.proven(fired=True)


@pytest.mark.chaos
def test_full_disk_leaves_events_in_redis_until_there_is_room(
    sites: Callable[..., Site],
    newest_postgres_logs: str,
    valkey: ValkeyServer,
    proxy: Proxy,
    small_disk: Path,
) -> None:
    """ENOSPC: no ack, the worker lives; with room it spools on by itself, the database still away."""
    site = sites(
        newest_postgres_logs,
        valkey,
        SPOOLWAY_SPOOL_MIN_FREE_BYTES="0",
        SPOOLWAY_BATCH_EVENTS="100",
    )
    site.folder = small_disk / "var"
    site.reached_at = proxy.url(site.database)
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(800_000))
    worker = site.worker().started()
    proxy.refuse()
    site.send_requests(3_000)
    stays_full(site, worker)
    full = size(site.folder)
    ballast.unlink()
    eventually(lambda: size(site.folder) > full, timeout=20, what="a spool that grows again")
    eventually(lambda: waiting(valkey) == 0, timeout=20, what="an empty stream")
    proxy.restore()
    site.proven(fired=full < 300_000)
    assert worker.terminate() == 0


@pytest.mark.chaos
def test_full_disk_under_a_database_that_works_stops_nothing(
    sites: Callable[..., Site],
    newest_postgres_logs: str,
    valkey: ValkeyServer,
    small_disk: Path,
) -> None:
    """The spool's disk is only needed for the spool and the dead letters: rows go on."""
    site = sites(newest_postgres_logs, valkey)
    site.folder = small_disk / "var"
    worker = site.worker().started()
    ballast = small_disk / "ballast"
    fill(ballast)
    site.send_requests(1_000)
    eventually(lambda: waiting(valkey) == 0, timeout=20, what="an empty stream")
    was_full = shutil.disk_usage(small_disk).free == 0
    ballast.unlink()
    site.proven(fired=was_full)
    assert worker.terminate() == 0


@pytest.mark.chaos
def test_full_disk_keeps_dead_letters_pending_until_there_is_room(
    sites: Callable[..., Site],
    newest_postgres_logs: str,
    valkey: ValkeyServer,
    small_disk: Path,
) -> None:
    """What cannot be kept as a dead letter is not acknowledged, and goes on when it can."""
    site = sites(newest_postgres_logs, valkey)
    site.folder = small_disk / "var"
    worker = site.worker().started()
    ballast = small_disk / "ballast"
    fill(ballast)
    site.send_requests(100)
    line = b'{"type":"request","id":"not an id","body":"%s"}' % (b"x" * 10_000)
    site.send([line])
    eventually(lambda: "dead letters:" in worker.output(), timeout=20, what="a full disk")
    assert waiting(valkey) > 0
    ballast.unlink()
    site.proven(fired=True, dead=[key_and_hash(line)[0]])
    assert worker.terminate() == 0


def fill(ballast: Path) -> None:
    """Take all that is left of a disk."""
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(os.urandom(512)):
            pass
    assert shutil.disk_usage(ballast.parent).free == 0
