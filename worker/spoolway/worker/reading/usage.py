"""Usage of a period: yaLLMproxy's figures under its names, and ours beside them.

Every one is made of the roll-ups, with what is pending, as they were at one moment. Whole UTC hours
are counted: `total_stats` says which. What each field means is in docs/usage.md.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from spoolway.schema.usage import MAPS
from spoolway.worker.reading import trends
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.figures import (
    SHARES,
    counted,
    duration_percentiles,
    mean,
    named,
    percent,
    rounded,
    stamp,
    sum_of,
    ttft_percentiles,
)
from spoolway.worker.reading.filters import Filters
from spoolway.worker.reading.period import Period
from spoolway.worker.rollup.reading import Ask, Bucket, Found, read
from spoolway.worker.rollup.totals import Totals

DEFAULT: Final = timedelta(hours=24)
"""The period, when none is asked for."""
MOST: Final = 100
"""Models, stop reasons and types of errors of a list: who asks a proxy chooses their names."""
_HOURLY: Final = timedelta(hours=48)
"""The longest period whose trends are by the hour."""


async def usage(database: ReadDatabase, filters: Filters, period: Period) -> dict[str, Any]:
    """Return `historical` of /api/usage. Raises as `ReadDatabase.fetch`."""
    hours = period.whole_hours()
    bucket = bucket_of(period)
    models, outcomes, maps = await read(
        database,
        [
            Ask(("model_name", "outcome")),
            Ask(("outcome",), bucket),
            Ask((), bucket, numbers=False, maps=MAPS),
        ],
        hours.start,
        hours.end,
        filters,
    )
    by_time = trends.by_time(outcomes, maps, hours.start, hours.end, bucket)
    everything = Totals()
    for one in by_time.values():
        everything.add(one.totals)
    has_errors = errors_are_known(filters)
    return {
        "enabled": True,
        "status": "available",
        "provider": "database",
        "message": "Historical data retrieved from database.",
        "interval": bucket,
        "total_stats": _total_stats(models, everything, hours),
        **by_model(models),
        "usage_trends": trends.usage(by_time),
        "token_stats": _token_stats(everything, hours),
        "token_trends": trends.tokens(by_time),
        "stop_reasons": _stop_reasons(everything.stop_reasons),
        # Not to be had from what is stored, and asked for by yaLLMproxy's own page.
        "tps_stats": {
            "overall_avg_tps": None,
            "min_tps": None,
            "max_tps": None,
            "request_count": 0,
        },
        "tps_by_model": [],
        "percentiles": {
            "duration_ms": duration_percentiles(everything, SHARES),
            "ttft_ms": ttft_percentiles(everything, SHARES),
        },
        "latency_trends": trends.latency(by_time),
        "error_trends": trends.errors(by_time, has_errors=has_errors),
        "errors_by_type": counted("error_type", everything.error_types, MOST)
        if has_errors
        else None,
        "cost_stats": cost(everything),
        "cost_trends": trends.cost(by_time),
        "footprint_stats": footprint(everything),
        "footprint_trends": trends.footprint(by_time),
    }


def bucket_of(period: Period) -> Bucket:
    """Return how long the steps of a period's trends are."""
    return "hour" if period.end - period.start <= _HOURLY else "day"


def errors_are_known(filters: Filters) -> bool:
    """Tell whether errors can be counted: an error has a model, and nothing else to filter by."""
    return not filters.is_nothing and not filters.given.keys() - {"model_name"}


def by_outcome(groups: Mapping[str | None, Totals]) -> dict[str, int]:
    """Return the requests of each outcome; NULL is unknown."""
    counts = {outcome: totals.requests for outcome, totals in groups.items()}
    return {
        "successful_requests": counts.get("success", 0),
        "failed_requests": counts.get("error", 0),
        "cancelled_requests": counts.get("cancelled", 0),
        "unknown_requests": counts.get(None, 0),
    }


def cost(totals: Totals) -> dict[str, Any]:
    """Return what requests cost, and of how many that is known."""
    return {
        "total_cost": sum_of(totals.cost),
        "priced_requests": totals.priced,
        "unpriced_requests": totals.requests - totals.priced,
    }


def footprint(totals: Totals) -> dict[str, float]:
    """Return the bounds of what requests took, in kWh and in kg of CO2 equivalent."""
    return {
        name: sum_of(getattr(totals, name))
        for name in ("kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max")
    }


def by_model(found: Found) -> dict[str, list[dict[str, Any]]]:
    """Return the lists that have a line for each model with requests."""
    models: dict[str | None, Totals] = {}
    failed: Counter[str | None] = Counter()
    for (_, model, outcome), totals in found.items():
        models.setdefault(model, Totals()).add(totals)
        if outcome == "error":
            failed[model] += totals.requests
    used = {model: totals for model, totals in models.items() if totals.requests}
    rates = {model: percent(failed[model], totals.requests) for model, totals in used.items()}

    def most(key: Any) -> list[tuple[str | None, Totals]]:
        ordered = sorted(used.items(), key=lambda one: (*key(*one), named(one[0])))
        return ordered[:MOST]

    return {
        "requests_by_model": [
            {"model_name": model, "count": totals.requests}
            for model, totals in most(lambda _, totals: (-totals.requests,))
        ],
        "error_rates": [
            {
                "model_name": model,
                "total_requests": totals.requests,
                "error_count": failed[model],
                "error_rate": rates[model],
            }
            for model, totals in most(
                lambda model, totals: (-rates[model], -failed[model], -totals.requests)
            )
        ],
        "avg_response_times": [
            {
                "model_name": model,
                "avg_duration_ms": mean(totals.duration_ms, totals.duration_count),
                "min_ms": rounded(totals.duration_min_ms),
                "max_ms": rounded(totals.duration_max_ms),
            }
            for model, totals in most(
                lambda _, totals: (-(mean(totals.duration_ms, totals.duration_count) or 0.0),)
            )
            if totals.duration_count
        ],
        "tokens_by_model": [
            {
                "model_name": model,
                "total_tokens": totals.total_tokens,
                "prompt_tokens": totals.prompt_tokens,
                "completion_tokens": totals.completion_tokens,
            }
            for model, totals in most(lambda _, totals: (-totals.total_tokens,))
        ],
    }


def _total_stats(models: Found, everything: Totals, hours: Period) -> dict[str, Any]:
    outcomes: dict[str | None, Totals] = {}
    for (_, _, outcome), totals in models.items():
        outcomes.setdefault(outcome, Totals()).add(totals)
    counts = by_outcome(outcomes)
    return {
        "total_requests": everything.requests,
        **counts,
        "success_rate": percent(counts["successful_requests"], everything.requests),
        "avg_duration_ms": mean(everything.duration_ms, everything.duration_count),
        **_bounds(hours.start, hours.end),
    }


def _token_stats(everything: Totals, hours: Period) -> dict[str, Any]:
    return {
        "total_tokens": everything.total_tokens,
        "total_prompt_tokens": everything.prompt_tokens,
        "total_completion_tokens": everything.completion_tokens,
        "avg_tokens_per_request": mean(everything.total_tokens, everything.requests) or 0.0,
        "total_cached_tokens": everything.cached_tokens,
        "total_reasoning_tokens": everything.reasoning_tokens,
        **_bounds(hours.start, hours.end),
    }


def _stop_reasons(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    known = sum(counts.values())
    return [
        {**one, "percentage": percent(one["count"], known)}
        for one in counted("reason", counts, MOST)
    ]


def _bounds(start: datetime, end: datetime) -> dict[str, str]:
    return {"start_time": stamp(start), "end_time": stamp(end)}
