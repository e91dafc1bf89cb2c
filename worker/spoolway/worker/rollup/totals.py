"""What adds up: the totals of some requests and errors, from facts, from rows, from each other.

Written out measure by measure: a merge does this for every request, and a loop over names would take
ten times as long.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Final, Self

import msgspec

from spoolway.schema.usage import BOUNDS_MS, COUNTS, EXTREMES, MAPS, SUMS

MEASURES: Final = (*COUNTS, *SUMS, *EXTREMES, *MAPS)
"""A level's columns after its dimensions, and the fields of Totals, in this order."""

_MOST: Final = 2**63 - 1
_LARGEST: Final = 1.7e308
MOST_NAMES: Final = 1_000
"""Stop reasons or types of errors that a group holds: a backend, or who sends errors, could make up so
many that PostgreSQL takes the object for too large, and no merge would ever be done again."""
OTHERS: Final = "…"
"""The name under which those are counted that are less frequent than the others."""
_NAMED: Final = frozenset({"stop_reasons", "error_types"})
_RELATIVE: Final = 1e-9
"""By how much two sums of the same numbers in another order may differ."""
_decode_counts: Final = msgspec.json.Decoder(dict[int, int]).decode
_decode_names: Final = msgspec.json.Decoder(dict[str, int]).decode
_encode: Final = msgspec.json.Encoder().encode


class Totals(msgspec.Struct, gc=False):
    """The measures of one group. Tokens are counts, `cost` is in the prices' currency, times in ms."""

    requests: int = 0
    errors: int = 0
    priced: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    duration_count: int = 0
    ttft_count: int = 0
    cost: float = 0.0
    kwh_min: float = 0.0
    kwh_max: float = 0.0
    kgco2eq_min: float = 0.0
    kgco2eq_max: float = 0.0
    duration_ms: float = 0.0
    ttft_ms: float = 0.0
    duration_min_ms: float | None = None
    duration_max_ms: float | None = None
    duration_histogram: dict[int, int] = {}
    ttft_histogram: dict[int, int] = {}
    stop_reasons: dict[str, int] = {}
    error_types: dict[str, int] = {}

    def add_request(self, fact: Sequence[Any], count: int = 1) -> None:
        """Add a request's fact after its dimensions; with `count` 0 one that is counted already."""
        prompt, completion, total, cached, reasoning, cost, *footprint, duration, ttft, stop = fact
        self.requests += count
        self.prompt_tokens += prompt or 0
        self.completion_tokens += completion or 0
        self.total_tokens += total or 0
        self.cached_tokens += cached or 0
        self.reasoning_tokens += reasoning or 0
        if cost is not None:
            self.priced += 1
            self.cost += cost
        if footprint != _NO_FOOTPRINT:
            kwh_min, kwh_max, kgco2eq_min, kgco2eq_max = footprint
            self.kwh_min += kwh_min or 0.0
            self.kwh_max += kwh_max or 0.0
            self.kgco2eq_min += kgco2eq_min or 0.0
            self.kgco2eq_max += kgco2eq_max or 0.0
        if duration is not None:
            self.duration_count += 1
            self.duration_ms += duration
            if self.duration_min_ms is None or duration < self.duration_min_ms:
                self.duration_min_ms = duration
            if self.duration_max_ms is None or duration > self.duration_max_ms:
                self.duration_max_ms = duration
            _count(self.duration_histogram, bisect_left(BOUNDS_MS, duration))
        if ttft is not None:
            self.ttft_count += 1
            self.ttft_ms += ttft
            _count(self.ttft_histogram, bisect_left(BOUNDS_MS, ttft))
        if stop is not None:
            _count(self.stop_reasons, stop)

    def add_error(self, error_type: str | None) -> None:
        """Count an error; one without a type is of the type ""."""
        self.errors += 1
        _count(self.error_types, error_type or "")

    def add(self, other: "Totals") -> None:
        """Add the measures of others to these."""
        self.requests += other.requests
        self.errors += other.errors
        self.priced += other.priced
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.total_tokens += other.total_tokens
        self.cached_tokens += other.cached_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.duration_count += other.duration_count
        self.ttft_count += other.ttft_count
        self.cost += other.cost
        self.kwh_min += other.kwh_min
        self.kwh_max += other.kwh_max
        self.kgco2eq_min += other.kgco2eq_min
        self.kgco2eq_max += other.kgco2eq_max
        self.duration_ms += other.duration_ms
        self.ttft_ms += other.ttft_ms
        if other.duration_min_ms is not None and (
            self.duration_min_ms is None or other.duration_min_ms < self.duration_min_ms
        ):
            self.duration_min_ms = other.duration_min_ms
        if other.duration_max_ms is not None and (
            self.duration_max_ms is None or other.duration_max_ms > self.duration_max_ms
        ):
            self.duration_max_ms = other.duration_max_ms
        _add_counts(self.duration_histogram, other.duration_histogram)
        _add_counts(self.ttft_histogram, other.ttft_histogram)
        _add_counts(self.stop_reasons, other.stop_reasons)
        _add_counts(self.error_types, other.error_types)

    def copy(self) -> Self:
        """Return the same, to be added to."""
        *numbers, durations, first_tokens, stops, errors = msgspec.structs.astuple(self)
        maps = (durations.copy(), first_tokens.copy(), stops.copy(), errors.copy())
        return type(self)(*numbers, *maps)  # type: ignore[call-arg]  # as in of_row

    @classmethod
    def of_row(cls, measures: Sequence[Any]) -> Self:
        """Read a row's values of MEASURES, with its maps as JSON text."""
        *numbers, durations, first_tokens, stops, errors = measures
        maps = (
            _decode_counts(durations) if durations else {},
            _decode_counts(first_tokens) if first_tokens else {},
            _decode_names(stops) if stops else {},
            _decode_names(errors) if errors else {},
        )
        return cls(*numbers, *maps)  # type: ignore[call-arg]  # mypy counts two stars as too many

    def row(self) -> list[Any]:
        """Return the values of MEASURES as a level's row holds them, with its maps as JSON or None."""
        values = list(msgspec.structs.astuple(self))
        for at in range(len(COUNTS)):
            values[at] = _bounded(values[at], _MOST)
        for at in range(len(COUNTS), len(COUNTS) + len(SUMS)):
            values[at] = _bounded(values[at], _LARGEST)
        for at in range(-len(MAPS), 0):
            values[at] = _encode(_few(values[at])) if values[at] else None
        return values

    def differs(self, other: "Totals") -> list[str]:
        """Return the measures that are not the same; sums may differ in their last digits."""
        return [
            name for name in MEASURES if not _same(name, getattr(self, name), getattr(other, name))
        ]


