"""Usage of an account, as OpenGateLLM's users know it: its requests one by one, and their sums.

The sums are exactly those of `date_from` to `date_to`: of its whole hours the roll-ups say them, of
the minutes at both ends the rows do. No request is in both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Select, and_, func, select

from spoolway.schema.tables import request_logs
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import BadQuery
from spoolway.worker.reading.figures import sum_of
from spoolway.worker.reading.filters import Filters
from spoolway.worker.reading.period import Period
from spoolway.worker.rollup import sums
from spoolway.worker.rollup.reading import Ask, read
from spoolway.worker.rollup.totals import Totals

DEFAULT: Final = timedelta(days=30)
"""The period, when none is asked for."""
MOST: Final = 100
"""Records of a page."""
DEFAULT_LIMIT: Final = 50
DEEPEST: Final = 10_000
"""Records from the first to the last of a page: what is before a page is read, too."""
ORDERS: Final = ("datetime", "cost", "total_tokens")
DIRECTIONS: Final = ("asc", "desc")

_INSTANT: Final = timedelta(microseconds=1)
_HOUR: Final = timedelta(hours=1)
_CO2: Final = ("kgco2eq_min", "kgco2eq_max")
_GRAMS: Final = 1_000
_COLUMNS: Final = (
    "id",
    "request_time",
    "duration_ms",
    "ttft_ms",
    "user_id",
    "api_key_id",
    "path",
    "method",
    "model_name",
    "provider_model",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost",
    "http_status",
    "kwh_min",
    "kwh_max",
    *_CO2,
)


@dataclass(frozen=True, slots=True)
class Page:
    """Which records are asked for, and in which order.

    Raises:
        BadQuery: an order there is not, or a page out of bounds.
    """

    page: int = 1
    limit: int = DEFAULT_LIMIT
    order_by: str = "datetime"
    order_direction: str = "desc"

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        if self.order_by not in ORDERS:
            raise BadQuery(f"order_by is {', '.join(ORDERS)}; not {self.order_by!r}")
        if self.order_direction not in DIRECTIONS:
            raise BadQuery(f"order_direction is asc or desc; not {self.order_direction!r}")
        if not 1 <= self.limit <= MOST:
            raise BadQuery(f"limit is from 1 to {MOST}")
        if not 1 <= self.page <= DEEPEST // self.limit:
            raise BadQuery(
                f"page is from 1 to {DEEPEST // self.limit} with this limit: ask for a shorter "
                "period, or export /api/logs"
            )

    @property
    def offset(self) -> int:
        """How many records are before it."""
        return (self.page - 1) * self.limit

    @property
    def is_ascending(self) -> bool:
        """Whether the least is first."""
        return self.order_direction == "asc"


FIRST_PAGE: Final = Page()


async def account(
    database: ReadDatabase,
    filters: Filters,
    page: Page = FIRST_PAGE,
    *,
    date_from: int | None = None,
    date_to: int | None = None,
    now: datetime,
) -> dict[str, Any]:
    """Return the answer of /v1/usage; dates are Unix seconds, both included.

    Raises:
        BadQuery: dates that are no period.
        Unavailable, TooSlow: as `ReadDatabase.fetch`.
    """
    period = period_of(date_from, date_to, now)
    parts = await _parts(database, filters, period)
    whole = Totals()
    for part in parts:
        whole.add(part.totals)
    total_cost = sum_of(whole.cost)
    pages = math.ceil(whole.requests / page.limit) or 1
    return {
        "object": "list",
        "data": [_record(row) for row in await _rows(database, filters, period, page, parts)],
        "total": whole.requests,
        "total_requests": whole.requests,
        "total_cost": total_cost,
        "total_albert_coins": total_cost,
        "total_tokens": whole.total_tokens,
        "total_co2": sum_of((whole.kgco2eq_min + whole.kgco2eq_max) / 2 * _GRAMS),
        "page": page.page,
        "limit": page.limit,
        "total_pages": pages,
        "has_more": page.page < pages,
        "order_by": page.order_by,
        "order_direction": page.order_direction,
        "date_from": int(period.start.timestamp()),
        "date_to": int((period.end - _INSTANT).timestamp()),
    }


def period_of(date_from: int | None, date_to: int | None, now: datetime) -> Period:
    """Return the period of dates that are both included. Raises BadQuery."""
    try:
        end = datetime.fromtimestamp(int(now.timestamp()) if date_to is None else date_to, UTC)
        start = end - DEFAULT if date_from is None else datetime.fromtimestamp(date_from, UTC)
    except (ValueError, OverflowError, OSError):
        raise BadQuery("date_from and date_to are Unix seconds") from None
    if start > end:
        raise BadQuery("date_from is later than date_to")
    return Period(start, end + _INSTANT)


# --- Sums -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What is of [start, end)."""

    start: datetime
    end: datetime
    totals: Totals


