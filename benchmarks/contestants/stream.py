"""Spoolway: from entries that wait on the stream to committed rows, by real `spoolway worker`s.

Or, with their database away, to a spool.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from benchmarks.children import Child, running, spoolway
from benchmarks.contestants.base import PLAIN, Pace, Target
from benchmarks.drained import make_group, push, stream_length, until_empty, until_reading
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload
from tests.servers.ports import ReservedPort

_QUIET: Final = {"SPOOLWAY_LOG_LEVEL": "WARNING", "SPOOLWAY_ENRICH": "false"}
"""What the worker itself takes: what a price list adds to that is told in docs/cost.md."""


class SpoolwayWorkers:
    """Workers wait, connected, while the stream is filled.

    Timed is from the moment at which they may take from it to the last acknowledgement.
    """

    pace: Pace = "batches"

    def __init__(
        self, name: str, title: str, target: Target, loads: Sequence[str], workers: int = 1
    ) -> None:
        self.name = name
        self.title = title
        self.target = target
        self.loads = loads
        self._workers = workers

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in."""
        frames = load.frames(events)
        with servers.valkey.client(timeout=60) as client, ExitStack() as running_workers:
            make_group(client)
            workers = [
                running_workers.enter_context(_worker(servers, self.target, folder))
                for folder in servers.worker_folders(self._workers)
            ]
            until_reading(client, workers)
            for worker in workers:
                worker.pause()
            push(client, frames)
            os.sync()  # Redis' file, which would otherwise be written while they are measured
            meter = Meter(servers, *(worker.pid for worker in workers))
            meter.start()
            for worker in workers:
                worker.go_on()
            until_empty(lambda: stream_length(client), workers[0])
            return meter.stop()


class SpoolingWorker(SpoolwayWorkers):
    """Timed as with a database: an entry is acknowledged when its events are synced to disk."""

    def __init__(self) -> None:
        super().__init__("spool", "Spoolway, database away, stream → spool", "spool", PLAIN)


@contextmanager
def _worker(servers: Servers, target: Target, folder: Path) -> Iterator[Child]:
    closed = ReservedPort()  # kept, so that nobody listens on it
    url = {
        "postgres": servers.postgres_url,
        "sqlite": servers.sqlite_url,
        "spool": f"postgresql://spoolway@127.0.0.1:{closed.number}/spoolway",
    }[target]
    environment = _QUIET | ({"SPOOLWAY_STARTUP_TIMEOUT": "0"} if target == "spool" else {})
    command = spoolway("worker", folder, servers.redis_url, url)
    with running(command, servers.folder / f"{folder.name}.log", environment) as child:
        yield child
