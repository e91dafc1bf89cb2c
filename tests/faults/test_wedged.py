"""Fault 17: the worker's loop stands still, and its process lives on."""

import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.site import Site, run
from tests.servers import eventually
from tests.workers import WorkerProcess, waiting

RED_WITHIN = 15.0
SLACK = 4.0
"""Seconds: the status file is written every 2 s, and `spoolway health` takes its time to start."""


def is_healthy(worker: WorkerProcess) -> bool:
    """Ask `spoolway health`."""
    return run("spoolway", "health", "--dir", str(worker.folder)).returncode == 0


def red_within_15_s_and_green_again(
    site: Site, worker: WorkerProcess, wedge: Callable[[], None], release: Callable[[], None]
) -> None:
    """Wedge a worker, look how long it is called healthy, and let it go on."""
    wedge()
    began = time.monotonic()
    site.send_requests(500)
    eventually(lambda: not is_healthy(worker), timeout=30, every=0.5, what="a red worker")
    assert time.monotonic() - began <= RED_WITHIN + SLACK
    assert waiting(site.valkey) > 0, "nothing moved"
    release()
    eventually(lambda: is_healthy(worker), timeout=90, every=0.5, what="a green worker")
    site.proven(fired=True)


@pytest.mark.chaos
def test_worker_whose_loop_is_blocked_is_unhealthy_within_15_s(site: Site) -> None:
    """The process answers signals and its threads run, but nothing moves: red, and green again."""
    worker = site.worker("wedged_worker.py", "19").started()
    assert is_healthy(worker)
    red_within_15_s_and_green_again(
        site, worker, lambda: void(site.send_requests(100)), lambda: None
    )


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["SIGSTOP", "blocked loop"])
def test_worker_that_is_wedged_for_60_s_is_unhealthy_and_loses_nothing(
    how: str, either_site: Site
) -> None:
    """A minute of standing still: red all the while, then everything lands once."""
    site = either_site
    launcher = ("wedged_worker.py", "60") if how == "blocked loop" else ()
    worker = site.worker(*launcher).started()
    assert worker.process is not None
    process = worker.process
    if how == "SIGSTOP":
        began = time.monotonic()

        def release() -> None:
            eventually(lambda: time.monotonic() - began >= 60, timeout=90, every=0.5)
            process.send_signal(signal.SIGCONT)

        red_within_15_s_and_green_again(
            site, worker, lambda: process.send_signal(signal.SIGSTOP), release
        )
    else:
        red_within_15_s_and_green_again(
            site, worker, lambda: void(site.send_requests(100)), lambda: None
        )


def void(_: object) -> None:
    """Return nothing."""