async def _parts(database: ReadDatabase, filters: Filters, period: Period) -> list[Part]:
    """Return what there is of a period, from its start to its end."""
    first, last = whole_hours_within(period)
    ends = [(period.start, first), (last, period.end)] if first < last else []
    ends = [end for end in ends if end[0] < end[1]] or (
        [] if ends else [(period.start, period.end)]
    )
    parts = []
    if ends:
        statements = [_sums(filters, *end, database.dialect) for end in ends]
        answers = await database.fetch_together(*statements)
        parts = [Part(*end, _totals(rows[0])) for end, rows in zip(ends, answers, strict=True)]
    if first < last:
        [days] = await read(database, [Ask((), "day")], first, last, filters)
        for (day,), totals in days.items():
            start, end = max(day, first), min(day + timedelta(days=1), last)
            parts.append(Part(start, end, totals))
    return sorted(parts, key=lambda part: part.start)


def whole_hours_within(period: Period) -> tuple[datetime, datetime]:
    """Return the hours that lie in a period whole: from the first to the end of the last."""
    first = period.start.replace(minute=0, second=0, microsecond=0)
    if first < period.start:
        first += _HOUR
    return first, period.end.replace(minute=0, second=0, microsecond=0)


def _sums(filters: Filters, start: datetime, end: datetime, dialect: str) -> Select[Any]:
    columns = request_logs.c
    return select(
        func.count(),
        sums.whole(columns.total_tokens, dialect),
        *(sums.fraction(columns[name], dialect) for name in ("cost", *_CO2)),
    ).where(*_of(filters, start, end))


def _totals(row: Sequence[Any]) -> Totals:
    requests, tokens, *fractions = row
    cost, kgco2eq_min, kgco2eq_max = (value or 0.0 for value in fractions)
    return Totals(
        requests=requests,
        total_tokens=int(tokens or 0),
        cost=cost,
        kgco2eq_min=kgco2eq_min,
        kgco2eq_max=kgco2eq_max,
    )


# --- Records ----------------------------------------------------------------------


async def _rows(
    database: ReadDatabase,
    filters: Filters,
    period: Period,
    page: Page,
    parts: Sequence[Part],
) -> Sequence[Row[Any]]:
    """Return a page's rows."""
    near = enough(period, page, parts)
    rows = await database.fetch(_statement(filters, near, page))
    if len(rows) < page.limit and near != period:
        # What was counted there has been removed since: retention takes rows, and leaves usage.
        rows = await database.fetch(_statement(filters, period, page))
    return rows


def enough(period: Period, page: Page, parts: Sequence[Part]) -> Period:
    """Return the part of a period that a page can be read from, by what the roll-ups say.

    No index has an account's rows in the order of their time: who asks for the newest page of a
    month needs not wait for all of it to be read.
    """
    if page.order_by != "datetime":
        return period
    left = page.offset + page.limit
    for part in parts if page.is_ascending else reversed(parts):
        left -= part.totals.requests
        if left <= 0:
            if page.is_ascending:
                return Period(period.start, part.end)
            return Period(part.start, period.end)
    return period


def _statement(filters: Filters, period: Period, page: Page) -> Select[Any]:
    columns = request_logs.c
    column = columns["request_time" if page.order_by == "datetime" else page.order_by]
    order: list[ColumnElement[Any]] = (
        [column.asc().nulls_last(), columns.id.asc()]
        if page.is_ascending
        else [column.desc().nulls_last(), columns.id.desc()]
    )
    return (
        select(*(columns[name] for name in _COLUMNS))
        .where(*_of(filters, period.start, period.end))
        .order_by(*order)
        .offset(page.offset)
        .limit(page.limit)
    )


def _of(filters: Filters, start: datetime, end: datetime) -> list[ColumnElement[bool]]:
    moment = request_logs.c.request_time
    return [and_(moment >= start, moment < end), *filters.conditions(request_logs)]


def _record(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "datetime": int(row.request_time.timestamp()),
        "duration": _milliseconds(row.duration_ms),
        "time_to_first_token": _milliseconds(row.ttft_ms),
        "user_id": row.user_id,
        "token_id": row.api_key_id,
        "endpoint": row.path,
        "method": row.method,
        "model": row.provider_model or row.model_name,
        "request_model": row.model_name,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
        "total_tokens": row.total_tokens,
        "cost": row.cost,
        "status": row.http_status,
        "kwh_min": row.kwh_min,
        "kwh_max": row.kwh_max,
        "kgco2eq_min": row.kgco2eq_min,
        "kgco2eq_max": row.kgco2eq_max,
    }


def _milliseconds(value: float | None) -> int | None:
    return None if value is None else round(value)
