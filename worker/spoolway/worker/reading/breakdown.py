"""Who or what usage is of: the largest by one dimension, what is left, and all of it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spoolway.schema.usage import TOKENS
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import BadQuery
from spoolway.worker.reading.figures import (
    duration_percentiles,
    mean,
    named,
    stamp,
    sum_of,
    ttft_percentiles,
)
from spoolway.worker.reading.filters import COLUMNS, Filters
from spoolway.worker.reading.period import Period
from spoolway.worker.reading.usage import cost, errors_are_known, footprint
from spoolway.worker.rollup.reading import Ask, Found, read
from spoolway.worker.rollup.totals import Totals

MOST: Final = 100
DEFAULT_LIMIT: Final = 20
_TIMES: Final = ("duration_histogram", "ttft_histogram")


@dataclass(slots=True)
class Part:
    """What is of one value, or of several."""

    totals: Totals = field(default_factory=Totals)
    outcomes: dict[str | None, int] = field(default_factory=dict)

    def add(self, other: "Part") -> None:
        """Add another's."""
        self.totals.add(other.totals)
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count


ORDERS: Final[Mapping[str, Callable[[Part], float]]] = {
    "requests": lambda part: part.totals.requests,
    "cost": lambda part: sum_of(part.totals.cost),
    "total_tokens": lambda part: part.totals.total_tokens,
    "failed": lambda part: part.outcomes.get("error", 0),
    "kgco2eq": lambda part: sum_of(part.totals.kgco2eq_min + part.totals.kgco2eq_max),
}
"""What the largest are the largest of."""
_ORDERED_BY: Final = {
    "cost": ("cost",),
    "total_tokens": ("total_tokens",),
    "kgco2eq": ("kgco2eq_min", "kgco2eq_max"),
}
"""The numbers that it takes to order them, beside those of requests."""


async def breakdown(
    database: ReadDatabase,
    by: str,
    filters: Filters,
    period: Period,
    *,
    order: str = "requests",
    limit: int = DEFAULT_LIMIT,
) -> dict[str, Any]:
    """Return the answer of /api/usage/by; `by` is a filter's name.

    Which are the largest is found out first; their figures, all of one moment, are read then.

    Raises:
        BadQuery: no such dimension or order, or a limit out of bounds.
        Unavailable, TooSlow: as `ReadDatabase.fetch`.
    """
    if by not in COLUMNS:
        raise BadQuery(f"dimension is {', '.join(COLUMNS)}; not {by!r}")
    if order not in ORDERS:
        raise BadQuery(f"order is {', '.join(ORDERS)}; not {order!r}")
    if not 1 <= limit <= MOST:
        raise BadQuery(f"limit is from 1 to {MOST}")
    column, hours = COLUMNS[by], period.whole_hours()
    dimensions = (column,) if column == "outcome" else (column, "outcome")
    # There may be thousands of values: of each is read what they are ordered by, and no more.
    only = ("requests", "errors", *_ORDERED_BY.get(order, ()))
    told = dimensions if order == "failed" else (column,)
    [found] = await read(database, [Ask(told, only=only)], hours.start, hours.end, filters)
    has_errors = by == "model" and errors_are_known(filters)
    values = largest(_parts(found, has_errors=has_errors), order)
    shown = tuple(values[:limit])
    asks = [
        Ask(dimensions, among=(column, shown)),
        Ask((column,), numbers=False, maps=_TIMES, among=(column, shown)),
        Ask(("outcome",), beyond=(column, shown)),
    ]
    if shown:
        figures, times, rest = await read(database, asks, hours.start, hours.end, filters)
    else:
        figures, times, rest = {}, {}, {}
    parts = {value: Part() for value in shown} | _parts(figures, has_errors=has_errors)
    for (_, value), totals in times.items():
        parts.setdefault(value, Part()).totals.add(totals)
    others = _sum(Part(totals, {outcome: totals.requests}) for (_, outcome), totals in rest.items())
    whole = _sum([*parts.values(), others])
    return {
        "dimension": by,
        "order": order,
        "start_time": stamp(hours.start),
        "end_time": stamp(hours.end),
        "data": [
            {
                "value": value,
                **_figures(parts[value], has_errors=has_errors),
                **_percentiles(parts[value].totals),
            }
            for value in shown
        ],
        "others": {"values": len(values) - limit, **_figures(others, has_errors=has_errors)}
        if len(values) > limit
        else None,
        "total": _figures(whole, has_errors=has_errors),
    }


def largest(parts: Mapping[str | None, Part], order: str) -> list[str | None]:
    """Return the values in their order: what they are ordered by, then requests, then name."""
    size = ORDERS[order]
    return sorted(
        parts,
        key=lambda value: (-size(parts[value]), -parts[value].totals.requests, named(value)),
    )


def _parts(found: Found, *, has_errors: bool) -> dict[str | None, Part]:
    parts: dict[str | None, Part] = {}
    for (_, value, *rest), totals in found.items():
        part = Part(totals, {rest[0] if rest else value: totals.requests})
        if value in parts:
            parts[value].add(part)
        else:
            parts[value] = part
    return {
        value: part
        for value, part in parts.items()
        if part.totals.requests or (has_errors and part.totals.errors)
    }


def _sum(parts: Iterable[Part]) -> Part:
    whole = Part()
    for part in parts:
        whole.add(part)
    return whole


def _figures(part: Part, *, has_errors: bool) -> dict[str, Any]:
    totals, outcomes = part.totals, part.outcomes
    priced = cost(totals)
    return {
        "requests": totals.requests,
        "successful": outcomes.get("success", 0),
        "failed": outcomes.get("error", 0),
        "cancelled": outcomes.get("cancelled", 0),
        "unknown": outcomes.get(None, 0),
        "errors": totals.errors if has_errors else None,
        **{name: getattr(totals, name) for name in TOKENS},
        "cost": priced["total_cost"],
        "priced_requests": priced["priced_requests"],
        **footprint(totals),
        "avg_duration_ms": mean(totals.duration_ms, totals.duration_count),
    }


def _percentiles(totals: Totals) -> dict[str, float | None]:
    names = ("p50", "p95")
    first = ttft_percentiles(totals, names)
    return {
        **duration_percentiles(totals, names),
        **{f"ttft_{name}": value for name, value in first.items()},
    }
