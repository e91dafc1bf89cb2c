"""A trend on one line: a character for each step of time, its height what happened then."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-:=+*#"
"""For a terminal whose encoding has no blocks: each has more ink than the one before."""
_NOTHING: Final = " "
_UNKNOWN: Final = "?"


def sparkline(
    values: Sequence[float | None], *, width: int, steps: str = BLOCKS, top: float | None = None
) -> str:
    """Return at most `width` characters; where there are more values, each stands for several.

    Nothing is a space, the least there is the lowest step, and the most, or `top`, the highest:
    heights are from zero up, so that twice as high is twice as much. None is unknown: `?`.
    """
    columns = _squeezed(values, width)
    most = max((value for value in columns if value is not None), default=0.0)
    most = max(most, top or 0.0)
    return "".join(_step(value, most, steps) for value in columns)


def steps_for(encoding: str | None) -> str:
    """Return the blocks if they can be written in an encoding, else ASCII."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def steps_here() -> str:
    """Return what stdout can show."""
    return steps_for(getattr(sys.stdout, "encoding", None))


def _step(value: float | None, most: float, steps: str) -> str:
    if value is None:
        return _UNKNOWN
    if value <= 0 or most <= 0:
        return _NOTHING
    return steps[max(ceil(value / most * len(steps)), 1) - 1]


def _squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    """Return as many values as there is room for, each the mean of those it stands for."""
    if len(values) <= width:
        return list(values)
    bounds = [at * len(values) // width for at in range(width + 1)]
    return [_mean(values[first:end]) for first, end in pairwise(bounds)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
