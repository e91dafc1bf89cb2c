"""Ratios that this system has reached once, and must not fall behind: benchmarks/recorded.json.

They are of one machine; a ratio hardly depends on which, but on how many processors it has.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import orjson

from benchmarks.ratios import PAIRS, each_round
from benchmarks.rounds import Run

RECORDED: Final = Path(__file__).parent / "recorded.json"
MARGIN: Final = 0.85
"""The floor is this share of what was reached: the median of three short rounds varies by a tenth."""


@dataclass(slots=True, frozen=True)
class Recorded:
    """One contestant's events per second over another's, and the least that it may be from then."""

    of: str
    to: str
    load: str
    ratio: float
    floor: float
    machine: str
    date: str

    @property
    def what(self) -> str:
        """How the report calls it."""
        return f"{self.of} ÷ {self.to}, {self.load}"


@dataclass(slots=True, frozen=True)
class Compared:
    """A recorded ratio, and what it is now; None if it was not measured."""

    recorded: Recorded
    now: float | None

    @property
    def has_fallen(self) -> bool:
        """Whether it is under its floor. What cannot be shown to be above is."""
        return self.now is None or self.now < self.recorded.floor

    def __str__(self) -> str:
        """Return one line for who has to find out why."""
        now = "not measured" if self.now is None else f"{self.now:.2f}"
        was = self.recorded
        return f"{was.what}: {now}, floor {was.floor:.2f} ({was.ratio:.2f} on {was.date})"


def read(path: Path) -> list[Recorded]:
    """Return what is recorded; nothing if there is no such file."""
    if not path.exists():
        return []
    return msgspec.json.decode(path.read_bytes(), type=list[Recorded])


def write(path: Path, runs: Sequence[Run], machine: str, date: str) -> list[Recorded]:
    """Record what these runs reached; a ratio that they do not tell stays as it was."""
    found = {(one.of, one.to, one.load): one for one in read(path)}
    for pair in PAIRS:
        each = each_round(runs, pair.of, pair.to, pair.load) if pair.is_recorded else []
        if each:
            ratio = median(each)
            found[pair.of, pair.to, pair.load] = Recorded(
                pair.of,
                pair.to,
                pair.load,
                round(ratio, 3),
                round(ratio * MARGIN, 3),
                machine,
                date,
            )
    kept = list(found.values())
    path.write_bytes(
        orjson.dumps(
            [asdict(one) for one in kept], option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
    )
    return kept


def among(recorded: Sequence[Recorded], names: Collection[str]) -> list[Recorded]:
    """Return the ratios whose contestants are both among these names."""
    return [one for one in recorded if one.of in names and one.to in names]


def needed(recorded: Sequence[Recorded]) -> set[tuple[str, str]]:
    """Return the contestants, each with the key of a workload, that tell these ratios."""
    return {(name, one.load) for one in recorded for name in (one.of, one.to)}


def compared(recorded: Sequence[Recorded], runs: Sequence[Run]) -> Iterator[Compared]:
    """Compare with what these runs reached."""
    for one in recorded:
        each = each_round(runs, one.of, one.to, one.load)
        yield Compared(one, median(each) if each else None)
