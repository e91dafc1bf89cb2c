"""What must not become slower: ratios within one run, and absolute bounds where they are promised."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.backlog import Backlog
from benchmarks.emit import Emitted
from benchmarks.rounds import Run

MIB: Final = 1 << 20


@dataclass(slots=True, frozen=True)
class Ratio:
    """One contestant's events per second over another's, round by round."""

    of: str
    to: str
    kilobytes: int
    median: float
    lowest: float
    highest: float


RATIOS: Final = (
    ("spoolway", "copy", 0.7),
    ("spoolway", "orm", 10.0),
    ("spoolway", "arq", 8.0),
    ("sqlite-spoolway", "sqlite-executemany", None),
    ("orm", "copy", None),
    ("arq", "copy", None),
)
LIMITS: Final = ("copy", "sqlite-executemany")
"""Who has nothing to do but to write."""
"""Who is compared with whom, and the floor, if there is one."""
EMIT_US: Final = 30.0
"""Most microseconds of `emit()`, median, 4 KB."""
BACKLOG_RSS: Final = 200 * MIB
"""Most bytes of a worker's resident memory, whatever waits on the stream."""


@dataclass(slots=True, frozen=True)
class Verdict:
    """One bound, and what was measured."""

    what: str
    bound: str
    measured: str
    met: bool


def ratios(runs: Sequence[Run]) -> list[Ratio]:
    """Compare who is to be compared, within each round: what slows a machine down slows both."""
    found: list[Ratio] = []
    for kilobytes in sorted({run.kilobytes for run in runs}):
        rates = {
            (run.contestant, run.round): run.rate for run in runs if run.kilobytes == kilobytes
        }
        for of, to, _ in RATIOS:
            each = [
                rate / rates[to, number]
                for (name, number), rate in rates.items()
                if name == of and (to, number) in rates
            ]
            if each:
                found.append(Ratio(of, to, kilobytes, median(each), min(each), max(each)))
    return found


def verdicts(
    measured: Sequence[Ratio], emitted: Sequence[Emitted], backlog: Backlog | None
) -> list[Verdict]:
    """Judge what was measured; what was not is left out."""
    found: list[Verdict] = []
    floors = {(of, to): floor for of, to, floor in RATIOS}
    for ratio in measured:
        floor = floors[ratio.of, ratio.to]
        if floor is not None:
            found.append(
                Verdict(
                    f"{ratio.of} ÷ {ratio.to}, {ratio.kilobytes} KB",
                    f"≥ {floor:g}",
                    f"{ratio.median:.2f} ({ratio.lowest:.2f}-{ratio.highest:.2f})",
                    ratio.median >= floor,
                )
            )
    if emitted:
        medians = [one.median_us for one in emitted]
        found.append(
            Verdict(
                "emit(), median, 4 KB, headers sanitised",
                f"≤ {EMIT_US:g} µs",
                f"{median(medians):.1f} µs ({min(medians):.1f}-{max(medians):.1f})",
                median(medians) <= EMIT_US,
            )
        )
    if backlog:
        found.append(
            Verdict(
                f"worker RSS, peak, {backlog.events:,} events waiting",
                f"≤ {BACKLOG_RSS // MIB} MB",
                f"{backlog.worker_peak_rss / MIB:.0f} MB",
                backlog.worker_peak_rss <= BACKLOG_RSS,
            )
        )
    return found
