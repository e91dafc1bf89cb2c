"""Who is compared with whom, within each round: what slows a machine down slows both."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.probes.base import Bound, Figure
from benchmarks.rounds import Run


class Pair(NamedTuple):
    """One contestant's events per second over another's."""

    of: str
    to: str
    load: str
    bound: Bound | None = None
    """What is asked for in the long run, on any machine of two processors."""
    is_recorded: bool = False
    """Whether it must not become less than it was; see `recorded`."""

    @property
    def what(self) -> str:
        """How the report calls it."""
        return f"{self.of} ÷ {self.to}, {self.load}"


def _kept(of: str, to: str, load: str, floor: float, aim: float | None = None) -> Pair:
    return Pair(of, to, load, Bound(floor, aim, at_least=True), is_recorded=True)


PAIRS: Final = (
    _kept("spoolway", "copy", "1 KB", 0.9, 1.1),
    _kept("spoolway", "copy", "4 KB", 1.0, 1.3),
    _kept("spoolway", "copy", "32 KB", 1.0, 1.3),
    Pair("spoolway", "copy", "mixed", is_recorded=True),
    _kept("spoolway", "copy-saturating", "1 KB", 0.65, 0.85),
    _kept("spoolway", "copy-saturating", "4 KB", 0.65, 0.85),
    _kept("spoolway", "copy-saturating", "32 KB", 0.65, 0.85),
    Pair("spoolway", "copy-saturating", "mixed"),
    Pair("spoolway-2", "copy-saturating", "1 KB"),
    Pair("spoolway-2", "copy-saturating", "4 KB"),
    Pair("spoolway-2", "copy-saturating", "32 KB"),
    Pair("spoolway-2", "copy-saturating", "mixed"),
    _kept("spoolway", "orm", "4 KB", 20, 35),
    _kept("spoolway", "arq", "4 KB", 15, 25),
    Pair("spoolway", "bulk", "4 KB"),
    Pair("spoolway", "list", "4 KB"),
    _kept("sqlite-spoolway", "sqlite-executemany", "4 KB", 0.7, 0.9),
    Pair("sqlite-spoolway", "sqlite-executemany", "mixed"),
    Pair("spool", "append", "4 KB"),
    Pair("spool-writer", "append", "4 KB"),
    _kept("replay", "spoolway", "4 KB", 0.9),
    _kept("replay-command", "spoolway", "4 KB", 0.9),
)
LIMITS: Final = {"postgres": "copy", "sqlite": "sqlite-executemany", "spool": "append"}
"""By where events end up: who has nothing to do but to write, one thing at a time."""
SATURATING: Final = "copy-saturating"
SPOOL_RATE: Final = 20_000
SPOOL_RATIO: Final = 0.5
"""Least events of 4 KB per second into a worker's spool; where the disk does not take twice that, the
least share of what it takes."""
WORKER_CPU: Final = Bound(floor=20, aim=10)
"""Most microseconds of a worker's processor per event of 4 KB."""
PACKED: Final = Bound(floor=0.45, aim=0.3)
"""Most bytes of a frame of 4 KB events, over their JSON."""


def each_round(runs: Sequence[Run], of: str, to: str, load: str) -> list[float]:
    """Return one contestant's rate over another's in each round that has both."""
    rates = {(run.contestant, run.round): run.rate for run in runs if run.load == load}
    return [
        rate / rates[to, number]
        for (name, number), rate in rates.items()
        if name == of and (to, number) in rates
    ]


def figures(runs: Sequence[Run], loads: Sequence[dict[str, Any]]) -> Iterator[Figure]:
    """Yield what the contest tells, one of each for each round."""
    for pair in PAIRS:
        for ratio in each_round(runs, pair.of, pair.to, pair.load):
            yield Figure(pair.what, ratio, "", pair.bound)
    yield from _spooling(runs)
    for run in runs:
        if (run.contestant, run.load) == ("spoolway", "4 KB"):
            used = run.cpu["client"] / run.events * 1e6
            yield Figure("worker CPU per event, 4 KB", used, "µs", WORKER_CPU)
    for load in loads:
        bound = PACKED if load["load"] == "4 KB" else None
        yield Figure(f"bytes of a frame ÷ raw JSON, {load['load']}", load["packed"], "", bound)


def _spooling(runs: Sequence[Run]) -> Iterator[Figure]:
    """Judge by the lesser of two bounds: a slow disk is not the spool's fault."""
    rates = {(run.contestant, run.round): run.rate for run in runs}
    for (name, number), rate in rates.items():
        if name == "spool" and (append := rates.get(("append", number))):
            yield Figure(
                f"spool ÷ the lesser of {SPOOL_RATE:,}/s and {SPOOL_RATIO:g} of append, 4 KB",
                rate / min(SPOOL_RATE, append * SPOOL_RATIO),
                "",
                Bound(1.0, at_least=True),
            )
