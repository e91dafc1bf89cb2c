"""One stream, 1 to 4 workers: until when another one makes it faster, and who is the limit then."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.drained import fill
from benchmarks.rounds import say
from benchmarks.scale.drain import Drained, drain
from benchmarks.scale.stock import frames
from benchmarks.servers import Servers

WORKERS: Final = (1, 2, 3, 4)
EVENTS: Final = {1: 150_000, 4: 50_000}
"""Kilobytes → events: two seconds' work or more for one worker."""


@dataclass(slots=True, frozen=True)
class ByWorkers:
    """One turn of some workers."""

    kilobytes: int
    workers: int
    turn: int
    drained: Drained


def by_workers(servers: Servers, turns: int, share: int) -> Iterator[ByWorkers]:
    """Give each number of workers its turns, interleaved; 1 of `share` events."""
    for turn in range(1, turns + 1):
        for kilobytes, all_events in EVENTS.items():
            for workers in _rotated(WORKERS, turn):
                events = all_events // share
                servers.clean()
                with servers.valkey.client(timeout=60) as client:
                    fill(client, frames(kilobytes, events))
                    drained = drain(servers, client, events, workers=workers)
                rows = servers.postgres_rows().rows
                assert rows == events, f"{rows} rows of {events} events"
                say(f"{kilobytes} KB, {workers} workers: {drained.rate:,.0f}/s")
                yield ByWorkers(kilobytes, workers, turn, drained)


def _rotated(numbers: Sequence[int], turn: int) -> list[int]:
    """Begin with another one each time: none is always the first on a cold machine."""
    first = (turn - 1) % len(numbers)
    return [*numbers[first:], *numbers[:first]]
