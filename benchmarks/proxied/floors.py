"""What recording may cost a proxy: compared with the proxy that is not recorded, in each round."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.floors import MIB, Verdict
from benchmarks.proxied.memory import Held
from benchmarks.proxied.turns import KINDS, Turn

BARE: Final = "none"
"""Who is compared with: nobody records."""
JUDGED: Final = ("spoolway", "stopped", "hung", "full")
THROUGHPUT: Final = 0.95
"""Least share of the answers per second."""
P99_MS: Final = 1.0
"""Most milliseconds by which the slowest answer of a hundred may be later."""


@dataclass(slots=True, frozen=True)
class Spread:
    """A measure over all rounds."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the ends; of at least one value."""
    return Spread(median(values), min(values), max(values))


@dataclass(slots=True, frozen=True)
class Cost:
    """What one contestant costs, round by round beside the proxy that is not recorded."""

    contestant: str
    throughput: Spread
    """Share of its answers per second."""
    cpu_ms: Spread
    """CPU milliseconds more per request."""
    p50_ms: dict[str, Spread]
    p99_ms: dict[str, Spread]
    """Milliseconds later, by what was asked for."""


def costs(turns: Sequence[Turn]) -> list[Cost]:
    """Compare everyone with the proxy that is not recorded, within each round."""
    bare = {turn.round: turn for turn in turns if turn.contestant == BARE}
    names = dict.fromkeys(turn.contestant for turn in turns if turn.contestant != BARE)
    found: list[Cost] = []
    for name in names:
        pairs = [(turn, bare[turn.round]) for turn in turns if turn.contestant == name]
        found.append(
            Cost(
                name,
                spread([turn.throughput / to.throughput for turn, to in pairs]),
                spread([turn.cpu_ms - to.cpu_ms for turn, to in pairs]),
                {
                    kind: spread([t.latency[kind].p50 - to.latency[kind].p50 for t, to in pairs])
                    for kind in KINDS
                },
                {
                    kind: spread([t.latency[kind].p99 - to.latency[kind].p99 for t, to in pairs])
                    for kind in KINDS
                },
            )
        )
    return found


def verdicts(turns: Sequence[Turn], held: Held | None) -> list[Verdict]:
    """Judge what was measured; what was not is left out."""
    return [*_of_costs(costs(turns)), *_of_memory(held)]


def _of_costs(found: Sequence[Cost]) -> Iterator[Verdict]:
    for cost in found:
        if cost.contestant not in JUDGED:
            continue
        share = cost.throughput
        yield Verdict(
            f"throughput, {cost.contestant} ÷ {BARE}",
            f"≥ {THROUGHPUT:g}",
            f"{share.median:.3f} ({share.lowest:.3f}-{share.highest:.3f})",
            share.median >= THROUGHPUT,
        )
        for kind, later in cost.p99_ms.items():
            yield Verdict(
                f"p99, {kind}, {cost.contestant} over {BARE}",
                f"≤ {P99_MS:g} ms",
                f"{later.median:+.2f} ms ({later.lowest:+.2f} to {later.highest:+.2f})",
                later.median <= P99_MS,
            )


def _of_memory(held: Held | None) -> Iterator[Verdict]:
    if held:
        yield Verdict(
            f"memory, {held.streams:,} streams of {held.stream_bytes / 1e6:g} MB at once",
            f"≤ {held.bound / MIB:,.0f} MB",
            f"{held.growth / MIB:,.0f} MB",
            held.growth <= held.bound,
        )
