"""Traffic to be counted: every outcome, nulls, late events; and the counting of rows, the plain way.

What `counted` returns is computed from the rows of the tables, with nothing but Python: no code that
is tested here.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from spoolway.worker.stores import Item, Store
from tests.stores import Database, error, id_at, request

DIMENSIONS: Final = (
    "model_name",
    "provider",
    "outcome",
    "user_id",
    "api_key_id",
    "organization_id",
    "project_id",
)
SUMMED: Final = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "cost",
    "kwh_min",
    "kwh_max",
    "kgco2eq_min",
    "kgco2eq_max",
    "duration_ms",
    "ttft_ms",
)


def traffic(rng: random.Random, count: int, *, end: datetime, hours: float = 50.0) -> list[Item]:
    """Return requests and errors of the hours before `end`, in no order.

    Half of the columns of half the requests are NULL; one request in five is older than its id; some
    have no request_time of their own, and some errors no request.
    """
    items: list[Item] = []
    for _ in range(count):
        moment = end - timedelta(hours=rng.random() * hours)
        late = timedelta(hours=rng.random() * 30) if rng.random() < 0.2 else timedelta()
        fields: dict[str, Any] = {
            "model_name": rng.choice(["gpt-4o", "claude-3", "mistral", None]),
            "provider": rng.choice(["openai", "anthropic", None]),
            "outcome": rng.choice(["success", "success", "success", "error", "cancelled", None]),
            "user_id": rng.choice(["ada", "bob", "", None]),
            "api_key_id": rng.choice(["key-1", "key-2", None]),
            "organization_id": rng.choice(["org", None]),
            "project_id": rng.choice(["one", None]),
            "prompt_tokens": rng.randint(0, 5_000),
            "completion_tokens": rng.randint(0, 5_000),
            "total_tokens": rng.randint(0, 10_000),
            "cached_tokens": rng.randint(0, 500),
            "reasoning_tokens": rng.randint(0, 500),
            "cost": rng.random(),
            "kwh_min": rng.random(),
            "kwh_max": 1 + rng.random(),
            "kgco2eq_min": rng.random(),
            "kgco2eq_max": 1 + rng.random(),
            "duration_ms": rng.choice([0.0, 0.5, rng.expovariate(1 / 2_000), 5e6]),
            "ttft_ms": rng.expovariate(1 / 300),
            "stop_reason": rng.choice(["stop", "length", "tool_calls", None]),
            "http_status": rng.choice([200, 429, 500, None]),
        }
        if rng.random() < 0.5:
            for name in rng.sample(sorted(fields), len(fields) // 2):
                fields[name] = None
        if rng.random() < 0.9:
            fields["request_time"] = (moment - late).isoformat()
        items.append(request(id_at(moment), **fields))
        if fields["outcome"] == "error" or rng.random() < 0.1:
            items.append(
                error(
                    rng.choice([items[-1].event.id, None]),
                    id=id_at(moment),
                    model_name=fields["model_name"],
                    error_type=rng.choice(["Timeout", "RateLimit", None]),
                )
            )
    rng.shuffle(items)
    return items


async def write_all(store: Store, items: Sequence[Item], at_once: int = 97) -> None:
    """Write items in batches, as a worker does."""
    for start in range(0, len(items), at_once):
        await store.write(items[start : start + at_once])


async def merge_all(store: Store) -> None:
    """Add all that is pending to the levels."""
    rollup = await store.rollup()
    while await rollup.merge():
        pass


@dataclass
class Counted:
    """What some rows come to."""

    requests: int = 0
    errors: int = 0
    priced: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0))
    known: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SUMMED, 0))
    durations: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    stop_reasons: Counter[str] = field(default_factory=Counter)
    error_types: Counter[str] = field(default_factory=Counter)


def count(requests: Iterable[dict[str, Any]], errors: Iterable[dict[str, Any]]) -> Counted:
    """Count rows."""
    counted = Counted()
    for row in requests:
        counted.requests += 1
        counted.priced += row["cost"] is not None
        for name in SUMMED:
            if row[name] is not None:
                counted.sums[name] += row[name]
                counted.known[name] += 1
        if row["duration_ms"] is not None:
            counted.durations.append(row["duration_ms"])
        if row["ttft_ms"] is not None:
            counted.first_tokens.append(row["ttft_ms"])
        if row["stop_reason"] is not None:
            counted.stop_reasons[row["stop_reason"]] += 1
    for row in errors:
        counted.errors += 1
        counted.error_types[row["error_type"] or ""] += 1
    return counted


def floored(moment: datetime, period: str) -> datetime:
    """Return when the hour or day of a moment begins, in UTC."""
    utc = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return utc if period == "hour" else utc.replace(hour=0)


async def grouped(
    logs: Database, period: str, dimensions: Sequence[str]
) -> dict[tuple[Any, ...], Counted]:
    """Count all rows of a database by period and dimensions; an error has but its model."""
    requests: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    errors: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in await logs.rows("request_logs"):
        key = (floored(row["request_time"], period), *(row[name] for name in dimensions))
        requests.setdefault(key, []).append(row)
    for row in await logs.rows("error_logs"):
        values = [row["model_name"] if name == "model_name" else None for name in dimensions]
        errors.setdefault((floored(row["timestamp"], period), *values), []).append(row)
    return {
        key: count(requests.get(key, ()), errors.get(key, ()))
        for key in requests.keys() | errors.keys()
    }


def is_near(one: float, other: float) -> bool:
    """Tell whether two sums of the same numbers are the same but for their order."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
