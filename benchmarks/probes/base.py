"""What a probe is: something measured that is no contest, such as a latency, or memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.servers import Servers


@dataclass(slots=True, frozen=True)
class Bound:
    """What is required of a figure (`floor`), and what would be good (`aim`)."""

    floor: float
    aim: float | None = None
    at_least: bool = False
    """Whether more is better; otherwise less is."""

    def is_met(self, value: float) -> bool:
        """Tell whether the figure is on the right side of the floor."""
        return value >= self.floor if self.at_least else value <= self.floor


@dataclass(slots=True, frozen=True)
class Figure:
    """One number, its unit, and its bound if one is promised.

    Figures of the same name, from several rounds, are reported as their median with the lowest and
    the highest.
    """

    what: str
    value: float
    unit: str
    """As it is printed behind the number: µs, ms, MB, %, /s; empty for a ratio."""
    bound: Bound | None = None


class Probe(Protocol):
    """Measures something on clean servers."""

    name: str
    """How `--only` calls it."""
    each_round: bool
    """Whether every round measures it anew, or the run once at its end."""

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Measure; `quick` asks for a hundredth of the work, to see that it runs at all."""
        ...
