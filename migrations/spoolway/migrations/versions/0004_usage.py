"""Roll-ups of usage, and where a cost or a footprint that the worker filled in is from."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

UUID = sa.Uuid().with_variant(sa.Text(), "sqlite")
TIME = sa.DateTime(timezone=True)
JSON = JSONB().with_variant(sa.Text(), "sqlite")

MODEL = ("model_name", "provider", "outcome")
ALL = (*MODEL, "user_id", "api_key_id", "organization_id", "project_id")
TOKENS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
)
COUNTS = ("requests", "errors", "priced", *TOKENS, "duration_count", "ttft_count")
SUMS = ("cost", "kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max", "duration_ms", "ttft_ms")
MAPS = ("duration_histogram", "ttft_histogram", "stop_reasons", "error_types")
LEVELS = {
    "usage_hours": ("hour", ALL),
    "usage_days": ("day", ALL),
    "usage_model_hours": ("hour", MODEL),
    "usage_model_days": ("day", MODEL),
    "usage_account_hours": ("hour", ALL[2:]),
    "usage_account_days": ("day", ALL[2:]),
    "usage_outcome_hours": ("hour", ("outcome",)),
    "usage_outcome_days": ("day", ("outcome",)),
}

# What is pending, one row per event. Times are as RFC 3339 has them, with any offset.
POSTGRESQL_PENDING = """
SELECT date_trunc('hour', (fact ->> 0)::timestamptz, 'UTC') AS hour, kind,
       CASE WHEN kind <> 'error' THEN fact END AS request, CASE WHEN kind = 'error' THEN fact END AS error
FROM usage_pending, json_array_elements(facts::json) AS fact WHERE kind <> 'unreadable'
"""
SQLITE_PENDING = """
SELECT strftime('%Y-%m-%d %H:00:00.000000', json_extract(value, '$[0]')) AS hour, kind,
       CASE WHEN kind <> 'error' THEN value END AS request, CASE WHEN kind = 'error' THEN value END AS error
FROM usage_pending, json_each(facts) WHERE kind <> 'unreadable'
"""


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    now = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))" if on_sqlite else "now()")
    op.add_column("request_logs", sa.Column("enriched", JSON))
    op.create_table(
        "usage_pending",
        sa.Column("id", UUID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=now),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_pending")),
    )
    for table, (period, dimensions) in LEVELS.items():
        op.create_table(
            table,
            sa.Column(period, TIME, nullable=False),
            sa.Column("key", UUID, nullable=False),
            *(sa.Column(name, sa.Text()) for name in dimensions),
            *(
                sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
                for name in COUNTS
            ),
            *(sa.Column(name, sa.Double(), nullable=False, server_default="0") for name in SUMS),
            sa.Column("duration_min_ms", sa.Double()),
            sa.Column("duration_max_ms", sa.Double()),
            *(sa.Column(name, JSON) for name in MAPS),
            sa.PrimaryKeyConstraint(period, "key", name=op.f(f"pk_{table}")),
        )
    for table in ("usage_days", "usage_account_days"):
        for column in ("user_id", "api_key_id"):
            name = op.f(f"ix_{table}_{column}")
            op.create_index(name, table, [column], postgresql_using="hash")
    op.execute(_view(on_sqlite))
    if not on_sqlite:
        _spare_compression()


def _view(on_sqlite: bool) -> str:
    """Return the view of what is in hours and what is pending: exact at any moment."""
    real, whole = ("REAL", "INTEGER") if on_sqlite else ("float8", "bigint")

    def of(fact: str, at: int) -> str:
        # SQLite has ->> since 3.38 alone.
        return f"json_extract({fact}, '$[{at}]')" if on_sqlite else f"{fact} ->> {at}"

    def of_request(at: int, kind: str = "") -> str:
        value = of("request", at)
        return f"CAST({value} AS {kind})" if kind else value

    at = {name: 1 + number for number, name in enumerate((*ALL, *TOKENS))}
    floats = ("cost", "kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max", "duration_ms", "ttft_ms")
    at |= {name: len(at) + 1 + number for number, name in enumerate(floats)}
    pending = {
        **{name: of_request(at[name]) for name in ALL},
        "model_name": f"coalesce({of('error', 1)}, {of_request(at['model_name'])})",
        "requests": "CASE WHEN kind = 'request' THEN 1 ELSE 0 END",
        "errors": "CASE WHEN kind = 'error' THEN 1 ELSE 0 END",
        "priced": f"CASE WHEN {of_request(at['cost'])} IS NULL THEN 0 ELSE 1 END",
        **{name: f"coalesce({of_request(at[name], whole)}, 0)" for name in TOKENS},
        "duration_count": f"CASE WHEN {of_request(at['duration_ms'])} IS NULL THEN 0 ELSE 1 END",
        "ttft_count": f"CASE WHEN {of_request(at['ttft_ms'])} IS NULL THEN 0 ELSE 1 END",
        **{name: f"coalesce({of_request(at[name], real)}, 0)" for name in floats},
    }
    columns = (*ALL, *COUNTS, *SUMS)
    # `outcome` and the rest are NULL in an error's fact, which has but its model.
    return (
        f"CREATE VIEW usage_hourly AS SELECT hour, {', '.join(columns)} FROM usage_hours "  # noqa: S608 - our own names
        f"UNION ALL SELECT hour, {', '.join(f'{pending[name]} AS {name}' for name in columns)} "
        f"FROM ({SQLITE_PENDING if on_sqlite else POSTGRESQL_PENDING}) AS pending"
    )


def _spare_compression() -> None:
    """Facts live for seconds: lz4 where there is one, and no time for pglz where there is none."""
    connection = op.get_bind()
    has_lz4 = connection.scalar(
        sa.text(
            "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
    )
    if has_lz4:
        op.execute("ALTER TABLE usage_pending ALTER COLUMN facts SET COMPRESSION lz4")
        op.execute("ALTER TABLE request_logs ALTER COLUMN enriched SET COMPRESSION lz4")
    else:
        op.execute("ALTER TABLE usage_pending ALTER COLUMN facts SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("DROP VIEW usage_hourly")
    for table in (*LEVELS, "usage_pending"):
        op.drop_table(table)
    with op.batch_alter_table("request_logs") as requests:
        requests.drop_column("enriched")
