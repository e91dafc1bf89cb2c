"""Figures as they are reported: the median of all rounds, and what is to be said of it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final

from benchmarks.probes.base import Bound, Figure

_PRECISION: Final = ((100.0, 0), (10.0, 1), (0.0, 2))
"""Decimal places from a value on."""


@dataclass(slots=True, frozen=True)
class Judged:
    """All figures of one name."""

    what: str
    unit: str
    median: float
    lowest: float
    highest: float
    bound: Bound | None

    @property
    def verdict(self) -> str:
        """Whether it is what it must be, and as good as it should be; nothing if nobody asks."""
        if self.bound is None:
            return ""
        if not self.bound.is_met(self.median):
            return "FALLS SHORT"
        aim = self.bound.aim
        if aim is not None and replace(self.bound, floor=aim).is_met(self.median):
            return "aim"
        return "pass"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "lowest": self.lowest,
            "highest": self.highest,
            "floor": self.bound and self.bound.floor,
            "aim": self.bound and self.bound.aim,
            "verdict": self.verdict,
        }

    @property
    def shown(self) -> str:
        """What was measured, for people."""
        gap = "" if self.unit in ("", "/s") else " "
        spread = "" if self.lowest == self.highest else f" ({self._spread})"
        return f"{number(self.median)}{gap}{self.unit}{spread}"

    @property
    def _spread(self) -> str:
        return f"{number(self.lowest)}-{number(self.highest)}"

    def as_row(self) -> str:
        """Return it as a line of a Markdown table."""
        floor = aim = ""
        if self.bound:
            floor = f"{'≥' if self.bound.at_least else '≤'} {self.bound.floor:,g}"
            aim = f"{self.bound.aim:,g}" if self.bound.aim is not None else ""
        return f"| {self.what} | {self.shown} | {floor} | {aim} | {self.verdict} |"


def judged(figures: Iterable[Figure]) -> list[Judged]:
    """Put figures of the same name together, in the order in which they first come."""
    by_name: dict[str, list[Figure]] = {}
    for figure in figures:
        by_name.setdefault(figure.what, []).append(figure)
    return [
        Judged(
            what,
            same[0].unit,
            median(figure.value for figure in same),
            min(figure.value for figure in same),
            max(figure.value for figure in same),
            same[0].bound,
        )
        for what, same in by_name.items()
    ]


def number(value: float) -> str:
    """Return three digits, or all of those before the point."""
    places = next(places for least, places in _PRECISION if abs(value) >= least)
    return f"{value:,.{places}f}"
