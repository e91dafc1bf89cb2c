"""What the answers about usage must say: counted from the rows, with no code that is tested.

Percentiles are the one estimate among them: of these it is said between what they must be.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Row = Mapping[str, Any]

TOKENS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
)
FOOTPRINT: Final = ("kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max")
HOUR: Final = timedelta(hours=1)
SHARES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
OF_OUTCOMES: Final = {
    "successful": "success",
    "failed": "error",
    "cancelled": "cancelled",
    "unknown": None,
}


@dataclass(frozen=True)
class Between:
    """A number that is known to be within bounds."""

    least: float
    most: float


@dataclass(frozen=True)
class Rows:
    """All rows of a database."""

    requests: Sequence[Row]
    errors: Sequence[Row]

    def of(self, start: datetime, end: datetime, filters: Mapping[str, Sequence[str]]) -> "Rows":
        """Return the rows of [start, end) that have one of these values in each of the columns."""

        def wanted(row: Row, moment: str) -> bool:
            return start <= row[moment] < end and all(
                (row.get(column) or "") in values for column, values in filters.items()
            )

        return Rows(
            [row for row in self.requests if wanted(row, "request_time")],
            [row for row in self.errors if wanted(row, "timestamp")],
        )


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the hours that a period touches."""
    first = start.replace(minute=0, second=0, microsecond=0)
    last = end.replace(minute=0, second=0, microsecond=0)
    return first, last if last == end else last + HOUR


