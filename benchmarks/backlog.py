"""A long backlog: what the worker's memory and Redis' memory come to, and how fast it goes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from benchmarks.contestants.stream import drain
from benchmarks.drained import fill
from benchmarks.servers import Servers
from benchmarks.workload import Frame, Workload, pack, with_new_id

_MADE: Final = 10_000
"""Events made for it; the others are the same with new ids."""


@dataclass(slots=True, frozen=True)
class Backlog:
    """Events that waited, and what that took. Bytes."""

    events: int
    json_bytes: int
    redis_bytes: int
    worker_peak_rss: int
    seconds: float


def measure(servers: Servers, load: Workload, events: int) -> Backlog:
    """Fill the stream, then have one worker drain all of it into PostgreSQL."""
    with servers.valkey.client(timeout=60) as client:
        before = _memory(client)
        fill(client, _frames(load, events))
        redis_bytes = _memory(client) - before
        measured, peak = drain(servers, "postgres", client)
    rows = servers.postgres_rows().rows
    assert rows == events, f"{rows} rows in the tables, {events} events were on the stream"
    size = load.described()["bytes_per_event"]
    return Backlog(events, size * events, redis_bytes, peak, measured.seconds)


def _frames(load: Workload, events: int) -> Iterator[Frame]:
    for start in range(0, events, _MADE):
        lines = load.lines(min(_MADE, events - start))
        if start:
            lines = [with_new_id(line) for line in lines]
        yield from pack(lines)


def _memory(client: Any) -> int:
    return int(cast("dict[str, Any]", client.info("memory"))["used_memory"])
