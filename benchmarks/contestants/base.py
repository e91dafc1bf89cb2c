"""What a contestant is: a way for events to become committed rows."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, Protocol, TypeVar

from benchmarks.meter import Measured
from benchmarks.servers import Servers
from benchmarks.workload import Workload
from spoolway.worker.cli.run import loop_factory

Database = Literal["postgres", "sqlite"]
Pace = Literal["batches", "one by one"]
T = TypeVar("T")


class Contestant(Protocol):
    """One line of the table. What it needs before and after its work is not in its time."""

    name: str
    """How `--only` calls it."""
    title: str
    """How the report calls it."""
    database: Database
    pace: Pace
    """Contestants of one database and one pace are given the same number of events: the number
    that keeps the fastest of them busy."""

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring this many events of the workload into the empty, migrated tables."""
        ...


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the worker uses, so that none has a better one."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)
