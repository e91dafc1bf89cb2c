"""Histograms of milliseconds that add up: counts by bucket, and what can be told from them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

from spoolway.schema.usage import BOUNDS_MS

_bucket: Final = partial(bisect_left, BOUNDS_MS)


def histogram(values_ms: Iterable[float]) -> Counter[int]:
    """Return how many values are in each bucket; what is negative is in the first."""
    return Counter(map(_bucket, values_ms))


def quantile(
    counts: Mapping[int, int], share: float, least: float | None, most: float | None
) -> float | None:
    """Return the value in milliseconds below which this share of all lies, or None without any.

    Between a bucket's bounds it is interpolated, as if its values were evenly spread: off by at most
    a bucket, 4.4 %. `least` and `most`, where they are known, are never left.
    """
    total = sum(counts.values())
    if not total:
        return None
    rank = share * (total - 1) + 1  # of the value that is looked for: 1 is the least of all
    below = 0
    found = 0.0
    for bucket in sorted(counts):
        if below + counts[bucket] >= rank:
            lower, upper = _bounds(bucket, most)
            found = lower + (upper - lower) * (rank - below) / counts[bucket]
            break
        below += counts[bucket]
    if most is not None:
        found = min(found, most)
    return found if least is None else max(found, least)


def _bounds(bucket: int, most: float | None) -> tuple[float, float]:
    lower = BOUNDS_MS[bucket - 1] if bucket else 0.0
    if bucket < len(BOUNDS_MS):
        return lower, BOUNDS_MS[bucket]
    return lower, max(most or lower, lower)
