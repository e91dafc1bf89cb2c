"""A Redis list and a loop around `executemany`: what an engineer writes in an afternoon.

A process of its own takes 500 events with one LPOP, so that a crash loses them.
"""

from typing import Final

from benchmarks.children import python_module, running
from benchmarks.contestants import list_consumer
from benchmarks.contestants.base import PLAIN, Pace, Target
from benchmarks.drained import until_empty
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload

_CHUNK: Final = 500


class RedisList:
    """The list is filled first; timed is from the start signal to the last commit."""

    name = "list"
    title = f"Redis list, LPOP {list_consumer.BATCH}, asyncpg executemany"
    target: Target = "postgres"
    pace: Pace = "hundreds"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in; each is one JSON text on the list."""
        environment = {"REDIS_URL": servers.redis_url, "DATABASE_URL": servers.postgres_url}
        command = python_module(list_consumer.__name__)
        lines = load.lines(events)
        with (
            servers.valkey.client(timeout=60) as client,
            running(command, servers.folder / "list.log", environment) as consumer,
        ):
            for start in range(0, events, _CHUNK):
                client.rpush(list_consumer.EVENTS, *lines[start : start + _CHUNK])
            while not client.blpop([list_consumer.READY], timeout=1):
                consumer.must_run()
            meter = Meter(servers, consumer.pid)
            meter.start()
            client.rpush(list_consumer.GO, 1)
            until_empty(
                lambda: events - int(client.get(list_consumer.COMMITTED) or 0),
                consumer,
            )
            return meter.stop()
