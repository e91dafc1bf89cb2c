"""What a contestant is: a way for events to become committed rows, or a spool on disk."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Literal, Protocol, TypeVar

from benchmarks.meter import Measured
from benchmarks.servers import Servers
from benchmarks.workload import SIZES, Workload, key_of
from spoolway.worker.cli.run import loop_factory

Target = Literal["postgres", "sqlite", "spool"]
"""Where the events end up, and are counted."""
Pace = Literal["batches", "hundreds", "one by one"]
"""How many rows a transaction has, and with it how many events make a turn."""
T = TypeVar("T")

ALL: Final[Sequence[str]] = [key_of(size) for size in SIZES]
PLAIN: Final[Sequence[str]] = ("4 KB",)
"""For what is promised of 4 KB, and would take minutes more with all sizes."""


class Contestant(Protocol):
    """One line of the table. What it needs before and after its work is not in its time."""

    name: str
    """How `--only` calls it."""
    title: str
    """How the report calls it."""
    target: Target
    pace: Pace
    """Contestants of one target and one pace are given the same number of events: the number that
    keeps the fastest of them busy."""
    loads: Sequence[str]
    """The keys of the workloads it is measured with."""

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring this many events of the workload into the empty, migrated tables, or spool."""
        ...


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the worker uses, so that none has a better one."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
