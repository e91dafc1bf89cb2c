"""The roll-ups: usage by hour and by day, and the facts that are still to be added to them.

A batch's transaction leaves its facts in `usage_pending`, one row of JSON for all its requests and
one for its errors. A job adds them to the levels a little later, in a transaction that also deletes
them: at any moment usage is what the levels say plus what is pending, and every event that is in the
tables is in it exactly once. In SQL the view `usage_hourly` is that sum.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Double, Index, PrimaryKeyConstraint, Table, Text

from spoolway.schema.tables import Json, UtcTime, UuidText, metadata, utc_now

DIMENSIONS: Final = (
    "model_name",
    "provider",
    "outcome",
    "user_id",
    "api_key_id",
    "organization_id",
    "project_id",
)
"""What usage is told apart by. Each may be NULL: an error event has but its model."""
MODEL_DIMENSIONS: Final = DIMENSIONS[:3]
ACCOUNT_DIMENSIONS: Final = DIMENSIONS[2:]

TOKENS: Final = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
)
FOOTPRINT: Final = ("kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max")
REQUEST_FACT: Final = (
    "request_time",
    *DIMENSIONS,
    *TOKENS,
    "cost",
    *FOOTPRINT,
    "duration_ms",
    "ttft_ms",
    "stop_reason",
)
"""A request as a fact: these columns' values in this order, as a JSON array."""
ERROR_FACT: Final = ("timestamp", "model_name", "error_type")

COUNTS: Final = ("requests", "errors", "priced", *TOKENS, "duration_count", "ttft_count")
"""Whole numbers. `errors` are events of error_logs; `priced` are requests whose cost is known;
`duration_count` and `ttft_count` are requests that have one."""
SUMS: Final = ("cost", *FOOTPRINT, "duration_ms", "ttft_ms")
EXTREMES: Final = ("duration_min_ms", "duration_max_ms")
MAPS: Final = ("duration_histogram", "ttft_histogram", "stop_reasons", "error_types")
"""JSON objects of counts. A histogram's keys are the numbers of its buckets, see `BOUNDS_MS`."""

PER_DOUBLING: Final = 16
BOUNDS_MS: Final = tuple(2 ** (step / PER_DOUBLING) for step in range(22 * PER_DOUBLING + 1))
"""Upper bounds of buckets 0, 1, …, from 1 ms to 70 minutes, each 4.4 % above the last; one more
bucket takes what is above. Histograms of any rows add up bucket by bucket."""

usage_pending = Table(
    "usage_pending",
    metadata,
    Column("id", UuidText(), primary_key=True),
    Column("kind", Text(), nullable=False),
    Column("facts", Text(), nullable=False),
    Column("created_at", UtcTime(), nullable=False, server_default=utc_now()),
)
"""`kind` is request, error, or enrichment: facts of requests that are counted already, with nothing
in them but what was filled in. UNREADABLE are rows that a merge could make nothing of."""

UNREADABLE: Final = "unreadable"
"""They stay for a person to look at, and are in no sum: one of them must not end all counting."""


@dataclass(frozen=True, slots=True)
class Level:
    """One table of totals. Its rows are told apart by a period and by dimensions."""

    table: Table
    period: str
    """Name of its first column: "hour" or "day", the UTC time at which that begins."""
    dimensions: tuple[str, ...]


def _level(name: str, period: str, dimensions: tuple[str, ...]) -> Level:
    def zero(column: str, kind: Any) -> Column[Any]:
        return Column(column, kind, nullable=False, server_default="0")

    table = Table(
        name,
        metadata,
        Column(period, UtcTime(), nullable=False),
        # A digest of the dimensions, which may be NULL, and of any length.
        Column("key", UuidText(), nullable=False),
        *(Column(dimension, Text()) for dimension in dimensions),
        *(zero(count, BigInteger()) for count in COUNTS),
        *(zero(total, Double()) for total in SUMS),
        *(Column(extreme, Double()) for extreme in EXTREMES),
        *(Column(counts, Json) for counts in MAPS),
        PrimaryKeyConstraint(period, "key"),
    )
    return Level(table, period, dimensions)


HOURS: Final = _level("usage_hours", "hour", DIMENSIONS)
DAYS: Final = _level("usage_days", "day", DIMENSIONS)
MODEL_HOURS: Final = _level("usage_model_hours", "hour", MODEL_DIMENSIONS)
MODEL_DAYS: Final = _level("usage_model_days", "day", MODEL_DIMENSIONS)
ACCOUNT_HOURS: Final = _level("usage_account_hours", "hour", ACCOUNT_DIMENSIONS)
ACCOUNT_DAYS: Final = _level("usage_account_days", "day", ACCOUNT_DIMENSIONS)
OUTCOME_HOURS: Final = _level("usage_outcome_hours", "hour", ("outcome",))
OUTCOME_DAYS: Final = _level("usage_outcome_days", "day", ("outcome",))
LEVELS: Final = (
    HOURS,
    DAYS,
    MODEL_HOURS,
    MODEL_DAYS,
    ACCOUNT_HOURS,
    ACCOUNT_DAYS,
    OUTCOME_HOURS,
    OUTCOME_DAYS,
)
"""The finest first. A long period is read by days, its ends by hours, from the table with the fewest
dimensions that has what is asked for. Histograms cost most to read, and those of all models together
are read most often: hence tables of a few rows for each period."""

# Who looks at one user's month must not read everybody's. By hash: a name may be of any length.
for _level_of_all in (DAYS, ACCOUNT_DAYS):
    for _name in ("user_id", "api_key_id"):
        Index(None, _level_of_all.table.c[_name], postgresql_using="hash")

USAGE_VIEW: Final = "usage_hourly"
"""The levels' hours and what is pending, as rows that add up: for SQL by hand."""