def usage(
    rows: Rows, start: datetime, end: datetime, filters: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return /api/usage's `historical`."""
    bucket = HOUR if end - start <= timedelta(hours=48) else timedelta(days=1)
    start, end = whole_hours(start, end)
    found = rows.of(start, end, filters)
    requests = found.requests
    has_errors = not set(filters) - {"model_name"}
    bounds = {"start_time": text(start), "end_time": text(end)}

    at = start if bucket == HOUR else start.replace(hour=0)
    steps = []
    while at < end:
        steps.append((at, found.of(at, at + bucket, {})))
        at += bucket

    def trend(of: Callable[[Rows], dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"timestamp": text(at), **of(one)} for at, one in steps]

    reasons = Counter(row["stop_reason"] for row in requests if row["stop_reason"] is not None)
    types = Counter(row["error_type"] for row in found.errors)
    return {
        "enabled": True,
        "status": "available",
        "provider": "database",
        "message": "Historical data retrieved from database.",
        "interval": "hour" if bucket == HOUR else "day",
        "total_stats": {
            "total_requests": len(requests),
            **{f"{name}_requests": number for name, number in outcomes(requests).items()},
            "success_rate": percent(outcomes(requests)["successful"], len(requests)),
            "avg_duration_ms": mean(requests, "duration_ms"),
            **bounds,
        },
        **_by_model(requests),
        "usage_trends": trend(lambda one: {"count": len(one.requests)}),
        "token_stats": {
            "total_tokens": total(requests, "total_tokens"),
            "total_prompt_tokens": total(requests, "prompt_tokens"),
            "total_completion_tokens": total(requests, "completion_tokens"),
            "avg_tokens_per_request": round(total(requests, "total_tokens") / len(requests), 2)
            if requests
            else 0.0,
            "total_cached_tokens": total(requests, "cached_tokens"),
            "total_reasoning_tokens": total(requests, "reasoning_tokens"),
            **bounds,
        },
        "token_trends": trend(
            lambda one: {name: total(one.requests, name) for name in sorted(TOKENS[:3])}
        ),
        "stop_reasons": [
            {**one, "percentage": percent(one["count"], sum(reasons.values()))}
            for one in counts("reason", reasons)
        ],
        "tps_stats": {
            "overall_avg_tps": None,
            "min_tps": None,
            "max_tps": None,
            "request_count": 0,
        },
        "tps_by_model": [],
        "percentiles": {name: percentiles(requests, name) for name in ("duration_ms", "ttft_ms")},
        "latency_trends": trend(
            lambda one: {
                **percentiles(one.requests, "duration_ms", "p50", "p95"),
                **of_ttft(percentiles(one.requests, "ttft_ms", "p50", "p95")),
            }
        ),
        "error_trends": trend(
            lambda one: {
                "count": outcomes(one.requests)["failed"],
                "errors": len(one.errors) if has_errors else None,
            }
        ),
        "errors_by_type": counts("error_type", types) if has_errors else None,
        "cost_stats": {
            "total_cost": total(requests, "cost"),
            "priced_requests": known(requests, "cost"),
            "unpriced_requests": len(requests) - known(requests, "cost"),
        },
        "cost_trends": trend(lambda one: {"cost": total(one.requests, "cost")}),
        "footprint_stats": {name: total(requests, name) for name in FOOTPRINT},
        "footprint_trends": trend(
            lambda one: {name: total(one.requests, name) for name in FOOTPRINT}
        ),
    }


def _by_model(requests: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    models = {row["model_name"] or None for row in requests}
    of = {name: [row for row in requests if (row["model_name"] or None) == name] for name in models}
    by_name = sorted(models, key=by_its_name)
    failed = {name: outcomes(of[name])["failed"] for name in models}
    rate = {name: percent(failed[name], len(of[name])) for name in models}
    timed = [name for name in by_name if known(of[name], "duration_ms")]
    return {
        "requests_by_model": [
            {"model_name": name, "count": len(of[name])}
            for name in sorted(by_name, key=lambda name: -len(of[name]))
        ],
        "error_rates": [
            {
                "model_name": name,
                "total_requests": len(of[name]),
                "error_count": failed[name],
                "error_rate": rate[name],
            }
            for name in sorted(by_name, key=lambda n: (-rate[n], -failed[n], -len(of[n])))
        ],
        "avg_response_times": [
            {
                "model_name": name,
                "avg_duration_ms": mean(of[name], "duration_ms"),
                "min_ms": round(min(values(of[name], "duration_ms")), 2),
                "max_ms": round(max(values(of[name], "duration_ms")), 2),
            }
            for name in sorted(timed, key=lambda name: -(mean(of[name], "duration_ms") or 0))
        ],
        "tokens_by_model": [
            {
                "model_name": name,
                **{kind: total(of[name], kind) for kind in TOKENS[:3]},
            }
            for name in sorted(by_name, key=lambda name: -total(of[name], "total_tokens"))
        ],
    }


SIZES: Final[Mapping[str, Callable[[Sequence[Row]], float]]] = {
    "requests": len,
    "cost": lambda some: total(some, "cost"),
    "total_tokens": lambda some: total(some, "total_tokens"),
    "failed": lambda some: outcomes(some)["failed"],
    "kgco2eq": lambda some: total(some, "kgco2eq_min") + total(some, "kgco2eq_max"),
}


def breakdown(
    rows: Rows,
    period: tuple[datetime, datetime],
    column: str,
    filters: Mapping[str, Sequence[str]],
    order: tuple[str, int],
) -> dict[str, Any]:
    """Return /api/usage/by's `data`, `others` and `total`, of an order and a limit."""
    by, limit = order
    found = rows.of(*whole_hours(*period), filters)
    has_errors = column == "model_name" and not set(filters) - {"model_name"}
    names = {row[column] or None for row in found.requests}
    if has_errors:
        names |= {row[column] or None for row in found.errors}

    def of(names: Sequence[str | None]) -> Rows:
        return Rows(
            [row for row in found.requests if (row[column] or None) in names],
            [row for row in found.errors if (row.get(column) or None) in names],
        )

    def figures(some: Rows) -> dict[str, Any]:
        return {
            "requests": len(some.requests),
            **outcomes(some.requests),
            "errors": len(some.errors) if has_errors else None,
            **{name: total(some.requests, name) for name in TOKENS},
            "cost": total(some.requests, "cost"),
            "priced_requests": known(some.requests, "cost"),
            **{name: total(some.requests, name) for name in FOOTPRINT},
            "avg_duration_ms": mean(some.requests, "duration_ms"),
        }

    ordered = sorted(
        sorted(names, key=by_its_name),
        key=lambda name: (-SIZES[by](of([name]).requests), -len(of([name]).requests)),
    )
    rest = ordered[limit:]
    return {
        "data": [
            {
                "value": name,
                **figures(of([name])),
                **percentiles(of([name]).requests, "duration_ms", "p50", "p95"),
                **of_ttft(percentiles(of([name]).requests, "ttft_ms", "p50", "p95")),
            }
            for name in ordered[:limit]
        ],
        "others": {"values": len(rest), **figures(of(rest))} if rest else None,
        "total": figures(of(ordered)),
    }


def account(
    rows: Rows,
    dates: tuple[int, int],
    filters: Mapping[str, Sequence[str]],
    order: tuple[str, str],
    page: tuple[int, int],
) -> dict[str, Any]:
    """Return /v1/usage's answer."""
    date_from, date_to = dates
    order_by, direction = order
    number, limit = page
    column = "request_time" if order_by == "datetime" else order_by
    # Both dates are included; times have microseconds.
    start = datetime.fromtimestamp(date_from, UTC)
    end = datetime.fromtimestamp(date_to, UTC) + timedelta(microseconds=1)
    found = rows.of(start, end, filters).requests
    ordered = sorted(
        (row for row in found if row[column] is not None),
        key=lambda row: (row[column], str(row["id"])),
        reverse=direction == "desc",
    ) + sorted(
        (row for row in found if row[column] is None),
        key=lambda row: str(row["id"]),
        reverse=direction == "desc",
    )
    pages = max(1, math.ceil(len(found) / limit))
    grams = 1000 * (total(found, "kgco2eq_min") + total(found, "kgco2eq_max")) / 2
    return {
        "object": "list",
        "data": [record(row) for row in ordered[(number - 1) * limit : number * limit]],
        "total": len(found),
        "total_requests": len(found),
        "total_cost": total(found, "cost"),
        "total_albert_coins": total(found, "cost"),
        "total_tokens": total(found, "total_tokens"),
        "total_co2": grams,
        "page": number,
        "limit": limit,
        "total_pages": pages,
        "has_more": number < pages,
        "order_by": order_by,
        "order_direction": direction,
        "date_from": date_from,
        "date_to": date_to,
    }


def record(row: Row) -> dict[str, Any]:
    """Return a row as OpenGateLLM names it."""
    names = {
        "user_id": "user_id",
        "token_id": "api_key_id",
        "endpoint": "path",
        "method": "method",
        "request_model": "model_name",
        "status": "http_status",
        **{name: name for name in (*TOKENS[:3], "cost", *FOOTPRINT)},
    }
    took, first = row["duration_ms"], row["ttft_ms"]
    return {
        "id": str(row["id"]),
        "datetime": math.floor(row["request_time"].timestamp()),
        "duration": None if took is None else round(took),
        "time_to_first_token": None if first is None else round(first),
        "model": row["provider_model"] or row["model_name"],
        **{name: row[column] for name, column in names.items()},
    }


# --- Figures ----------------------------------------------------------------------


def values(rows: Sequence[Row], name: str) -> list[Any]:
    """Return the values that are not NULL."""
    return [row[name] for row in rows if row[name] is not None]


def total(rows: Sequence[Row], name: str) -> Any:
    """Add up a column."""
    return sum(values(rows, name))


def known(rows: Sequence[Row], name: str) -> int:
    """Count the rows that have a value."""
    return len(values(rows, name))


def mean(rows: Sequence[Row], name: str) -> float | None:
    """Return the mean of what is not NULL."""
    found = values(rows, name)
    return round(sum(found) / len(found), 2) if found else None


def percent(part: int, whole: int) -> float:
    """Return a share."""
    return round(part / whole * 100, 2) if whole else 0.0


def outcomes(rows: Sequence[Row]) -> dict[str, int]:
    """Count requests by their outcome."""
    return {
        name: sum(row["outcome"] == outcome for row in rows)
        for name, outcome in OF_OUTCOMES.items()
    }


def counts(name: str, counted: Mapping[str | None, int]) -> list[dict[str, Any]]:
    """List the most frequent first."""
    ordered = sorted(counted, key=lambda value: (-counted[value], by_its_name(value)))
    return [{name: value, "count": counted[value]} for value in ordered]


def percentiles(rows: Sequence[Row], name: str, *wanted: str) -> dict[str, Between | None]:
    """Return the bounds of percentiles: a bucket, or a millisecond, around the values there."""
    ordered = sorted(values(rows, name))
    found: dict[str, Between | None] = {}
    for one in wanted or SHARES:
        if not ordered:
            found[one] = None
            continue
        at = SHARES[one] * (len(ordered) - 1)
        lower, upper = ordered[math.floor(at)], ordered[math.ceil(at)]
        if upper > 4_194_304:  # above the last bucket, which has all from there to the longest
            upper = ordered[-1]
        found[one] = Between(min(lower, 4_194_304) / 1.045 - 1, upper * 1.045 + 1)
    return found


def of_ttft(found: Mapping[str, Any]) -> dict[str, Any]:
    """Rename percentiles."""
    return {f"ttft_{name}": value for name, value in found.items()}


def by_its_name(name: str | None) -> tuple[bool, str]:
    """Order by name, None last."""
    return name is None, name or ""


def text(moment: datetime) -> str:
    """Return a UTC time as JSON has it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def differences(found: Any, expected: Any, where: str = "") -> list[str]:
    """Say where an answer is not as expected; sums of fractions may differ in their last digits."""
    match expected:
        case dict():
            if not isinstance(found, dict) or found.keys() != expected.keys():
                return [f"{where}: {found!r} has not the names {sorted(expected)}"]
            return [
                one
                for name in expected
                for one in differences(found[name], expected[name], f"{where}.{name}")
            ]
        case list():
            if not isinstance(found, list) or len(found) != len(expected):
                return [f"{where}: {found!r} is not {expected!r}"]
            return [
                one
                for at, (a, b) in enumerate(zip(found, expected, strict=True))
                for one in differences(a, b, f"{where}[{at}]")
            ]
        case Between():
            is_right = found is not None and expected.least <= found <= expected.most
        case bool() | None | str():
            is_right = found == expected and type(found) is type(expected)
        case float() | int() if isinstance(found, (int, float)):
            is_right = math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
        case _:
            is_right = False
    return [] if is_right else [f"{where}: {found!r} is not {expected!r}"]