def _same(name: str, one: Any, other: Any) -> bool:
    if name in SUMS:
        one, other = _bounded(one, _LARGEST), _bounded(other, _LARGEST)
        return math.isclose(one, other, rel_tol=_RELATIVE)
    if name in COUNTS:
        return bool(_bounded(one, _MOST) == _bounded(other, _MOST))
    if name in _NAMED and (OTHERS in one or OTHERS in other):
        # Which are named depends on what came first.
        return bool(sum(one.values()) == sum(other.values()))
    return bool(one == other)


def _few(counts: dict[Any, int]) -> dict[Any, int]:
    """Return counts of no more names than a row holds; a histogram has fewer buckets than that."""
    if len(counts) <= MOST_NAMES:
        return counts
    names = sorted(counts, key=lambda name: (name == OTHERS, -counts[name], name))
    few = {name: counts[name] for name in names[: MOST_NAMES - 1]}
    few[OTHERS] = sum(counts.values()) - sum(few.values())
    return few


def _bounded(value: Any, most: Any) -> Any:
    """Return a number that a column holds: another would keep a merge from ever being done."""
    if -most <= value <= most:
        return value
    return most if value > 0 else -most


_NO_FOOTPRINT: Final = [None, None, None, None]


def _count(counts: dict[Any, int], name: Any) -> None:
    counts[name] = counts.get(name, 0) + 1


def _add_counts(counts: dict[Any, int], others: dict[Any, int]) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count
