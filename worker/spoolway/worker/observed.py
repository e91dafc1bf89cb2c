"""How large and how slow batches are, and why letters are dead: counted where a batch is settled.

Per batch, not per event: thousands of them a second must not pay for being counted.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from spoolway.schema import RequestEvent

if TYPE_CHECKING:  # `spoolway health` reads counts as well, and needs no database driver
    from spoolway.worker.stores import Item

_SAMPLES: Final = 16
"""Events of a batch that are asked how old they are; each stands for as many as lie between."""


class Distribution:
    """How many values were at most each bound, and what they add up to."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, *bounds: float) -> None:
        self.bounds: Final = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, for as many as it stands for."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yield each bound as Prometheus writes it, and how many values were at most that."""
        names = [*(repr(float(bound)) for bound in self.bounds), "+Inf"]
        return zip(names, accumulate(self.counts), strict=True)


class Observed:
    """What one worker's live batches were like."""

    def __init__(self) -> None:
        self.batch_events = Distribution(1, 10, 100, 500, 1000, 2000, 4000, 8000, 16_000)
        self.batch_bytes = Distribution(*(float(4**power) for power in range(7, 14)))
        """16 KiB to 64 MiB."""
        self.batch_seconds = Distribution(
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
        )
        self.commit_seconds = Distribution(
            0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600
        )
        self.dead: Counter[str] = Counter()

    def settled(self, events: int, size: int, seconds: float) -> None:
        """Count a batch that is safe: its events, the bytes of their lines, how long it took."""
        self.batch_events.observe(events)
        self.batch_bytes.observe(size)
        self.batch_seconds.observe(seconds)

    def committed(self, items: "Sequence[Item]") -> None:
        """Count how old events are that are rows since just now."""
        now = time.time()
        step = max(1, len(items) // _SAMPLES)
        for first in range(0, len(items), step):
            # A clock that is ahead is not an event of the future.
            age = max(0.0, now - _ended_at(items[first]))
            self.commit_seconds.observe(age, min(step, len(items) - first))


def _ended_at(item: "Item") -> float:
    """Return when an event could be emitted first: a request's id is minted when it starts."""
    event = item.event
    began = (event.id.int >> 80) / 1000
    if isinstance(event, RequestEvent) and event.duration_ms:
        return began + max(0.0, event.duration_ms / 1000)
    return began
