"""Usage: of a period, by a dimension, of an account, and what there is to filter by."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp

from spoolway.worker.reading import account as accounts
from spoolway.worker.reading.breakdown import DEFAULT_LIMIT, MOST, ORDERS, breakdown
from spoolway.worker.reading.failures import Unavailable
from spoolway.worker.reading.filters import COLUMNS, Filters
from spoolway.worker.reading.usage import usage as historical
from spoolway.worker.rollup.reading import Ask, Found, read
from spoolway.worker.serve.answers import json_response
from spoolway.worker.serve.asking import FILTERS, PERIOD, filters_of, period_of
from spoolway.worker.serve.endpoint import Asked, Endpoint
from spoolway.worker.serve.failures import log_reason
from spoolway.worker.serve.parameters import choice, integer
from spoolway.worker.serve.realtime import realtime
from spoolway.worker.serve.schemas import (
    COUNT,
    ID,
    NUMBER,
    TEXT,
    TIME,
    TRUTH,
    Schema,
    list_of,
    nullable,
    record,
)

_FILTERED: Final = {
    "models": "model",
    "providers": "provider",
    "users": "user",
    "keys": "key",
    "organizations": "organization",
    "projects": "project",
}
_TOGETHER: Final = (("models", "providers"), ("users", "keys", "organizations", "projects"))
_MOST_VALUES: Final = 100
"""Of each dimension: for a list to choose from. Who asks a proxy chooses their names."""


async def usage(asked: Asked) -> ASGIApp:
    """Return what happens now, and what happened in a period."""
    filters, period = filters_of(asked), period_of(asked)
    sources = asked.sources
    look = None
    try:
        if asked.caller.scope.is_everything:
            look, found = await asyncio.gather(
                sources.status.look(), historical(sources.database, filters, period)
            )
        else:  # the streams are everybody's
            found = await historical(sources.database, filters, period)
    except Unavailable as error:
        log_reason(error)
        found = _unavailable(error)
        if asked.caller.scope.is_everything:
            look = await sources.status.look()
    return json_response(
        {
            "generated_at": asked.now,
            "realtime": None if look is None else realtime(look, sources.started_at),
            "historical": found,
        }
    )


def _unavailable(error: Unavailable) -> dict[str, Any]:
    return {
        "enabled": True,
        "status": "unavailable",
        "provider": "database",
        "message": str(error),
    }


async def by_dimension(asked: Asked) -> ASGIApp:
    """Return usage by the values of a dimension, the largest first."""
    given = asked.query
    return json_response(
        await breakdown(
            asked.sources.database,
            given["dimension"],
            filters_of(asked),
            period_of(asked),
            order=given["order"],
            limit=given["limit"],
        )
    )


async def account(asked: Asked) -> ASGIApp:
    """Return the requests of users or keys one by one, and their sums."""
    given = asked.query
    filters = Filters(user=given["user"], key=given["key"]).within(asked.caller.scope)
    page = accounts.Page(
        page=given["page"],
        limit=given["limit"],
        order_by=given["order_by"],
        order_direction=given["order_direction"],
    )
    return json_response(
        await accounts.account(
            asked.sources.database,
            filters,
            page,
            date_from=given["date_from"],
            date_to=given["date_to"],
            now=asked.now,
        )
    )


async def known_values(asked: Asked) -> ASGIApp:
    """Return the values of each dimension in a period, those with the most requests first."""
    hours = period_of(asked).whole_hours()
    # Each from the smallest table that has it, read once for all of them.
    asks = [
        Ask(tuple(COLUMNS[_FILTERED[name]] for name in names), only=("requests",))
        for names in _TOGETHER
    ]
    found = await read(asked.sources.database, asks, hours.start, hours.end, filters_of(asked))
    known = {
        name: _most_used(groups, place)
        for names, groups in zip(_TOGETHER, found, strict=True)
        for place, name in enumerate(names, 1)
    }
    return json_response({name: known[name] for name in _FILTERED})


def _most_used(groups: Found, place: int) -> list[str]:
    used: Counter[str] = Counter()
    for key, totals in groups.items():
        if key[place] is not None:
            used[key[place]] += totals.requests
    return sorted(used, key=lambda value: (-used[value], value))[:_MOST_VALUES]


# --- Schemas ------------------------------------------------------------------

_PERIOD: Final[Mapping[str, Schema]] = {"start_time": TIME, "end_time": TIME}
_MS: Final = nullable(NUMBER)
_NAME: Final = nullable(TEXT)
_SHARES: Final = record(p50=_MS, p90=_MS, p95=_MS, p99=_MS)
_FOOTPRINT: Final[Mapping[str, Schema]] = {
    "kwh_min": NUMBER,
    "kwh_max": NUMBER,
    "kgco2eq_min": NUMBER,
    "kgco2eq_max": NUMBER,
}
_TOKENS: Final[Mapping[str, Schema]] = {
    "total_tokens": COUNT,
    "prompt_tokens": COUNT,
    "completion_tokens": COUNT,
}
_STATE: Final[Mapping[str, Schema]] = {"enabled": TRUTH, "provider": TEXT, "message": TEXT}
_AVAILABLE: Final = record(
    **_STATE,
    status={"const": "available"},
    interval={"type": "string", "enum": ["hour", "day"]},
    total_stats=record(
        total_requests=COUNT,
        successful_requests=COUNT,
        failed_requests=COUNT,
        cancelled_requests=COUNT,
        unknown_requests=COUNT,
        success_rate=NUMBER,
        avg_duration_ms=_MS,
        **_PERIOD,
    ),
    requests_by_model=list_of(record(model_name=_NAME, count=COUNT)),
    error_rates=list_of(
        record(model_name=_NAME, total_requests=COUNT, error_count=COUNT, error_rate=NUMBER)
    ),
    avg_response_times=list_of(
        record(model_name=_NAME, avg_duration_ms=_MS, min_ms=_MS, max_ms=_MS)
    ),
    tokens_by_model=list_of(record(model_name=_NAME, **_TOKENS)),
    usage_trends=list_of(record(timestamp=TIME, count=COUNT)),
    token_stats=record(
        total_tokens=COUNT,
        total_prompt_tokens=COUNT,
        total_completion_tokens=COUNT,
        avg_tokens_per_request=NUMBER,
        total_cached_tokens=COUNT,
        total_reasoning_tokens=COUNT,
        **_PERIOD,
    ),
    token_trends=list_of(record(timestamp=TIME, **_TOKENS)),
    stop_reasons=list_of(record(reason=TEXT, count=COUNT, percentage=NUMBER)),
    tps_stats=record(overall_avg_tps=_MS, min_tps=_MS, max_tps=_MS, request_count=COUNT),
    tps_by_model=list_of({"type": "object"}),
    percentiles=record(duration_ms=_SHARES, ttft_ms=_SHARES),
    latency_trends=list_of(record(timestamp=TIME, p50=_MS, p95=_MS, ttft_p50=_MS, ttft_p95=_MS)),
    error_trends=list_of(record(timestamp=TIME, count=COUNT, errors=nullable(COUNT))),
    errors_by_type=nullable(list_of(record(error_type=_NAME, count=COUNT))),
    cost_stats=record(total_cost=NUMBER, priced_requests=COUNT, unpriced_requests=COUNT),
    cost_trends=list_of(record(timestamp=TIME, cost=NUMBER)),
    footprint_stats=record(**_FOOTPRINT),
    footprint_trends=list_of(record(timestamp=TIME, **_FOOTPRINT)),
)
_USAGE: Final = record(
    generated_at=TIME,
    realtime=nullable(
        record(
            started_at=TIME,
            received=nullable(COUNT),
            served=nullable(COUNT),
            ongoing=nullable(COUNT),
            unit={"const": "entries"},
        )
    ),
    historical={"anyOf": [_AVAILABLE, record(**_STATE, status={"const": "unavailable"})]},
)
_FIGURES: Final[Mapping[str, Schema]] = {
    "requests": COUNT,
    "successful": COUNT,
    "failed": COUNT,
    "cancelled": COUNT,
    "unknown": COUNT,
    "errors": nullable(COUNT),
    **_TOKENS,
    "cached_tokens": COUNT,
    "reasoning_tokens": COUNT,
    "cost": NUMBER,
    "priced_requests": COUNT,
    **_FOOTPRINT,
    "avg_duration_ms": _MS,
}
_BY: Final = record(
    dimension=TEXT,
    order=TEXT,
    **_PERIOD,
    data=list_of(record(value=_NAME, **_FIGURES, p50=_MS, p95=_MS, ttft_p50=_MS, ttft_p95=_MS)),
    others=nullable(record(values=COUNT, **_FIGURES)),
    total=record(**_FIGURES),
)
_WHOLE_NUMBER: Final = nullable({"type": "integer"})
_RECORD: Final = record(
    id=ID,
    datetime={"type": "integer"},
    duration=_WHOLE_NUMBER,
    time_to_first_token=_WHOLE_NUMBER,
    **dict.fromkeys(("user_id", "token_id", "endpoint", "method", "model", "request_model"), _NAME),
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), _WHOLE_NUMBER),
    cost=_MS,
    status=_WHOLE_NUMBER,
    **dict.fromkeys(_FOOTPRINT, _MS),
)
_ACCOUNT: Final = record(
    object={"const": "list"},
    data=list_of(_RECORD),
    total=COUNT,
    total_requests=COUNT,
    total_cost=NUMBER,
    total_albert_coins=NUMBER,
    total_tokens=COUNT,
    total_co2=NUMBER,
    page=COUNT,
    limit=COUNT,
    total_pages=COUNT,
    has_more=TRUTH,
    order_by=TEXT,
    order_direction=TEXT,
    date_from={"type": "integer"},
    date_to={"type": "integer"},
)
_LAST_SECOND: Final = 7_258_118_400
"""Of what is understood as a time: the year 2200."""

ENDPOINTS: Final = (
    Endpoint(
        "/api/usage",
        "usage",
        "What happens now (`realtime`, of the whole fleet), and what happened in whole hours",
        usage,
        _USAGE,
        (*PERIOD, *FILTERS),
    ),
    Endpoint(
        "/api/usage/by",
        "usageBy",
        "Usage by the values of a dimension, the largest first; `others` is what the limit leaves out",
        by_dimension,
        _BY,
        (
            choice("dimension", "Of what", [*COLUMNS], "model"),
            choice("order", "What the largest are the largest of", [*ORDERS], "requests"),
            integer("limit", "Values", 1, MOST, DEFAULT_LIMIT),
            *PERIOD,
            *FILTERS,
        ),
    ),
    Endpoint(
        "/api/filters",
        "filters",
        f"What there is to filter by: the {_MOST_VALUES} values with the most requests",
        known_values,
        record(**{name: list_of(TEXT) for name in _FILTERED}),
        (*PERIOD, *FILTERS),
    ),
    Endpoint(
        "/v1/usage",
        "accountUsage",
        "The requests of users or keys one by one, and their sums, as OpenGateLLM has it",
        account,
        _ACCOUNT,
        (
            *(each for each in FILTERS if each.name in ("user", "key")),
            integer("page", "From 1 on", 1, accounts.DEEPEST, 1),
            integer("limit", "Records of a page", 1, accounts.MOST, accounts.DEFAULT_LIMIT),
            choice("order_by", "By what", accounts.ORDERS, "datetime"),
            choice(
                "order_direction", "The greatest or the least first", accounts.DIRECTIONS, "desc"
            ),
            integer(
                "date_from",
                "Unix seconds, included. Default: 30 days before",
                0,
                _LAST_SECOND,
                None,
            ),
            integer("date_to", "Unix seconds, included. Default: now", 0, _LAST_SECOND, None),
        ),
    ),
)
