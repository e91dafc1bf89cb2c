"""How fast a worker is with the roll-ups and without, and with readers beside it and without.

Each pair of turns is a ratio, and whoever was second begins the next pair.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks.children import Child, python_module, running, spoolway
from benchmarks.drained import fill, stream_length, until_empty, until_reading
from benchmarks.events import KIB
from benchmarks.rounds import say
from benchmarks.servers import cpu_seconds, now
from benchmarks.usage.dashboards import dashboards
from benchmarks.usage.serving import merge
from benchmarks.usage.traffic import Traffic
from benchmarks.workload import Frame, pack, with_new_id
from spoolway.schema import DEFAULT_STREAM, encode_line
from tests.servers import PostgresServer, ValkeyServer

_ASIDE: Final = "benchmark:aside"
_MADE: Final = 10_000
"""Different events; all others are these with new ids."""
_SETTLING: Final = 0.5


@dataclass(slots=True)
class Turn:
    """Events that a worker stored."""

    events: int
    seconds: float
    cpu: dict[str, float]
    """CPU seconds of "worker", "database" and "redis"."""
    merging: dict[str, float] = field(default_factory=dict)
    """CPU seconds of merging what was left after it: "worker" and "database"."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def us(self) -> float:
        """CPU time of an event in worker and database, with its merging, in microseconds."""
        used = self.cpu["worker"] + self.cpu["database"] + sum(self.merging.values())
        return used / self.events * 1e6


@dataclass(slots=True)
class Pair:
    """Two turns with the same events."""

    what: str
    """"roll-ups" or "readers"."""
    kilobytes: int
    without: Turn
    beside: Turn
    """With them."""
    overviews: list[float] = field(default_factory=list)
    """Milliseconds of those that were refreshed meanwhile."""

    @property
    def kept(self) -> float:
        """Rate with ÷ rate without."""
        return self.beside.rate / self.without.rate


@dataclass(slots=True, frozen=True)
class Place:
    """Where a worker works."""

    folder: Path
    postgres: PostgresServer
    valkey: ValkeyServer
    url: str

    def drained(self, kilobytes: int, events: int, *, rolled_up: bool = True) -> Turn:
        """Let a worker store so many events; all of them are in the stream before."""
        with self.valkey.client(timeout=60) as client:
            client.flushall()
            fill(client, frames(kilobytes, events))
            client.rename(DEFAULT_STREAM, _ASIDE)
            self.postgres.sql("CHECKPOINT")
            with self._worker(client, rolled_up=rolled_up) as worker:
                before, began = self._used(worker), now()
                client.rename(_ASIDE, DEFAULT_STREAM)
                until_empty(lambda: stream_length(client), worker)
                seconds, used = now() - began, self._used(worker)
                worker.must_run()
        turn = Turn(events, seconds, {who: used[who] - before[who] for who in used})
        turn.merging = self._merged()
        return turn

    def _merged(self) -> dict[str, float]:
        database, worker = cpu_seconds(self.postgres.pid), time.process_time()
        merge(self.url)
        return {
            "worker": time.process_time() - worker,
            "database": cpu_seconds(self.postgres.pid) - database,
        }

    @contextmanager
    def _worker(self, client: Any, *, rolled_up: bool) -> Iterator[Child]:
        command = spoolway("worker", self.folder / "worker", self.valkey.url, self.url)
        if not rolled_up:
            command = [*python_module("benchmarks.usage.worker_without"), *command[1:]]
        log = self.folder / "worker.log"
        with running(command, log, {"SPOOLWAY_LOG_LEVEL": "WARNING"}) as worker:
            until_reading(client, [worker])
            time.sleep(_SETTLING)  # what it still does at its start
            yield worker

    def _used(self, worker: Child) -> dict[str, float]:
        return {
            "worker": cpu_seconds(worker.pid),
            "database": cpu_seconds(self.postgres.pid),
            "redis": cpu_seconds(self.valkey.pid),
        }


def rollups(place: Place, kilobytes: int, events: int, number: int) -> Pair:
    """Measure what the roll-ups cost, once."""
    turns = {}
    for rolled_up in (True, False) if number % 2 else (False, True):
        turns[rolled_up] = place.drained(kilobytes, events, rolled_up=rolled_up)
    pair = Pair("roll-ups", kilobytes, turns[False], turns[True])
    _say(pair)
    return pair


def readers(place: Place, kilobytes: int, events: int, number: int) -> Pair:
    """Measure what readers cost, once."""
    turns: dict[bool, Turn] = {}
    overviews: list[float] = []
    for is_read in (True, False) if number % 2 else (False, True):
        with (
            dashboards(place.folder, place.valkey.url, place.url, overviews)
            if is_read
            else nullcontext()
        ):
            turns[is_read] = place.drained(kilobytes, events)
    pair = Pair("readers", kilobytes, turns[False], turns[True], overviews)
    _say(pair)
    return pair


@cache
def _made(kilobytes: int) -> Sequence[bytes]:
    size = kilobytes * KIB
    events = Traffic(sizes=(size * 3 // 4, size * 5 // 4)).events(_MADE)
    return [encode_line(event) for event in events]


def frames(kilobytes: int, events: int) -> Iterator[Frame]:
    """Yield so many events that never were before as a stream's entries, some at a time."""
    made = _made(kilobytes)
    for start in range(0, events, len(made)):
        yield from pack([with_new_id(line) for line in made[: events - start]])


def _say(pair: Pair) -> None:
    say(
        f"{pair.kilobytes} KB: {pair.beside.rate:,.0f}/s with {pair.what}, "
        f"{pair.kept:.3f} of without; {pair.beside.us:.1f} us CPU of {pair.without.us:.1f}"
    )
