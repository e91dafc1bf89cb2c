"""What must not become slower: ratios within one run, and absolute bounds where they are promised."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.backlog import Backlog
from benchmarks.emit import Emitted
from benchmarks.opening import Opened
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
    ("replay", "spoolway", 0.9),
    ("replay-command", "spoolway", 0.9),
    ("replay", "copy", None),
    ("replay-command", "copy", None),
    ("sqlite-spoolway", "sqlite-executemany", None),
    ("spool", "append", None),
    ("spool-writer", "append", None),
    ("orm", "copy", None),
    ("arq", "copy", None),
)
"""Who is compared with whom, and the floor, if there is one."""
LIMITS: Final = ("copy", "sqlite-executemany", "append")
"""Who has nothing to do but to write."""
SPOOL_RATE: Final = 20_000
SPOOL_RATIO: Final = 0.5
"""Least events of 4 KB per second into a worker's spool; where the disk does not take twice that, the
least share of what it takes."""
EMIT_US: Final = 30.0
"""Most microseconds of `emit()`, median, 4 KB."""
BACKLOG_RSS: Final = 200 * MIB
"""Most bytes of a worker's resident memory, whatever waits on the stream."""
OPENING_SECONDS: Final = 1.0
"""Most seconds until the first events of a spool of a million are read."""


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
    runs: Sequence[Run],
    emitted: Sequence[Emitted],
    backlog: Backlog | None,
    opened: Opened | None,
) -> list[Verdict]:
    """Judge what was measured; what was not is left out."""
    measured = ratios(runs)
    return [
        *_of_ratios(measured),
        *_of_spooling(runs, measured),
        *_of_emit(emitted),
        *_of_backlog(backlog),
        *_of_opening(opened),
    ]


def _of_ratios(measured: Sequence[Ratio]) -> Iterator[Verdict]:
    floors = {(of, to): floor for of, to, floor in RATIOS}
    for ratio in measured:
        floor = floors[ratio.of, ratio.to]
        if floor is not None:
            yield Verdict(
                f"{ratio.of} ÷ {ratio.to}, {ratio.kilobytes} KB",
                f"≥ {floor:g}",
                f"{ratio.median:.2f} ({ratio.lowest:.2f}-{ratio.highest:.2f})",
                ratio.median >= floor,
            )


def _of_spooling(runs: Sequence[Run], measured: Sequence[Ratio]) -> Iterator[Verdict]:
    """Judge by the lesser of two bounds: a slow disk is not the spool's fault."""
    rates = [run.rate for run in runs if run.contestant == "spool"]
    shares = [ratio.median for ratio in measured if (ratio.of, ratio.to) == ("spool", "append")]
    if rates and shares:
        rate, share = median(rates), shares[0]
        yield Verdict(
            "spool, 4 KB",
            f"≥ {SPOOL_RATE:,}/s, or ≥ {SPOOL_RATIO:g} of append",
            f"{rate:,.0f}/s ({min(rates):,.0f}-{max(rates):,.0f}), {share:.2f} of append",
            rate >= SPOOL_RATE or share >= SPOOL_RATIO,
        )


def _of_emit(emitted: Sequence[Emitted]) -> Iterator[Verdict]:
    if medians := [one.median_us for one in emitted if one.search == "re2"]:
        yield Verdict(
            "emit(), median, 4 KB, everything redacted",
            f"≤ {EMIT_US:g} µs",
            f"{median(medians):.1f} µs ({min(medians):.1f}-{max(medians):.1f})",
            median(medians) <= EMIT_US,
        )


def _of_backlog(backlog: Backlog | None) -> Iterator[Verdict]:
    if backlog:
        yield Verdict(
            f"worker RSS, peak, {backlog.events:,} events waiting",
            f"≤ {BACKLOG_RSS // MIB} MB",
            f"{backlog.worker_peak_rss / MIB:.0f} MB",
            backlog.worker_peak_rss <= BACKLOG_RSS,
        )


def _of_opening(opened: Opened | None) -> Iterator[Verdict]:
    if opened:
        yield Verdict(
            f"opening a spool of {opened.events:,} events",
            f"≤ {OPENING_SECONDS:g} s",
            f"{opened.seconds:.3f} s",
            opened.seconds <= OPENING_SECONDS,
        )
