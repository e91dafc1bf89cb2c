"""request_logs and error_logs.

On PostgreSQL partitioned by range of ids; the worker makes the partitions. Nothing is imported
from spoolway: a revision stays what it is when the tables go on.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

UUID = sa.Uuid().with_variant(sa.Text(), "sqlite")
TIME = sa.DateTime(timezone=True)
# In SQLite a column declared JSON has numeric affinity: "1e400" would become Inf.
JSON = JSONB().with_variant(sa.Text(), "sqlite")

# What can be long enough to be compressed: every JSON column, and the text with stack traces in it.
COMPRESSED = {
    "request_logs": (
        "headers",
        "body",
        "route",
        "backend_attempts",
        "stream_chunks",
        "errors",
        "usage_stats",
        "response",
        "truncated",
        "extra",
    ),
    "error_logs": ("error_message", "extra_context"),
}


def upgrade() -> None:
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    now = sa.text("(strftime('%Y-%m-%d %H:%M:%f000', 'now'))" if on_sqlite else "now()")
    unlinked = sa.text("request_log_id IS NULL AND request_id IS NOT NULL")

    op.create_table(
        "request_logs",
        sa.Column("id", UUID, nullable=False),
        sa.Column("request_time", TIME, nullable=False),
        sa.Column("model_name", sa.Text()),
        sa.Column("is_stream", sa.Boolean()),
        sa.Column("path", sa.Text()),
        sa.Column("method", sa.Text()),
        sa.Column("query", sa.Text()),
        sa.Column("headers", JSON),
        sa.Column("body", JSON),
        sa.Column("route", JSON),
        sa.Column("backend_attempts", JSON),
        sa.Column("stream_chunks", JSON),
        sa.Column("errors", JSON),
        sa.Column("usage_stats", JSON),
        sa.Column("outcome", sa.Text()),
        sa.Column("duration_ms", sa.Double()),
        sa.Column("created_at", TIME, nullable=False, server_default=now),
        sa.Column("request_id", sa.Text()),
        sa.Column("http_status", sa.BigInteger()),
        sa.Column("provider", sa.Text()),
        sa.Column("provider_model", sa.Text()),
        sa.Column("response", JSON),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("ttft_ms", sa.Double()),
        sa.Column("prompt_tokens", sa.BigInteger()),
        sa.Column("completion_tokens", sa.BigInteger()),
        sa.Column("total_tokens", sa.BigInteger()),
        sa.Column("cached_tokens", sa.BigInteger()),
        sa.Column("reasoning_tokens", sa.BigInteger()),
        sa.Column("cost", sa.Double()),
        sa.Column("kwh_min", sa.Double()),
        sa.Column("kwh_max", sa.Double()),
        sa.Column("kgco2eq_min", sa.Double()),
        sa.Column("kgco2eq_max", sa.Double()),
        sa.Column("user_id", sa.Text()),
        sa.Column("api_key_id", sa.Text()),
        sa.Column("organization_id", sa.Text()),
        sa.Column("project_id", sa.Text()),
        sa.Column("client_ip", sa.Text()),
        sa.Column("truncated", JSON),
        sa.Column("extra", JSON),
        sa.CheckConstraint(
            "outcome IN ('success', 'error', 'cancelled')", name=op.f("ck_request_logs_outcome")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request_logs")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_table(
        "error_logs",
        sa.Column("id", UUID, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("model_name", sa.Text()),
        sa.Column("error_type", sa.Text()),
        sa.Column("error_message", sa.Text()),
        sa.Column("backend_name", sa.Text()),
        sa.Column("http_status", sa.BigInteger()),
        sa.Column("request_path", sa.Text()),
        sa.Column("request_log_id", UUID),
        sa.Column("extra_context", JSON),
        sa.Column("created_at", TIME, nullable=False, server_default=now),
        sa.Column("request_id", UUID),
        sa.ForeignKeyConstraint(
            ["request_log_id"],
            ["request_logs.id"],
            name=op.f("fk_error_logs_request_log_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_error_logs")),
        postgresql_partition_by="RANGE (id)",
    )

    for table, column in (
        ("request_logs", "request_time"),
        ("request_logs", "created_at"),
        ("error_logs", "timestamp"),
        ("error_logs", "created_at"),
    ):
        _index(table, column, postgresql_using="brin")
    for table, column in (
        ("request_logs", "model_name"),
        ("request_logs", "outcome"),
        ("error_logs", "model_name"),
        ("error_logs", "error_type"),
        ("error_logs", "request_log_id"),
    ):
        _index(table, column)
    op.create_index(
        op.f("ix_error_logs_unlinked"),
        "error_logs",
        ["request_id"],
        postgresql_where=unlinked,
        sqlite_where=unlinked,
    )

    if not on_sqlite:
        _compress_with_lz4()


def _index(table: str, column: str, **options: Any) -> None:
    op.create_index(op.f(f"ix_{table}_{column}"), table, [column], **options)


def _compress_with_lz4() -> None:
    """Partitions take it over from the table. A server may be built without lz4, or before it."""
    has_lz4 = op.get_bind().scalar(
        sa.text(
            "SELECT 'lz4' = ANY(enumvals) FROM pg_settings WHERE name = 'default_toast_compression'"
        )
    )
    if not has_lz4:
        return
    for table, columns in COMPRESSED.items():
        actions = ", ".join(f"ALTER COLUMN {column} SET COMPRESSION lz4" for column in columns)
        op.execute(f"ALTER TABLE {table} {actions}")


def downgrade() -> None:
    op.drop_table("error_logs")
    op.drop_table("request_logs")
