"""Lines of figures over time: one for every hour or day of a period, also where nothing was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spoolway.worker.reading.figures import (
    duration_percentiles,
    stamp,
    sum_of,
    ttft_percentiles,
)
from spoolway.worker.rollup.reading import Bucket, Found
from spoolway.worker.rollup.totals import Totals

Line = list[dict[str, Any]]


@dataclass(slots=True)
class Step:
    """What is of one hour or day."""

    totals: Totals = field(default_factory=Totals)
    failed: int = 0
    """Requests whose outcome is error."""


ByTime = Mapping[datetime, Step]
"""From the first to the last; an end's day is of the hours in the period alone."""


def by_time(
    outcomes: Found, maps: Found, start: datetime, end: datetime, bucket: Bucket
) -> dict[datetime, Step]:
    """Put together what was found by outcome, and maps, in a step each for all of the period."""
    steps = {moment: Step() for moment in moments(start, end, bucket)}
    for (moment,), totals in maps.items():
        steps[moment].totals = totals
    for (moment, outcome), totals in outcomes.items():
        step = steps[moment]
        step.totals.add(totals)
        if outcome == "error":
            step.failed += totals.requests
    return steps


def moments(start: datetime, end: datetime, bucket: Bucket) -> list[datetime]:
    """Return when each hour or UTC day of [start, end) begins; the first day may before `start`."""
    length = timedelta(hours=1) if bucket == "hour" else timedelta(days=1)
    moment = start if bucket == "hour" else start.replace(hour=0)
    found = []
    while moment < end:
        found.append(moment)
        moment += length
    return found


def usage(steps: ByTime) -> Line:
    """Requests."""
    return [{"timestamp": stamp(at), "count": one.totals.requests} for at, one in steps.items()]


def tokens(steps: ByTime) -> Line:
    """Tokens."""
    return [
        {
            "timestamp": stamp(at),
            "total_tokens": one.totals.total_tokens,
            "prompt_tokens": one.totals.prompt_tokens,
            "completion_tokens": one.totals.completion_tokens,
        }
        for at, one in steps.items()
    ]


def errors(steps: ByTime, *, has_errors: bool) -> Line:
    """Requests that failed, and events of errors where they are known."""
    return [
        {
            "timestamp": stamp(at),
            "count": one.failed,
            "errors": one.totals.errors if has_errors else None,
        }
        for at, one in steps.items()
    ]


def cost(steps: ByTime) -> Line:
    """What requests cost."""
    return [{"timestamp": stamp(at), "cost": sum_of(one.totals.cost)} for at, one in steps.items()]


def footprint(steps: ByTime) -> Line:
    """The bounds of what requests took, in kWh and in kg of CO2 equivalent."""
    return [
        {
            "timestamp": stamp(at),
            "kwh_min": sum_of(one.totals.kwh_min),
            "kwh_max": sum_of(one.totals.kwh_max),
            "kgco2eq_min": sum_of(one.totals.kgco2eq_min),
            "kgco2eq_max": sum_of(one.totals.kgco2eq_max),
        }
        for at, one in steps.items()
    ]


def latency(steps: ByTime) -> Line:
    """Percentiles of how long requests took, and of the time to the first token, in ms."""
    lines = []
    for at, one in steps.items():
        took = duration_percentiles(one.totals, ("p50", "p95"))
        first = ttft_percentiles(one.totals, ("p50", "p95"))
        lines.append(
            {
                "timestamp": stamp(at),
                **took,
                **{f"ttft_{name}": value for name, value in first.items()},
            }
        )
    return lines
