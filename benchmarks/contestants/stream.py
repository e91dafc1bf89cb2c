"""Spoolway: from entries that wait on the stream to committed rows, by a real `spoolway worker`.

Or, with its database away, to its spool.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks.children import Child, running, spoolway
from benchmarks.contestants.base import ALL_SIZES, LARGE, Pace, Target
from benchmarks.drained import begun, fill, stream_length, until_empty
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload
from tests.servers.ports import ReservedPort

_QUIET: Final = {"SPOOLWAY_LOG_LEVEL": "WARNING"}


class SpoolwayWorker:
    """The stream is filled first; timed is from the first delivery to the last acknowledgement."""

    pace: Pace = "batches"

    def __init__(
        self, name: str, title: str, target: Target, kilobytes: Sequence[int] = ALL_SIZES
    ) -> None:
        self.name = name
        self.title = title
        self.target = target
        self.kilobytes = kilobytes

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in."""
        with servers.valkey.client(timeout=60) as client:
            fill(client, load.frames(events))
            return drain(servers, self.target, client)[0]


class SpoolingWorker(SpoolwayWorker):
    """Timed as with a database: an entry is acknowledged when its events are synced to disk."""

    def __init__(self) -> None:
        super().__init__("spool", "Spoolway, database away, stream → spool", "spool", LARGE)


def drain(servers: Servers, target: Target, client: object) -> tuple[Measured, int]:
    """Run a worker until the stream is empty; return also its peak of resident memory in bytes."""
    closed = ReservedPort()  # kept, so that nobody listens on it
    url = {
        "postgres": servers.postgres_url,
        "sqlite": servers.sqlite_url,
        "spool": f"postgresql://spoolway@127.0.0.1:{closed.number}/spoolway",
    }[target]
    environment = _QUIET | ({"SPOOLWAY_STARTUP_TIMEOUT": "0"} if target == "spool" else {})
    command = spoolway("worker", servers.worker_folder, servers.redis_url, url)
    worker: Child
    with running(command, servers.folder / "spoolway-worker.log", environment) as worker:
        meter = Meter(servers, worker.pid)
        meter.start(begun(client, worker))
        until_empty(lambda: stream_length(client), worker)
        return meter.stop(), worker.peak_rss()
