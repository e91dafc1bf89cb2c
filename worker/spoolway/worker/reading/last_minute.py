"""What came into the database in the last minute, by model: for one who watches."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, Table, func, select

from spoolway.schema.ids import lower_bound
from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.reading.database import ReadDatabase

SECONDS: Final = 60
_OLDEST: Final = timedelta(days=1)
"""Events that began longer ago are not looked for: PostgreSQL need not open their partitions."""


@dataclass(slots=True)
class OfModel:
    """One model's."""

    model: str | None
    requests: int = 0
    failed: int = 0
    """Requests whose outcome is error."""
    cancelled: int = 0
    errors: int = 0
    """Error events."""
    mean_ms: float | None = None
    longest_ms: float | None = None


@dataclass(slots=True, frozen=True)
class LastMinute:
    """All of it."""

    models: Sequence[OfModel]
    """The busiest first."""
    milliseconds: float
    """What the answer took."""


async def last_minute(database: ReadDatabase, now: datetime | None = None) -> LastMinute:
    """Count rows by when they were committed. Raises as `ReadDatabase.fetch`."""
    began = time.monotonic()
    now = now or datetime.now(UTC)
    requests, errors = await database.fetch_together(_requests(now), _errors(now))
    found: dict[str | None, OfModel] = {}
    timed: Counter[str | None] = Counter()
    for row in requests:
        one = found.setdefault(row.model_name, OfModel(row.model_name))
        one.requests += row.number
        if row.outcome == "error":
            one.failed += row.number
        elif row.outcome == "cancelled":
            one.cancelled += row.number
        if row.timed:
            timed[row.model_name] += row.timed
            one.mean_ms = (one.mean_ms or 0.0) + row.took  # a sum, until all are there
            one.longest_ms = max(one.longest_ms or 0.0, row.longest)
    for model, number in timed.items():
        found[model].mean_ms = (found[model].mean_ms or 0.0) / number
    for row in errors:
        found.setdefault(row.model_name, OfModel(row.model_name)).errors += row.number
    busiest = sorted(found.values(), key=lambda one: (-one.requests, -one.errors, one.model or ""))
    return LastMinute(busiest, round((time.monotonic() - began) * 1000, 3))


def _requests(now: datetime) -> Select[Any]:
    columns = request_logs.c
    return (
        select(
            columns.model_name,
            columns.outcome,
            func.count().label("number"),
            func.count(columns.duration_ms).label("timed"),
            func.sum(columns.duration_ms).label("took"),
            func.max(columns.duration_ms).label("longest"),
        )
        .where(*_recent(request_logs, now))
        .group_by(columns.model_name, columns.outcome)
    )


def _errors(now: datetime) -> Select[Any]:
    columns = error_logs.c
    return (
        select(columns.model_name, func.count().label("number"))
        .where(*_recent(error_logs, now))
        .group_by(columns.model_name)
    )


def _recent(table: Table, now: datetime) -> tuple[Any, Any]:
    since = now - timedelta(seconds=SECONDS)
    return table.c.created_at >= since, table.c.id >= lower_bound(now - _OLDEST)
