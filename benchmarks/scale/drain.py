"""Workers that start on a stream at the same moment: how fast it shrinks, and who uses the CPU."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from benchmarks.children import Child, running, spoolway
from benchmarks.drained import stream_length, until_empty, until_reading
from benchmarks.servers import Servers, cpu_seconds, now
from spoolway.schema import DEFAULT_STREAM

_ASIDE: Final = "benchmark:aside"
_SETTLING: Final = 0.5
"""Seconds for what a worker still does when it waits for its first entry already."""


@dataclass(slots=True, frozen=True)
class Drained:
    """Events that became rows."""

    events: int
    seconds: float
    cpu: dict[str, float]
    """CPU seconds of "workers" (all of them), "postgresql" and "redis"."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


def drain(
    servers: Servers,
    client: Any,
    events: int,
    *,
    workers: int = 1,
    database_url: str | None = None,
    leave: int = 0,
) -> Drained:
    """Let workers take `events` from the stream that was filled; `leave` entries stay.

    They are all ready before there is anything to take: nobody's start is in the time.
    """
    client.rename(DEFAULT_STREAM, _ASIDE)
    with _standing(servers, client, workers, database_url or servers.postgres_url) as children:
        before = _used(servers, children)
        began = now()
        client.rename(_ASIDE, DEFAULT_STREAM)
        until_empty(lambda: max(stream_length(client) - leave, 0), children[0])
        seconds = now() - began
        used = _used(servers, children)
        for child in children:
            child.must_run()
    return Drained(events, seconds, {who: used[who] - before[who] for who in used})


@contextmanager
def _standing(
    servers: Servers, client: Any, workers: int, database_url: str
) -> Iterator[Sequence[Child]]:
    """Start workers, and wait until each of them waits for the first entry."""
    command = spoolway("worker", servers.worker_folder, servers.redis_url, database_url)
    with ExitStack() as started:
        children = [
            started.enter_context(
                running(
                    command,
                    servers.folder / f"scale-worker-{number}.log",
                    {"SPOOLWAY_LOG_LEVEL": "WARNING"},
                )
            )
            for number in range(workers)
        ]
        until_reading(client, children)
        time.sleep(_SETTLING)
        yield children


def _used(servers: Servers, children: Sequence[Child]) -> dict[str, float]:
    return {
        "workers": sum(cpu_seconds(child.pid) for child in children),
        "postgresql": cpu_seconds(servers.postgres.pid),
        "redis": cpu_seconds(servers.valkey.pid),
    }


def used_memory(client: Any) -> int:
    """Return the bytes that Redis has allocated."""
    return int(cast("dict[str, Any]", client.info("memory"))["used_memory"])
