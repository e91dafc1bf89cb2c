"""A bound, and what was measured."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


@dataclass(slots=True, frozen=True)
class Verdict:
    """One bound, and what was measured."""

    what: str
    bound: str
    measured: str
    met: bool
