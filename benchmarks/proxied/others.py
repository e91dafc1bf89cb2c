"""What else runs on this machine: a load that was disturbed is repeated, whatever came of it.

A few stolen milliseconds are nothing to a mean, and everything to the slowest of a hundred answers.
"""

import os
from collections.abc import Callable
from time import monotonic
from typing import Final, TypeVar

import psutil

from benchmarks.servers import cpu_seconds

QUIET: Final = 0.1
"""Processors that others may use."""
ATTEMPTS: Final = 3
"""Of which the least disturbed one counts."""

T = TypeVar("T")


def undisturbed(
    load: Callable[[], T], others: "Callable[[], Callable[[], float]] | None" = None
) -> tuple[T, float]:
    """Return what came of a load, and how many processors others used meanwhile."""
    watch = others or watched
    least: tuple[T, float] | None = None
    for _ in range(ATTEMPTS):
        used = watch()
        found = load(), used()
        if least is None or found[1] < least[1]:
            least = found
        if found[1] <= QUIET:
            break
    assert least is not None
    return least


def watched() -> Callable[[], float]:
    """Begin to watch; what is returned tells how many processors others have used since.

    Others are all processes but this one and its children, and whoever else runs on the hardware
    below a virtual machine, as far as the kernel is told.
    """
    began, all_before, ours_before = monotonic(), _busy_seconds(), cpu_seconds(os.getpid())

    def used() -> float:
        theirs = _busy_seconds() - all_before - (cpu_seconds(os.getpid()) - ours_before)
        return max(theirs, 0.0) / (monotonic() - began)

    return used


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    # Not the time of interrupts: that of our own packets belongs to no process.
    return float(times.user + times.system + times.nice + getattr(times, "steal", 0.0))
