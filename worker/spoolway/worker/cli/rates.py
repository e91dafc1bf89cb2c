"""How fast things go: from what was counted, looked at again and again, to counts per second.

Pure: it is given looks, each with its time. A counter that went back (a worker or Redis was started
anew) begins anew, and is never a negative rate.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from spoolway.worker.backlog import in_all
from spoolway.worker.fleet import Look

WINDOW_SECONDS: Final = 6.0
"""A rate is over so many of the last seconds: workers' counts come every 2 s."""

COUNTED: Final = (
    "read",
    "inserted",
    "duplicate",
    "spooled",
    "dead",
    "replayed",
    "replay_inserted",
    "replay_dead",
)
"""Of a worker's totals, those that are shown as rates."""

Key = tuple[str, ...]
PerSecond = dict[str, float | None]


@dataclass(slots=True, frozen=True)
class Speeds:
    """Counts per second; None where two looks do not tell yet."""

    added: float | None
    """Entries that came into the streams, from any producer."""
    settled: float | None
    """Entries that were acknowledged, by any worker."""
    workers: dict[Key, PerSecond]
    """Events of each worker that is seen from here, by `worker_key`."""

    @property
    def in_all(self) -> PerSecond:
        """Return the events of all workers together, of those that are known."""
        return {name: _sum([one[name] for one in self.workers.values()]) for name in COUNTED}

    @property
    def events_per_entry(self) -> float | None:
        """Return how many events an entry holds just now; None while nothing is read."""
        read = self.in_all["read"]
        return read / self.settled if read and self.settled else None


class Rates:
    """Remembers what was counted a moment ago."""

    def __init__(self) -> None:
        self._seen: dict[Key, deque[tuple[float, int]]] = {}

    def of(self, look: Look) -> Speeds:
        """Return the rates as of this look, and remember it."""
        used: set[Key] = set()

        def rate(key: Key, at: float, count: int | None) -> float | None:
            used.add(key)
            return self._rate(key, at, count)

        queue = in_all(look.streams.values()) if look.streams else None
        added = rate(("added",), look.at, queue.added if queue else None)
        settled = rate(("settled",), look.at, queue.settled if queue else None)
        workers = {
            key: {name: rate((*key, name), at, int(status.get(name, 0))) for name in COUNTED}
            for folder in look.folders
            for status in folder.workers
            for key in [worker_key(folder.dir, status)]
            for at in [float(status.get("written_at") or look.at - status["age"])]
        }
        for gone in self._seen.keys() - used:
            del self._seen[gone]
        return Speeds(added, settled, workers)

    def _rate(self, key: Key, at: float, count: int | None) -> float | None:
        if count is None:
            self._seen.pop(key, None)
            return None
        seen = self._seen.setdefault(key, deque())
        if seen and (count < seen[-1][1] or at < seen[-1][0]):
            seen.clear()
        if not seen or at > seen[-1][0]:
            seen.append((at, count))
        while len(seen) > 2 and at - seen[1][0] >= WINDOW_SECONDS:
            seen.popleft()
        (first_at, first), (last_at, last) = seen[0], seen[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None


def worker_key(folder: str, status: dict[str, Any]) -> Key:
    """Return what tells a worker from every other, and from its own predecessor."""
    return (folder, str(status.get("consumer")), str(status.get("pid")))


def _sum(rates: list[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None
