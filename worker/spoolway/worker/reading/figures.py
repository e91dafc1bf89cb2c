"""How totals are told: shares in percent, means, percentiles, times; the same on both databases."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from spoolway.worker.rollup.histogram import quantile
from spoolway.worker.rollup.totals import Totals

SHARES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""The percentiles, and what share of all is not above them."""
_DIGITS: Final = 12
"""Of a sum of fractions: further ones depend on the order in which a database adds them up."""
_LARGEST: Final = 1e300
"""What is no number, or larger, is no JSON."""


def sum_of(value: float) -> float:
    """Return a sum with the digits that are certain."""
    if not -_LARGEST <= value <= _LARGEST:  # NaN is neither
        return -_LARGEST if value < 0 else _LARGEST
    return float(f"{value:.{_DIGITS}g}")


def rounded(value: float | None) -> float | None:
    """Return milliseconds to two decimals, None for None."""
    return None if value is None else round(sum_of(value), 2)


def mean(total: float, count: int) -> float | None:
    """Return the mean to two decimals; None of nothing."""
    return rounded(total / count) if count else None


def percent(part: int, whole: int) -> float:
    """Return the share in percent, to two decimals; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0


def duration_percentiles(totals: Totals, names: Iterable[str]) -> dict[str, float | None]:
    """Return percentiles of how long requests took, in ms."""
    known = totals.duration_min_ms, totals.duration_max_ms
    return _percentiles(totals.duration_histogram, names, *known)


def ttft_percentiles(totals: Totals, names: Iterable[str]) -> dict[str, float | None]:
    """Return percentiles of the time to the first token, in ms."""
    return _percentiles(totals.ttft_histogram, names, None, None)


def _percentiles(
    counts: Mapping[int, int], names: Iterable[str], least: float | None, most: float | None
) -> dict[str, float | None]:
    return {name: rounded(quantile(counts, SHARES[name], least, most)) for name in names}


def stamp(moment: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC: 2026-01-31T23:00:00Z."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def named(value: str | None) -> tuple[bool, str]:
    """Return what orders names: by their characters, and None after all of them."""
    return value is None, value or ""


def counted(name: str, counts: Mapping[Any, int], most: int) -> list[dict[str, Any]]:
    """Return [{name, count}] of the `most` frequent, by count descending, then name; "" is None."""
    found = sorted(counts.items(), key=lambda one: (-one[1], named(one[0] or None)))
    return [{name: value or None, "count": count} for value, count in found[:most] if count]
