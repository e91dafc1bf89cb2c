"""What one contestant did in one round: answers per second, CPU time, latencies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

from benchmarks.proxied.connection import Kind

KINDS: Final[tuple[Kind, ...]] = ("whole", "stream")


@dataclass(slots=True)
class Latency:
    """Milliseconds from when a request was due to the last byte of its answer."""

    requests: int
    p50: float
    p99: float
    highest: float


@dataclass(slots=True)
class Turn:
    """One contestant in one round."""

    contestant: str
    round: int
    seconds: float = 0.0
    """For which it was saturated, after a lead that is not counted."""
    answered: int = 0
    """In those seconds."""
    cpu_seconds: float = 0.0
    """Of the proxy, while it was saturated, lead and end included."""
    cpu_requests: int = 0
    """Answered in that time."""
    rate: float = 0.0
    """Requests per second at which its latency was taken."""
    latency: dict[Kind, Latency] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    """Processors that other processes used, in each of its slices."""

    @property
    def throughput(self) -> float:
        """Answers per second, saturated."""
        return self.answered / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of the proxy per request, saturated."""
        return self.cpu_seconds * 1e3 / max(self.cpu_requests, 1)


def summed(latencies: Sequence[float]) -> Latency:
    """Return what is reported of latencies in milliseconds: two at least."""
    cuts = quantiles(latencies, n=100, method="inclusive")
    return Latency(len(latencies), cuts[49], cuts[98], max(latencies))
