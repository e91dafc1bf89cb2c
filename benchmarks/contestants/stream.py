"""Spoolway: from entries that wait on the stream to committed rows, by a real `spoolway worker`."""

from benchmarks.children import Child, running, spoolway_worker
from benchmarks.contestants.base import Database, Pace
from benchmarks.drained import begun, fill, stream_length, until_empty
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload


class SpoolwayWorker:
    """The stream is filled first; timed is from the first delivery to the last acknowledgement."""

    pace: Pace = "batches"

    def __init__(self, name: str, title: str, database: Database) -> None:
        self.name = name
        self.title = title
        self.database = database

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in."""
        with servers.valkey.client(timeout=60) as client:
            fill(client, load.frames(events))
            return drain(servers, self.database, client)[0]


def drain(servers: Servers, database: Database, client: object) -> tuple[Measured, int]:
    """Run a worker until the stream is empty; return also its peak of resident memory in bytes."""
    url = servers.postgres_url if database == "postgres" else servers.sqlite_url
    command = spoolway_worker(servers.folder / "worker", servers.redis_url, url)
    environment = {"SPOOLWAY_LOG_LEVEL": "WARNING"}
    worker: Child
    with running(command, servers.folder / "spoolway-worker.log", environment) as worker:
        meter = Meter(servers, worker.pid)
        meter.start(begun(client, worker))
        until_empty(lambda: stream_length(client), worker)
        return meter.stop(), worker.peak_rss()
