"""Where events land: `request_logs` and `error_logs`, for PostgreSQL and SQLite.

The one declaration of both tables; the migrations' result is compared with it in a test. On
PostgreSQL both are partitioned by RANGE (id): an id's first 48 bits are its time, so a day of rows
is a range of ids and `PRIMARY KEY (id)` needs no second column.
"""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from spoolway.schema.events import OUTCOMES


class UuidText(TypeDecorator[UUID]):
    """PostgreSQL's uuid; in SQLite the 36 characters that every tool prints."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the column type by dialect."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Return what the driver takes."""
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, _dialect: Dialect) -> UUID | None:
        """Return a UUID on both."""
        return UUID(value) if isinstance(value, str) else value


class UtcTime(TypeDecorator[datetime]):
    """timestamptz; in SQLite UTC text that its date functions read (2026-01-31 23:59:59.123456)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody would know later which zone it was in."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone cannot be stored: {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Return an aware UTC time on both."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class utc_now(ColumnElement[datetime]):  # noqa: N801 - read as SQL, like func.now
    """Server default: the time of the transaction, as UtcTime stores it."""

    inherit_cache = True
    type = UtcTime()


@compiles(utc_now)
def _utc_now(_element: utc_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "now()"


@compiles(utc_now, "sqlite")
def _utc_now_sqlite(_element: utc_now, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class JsonText(sqlite.JSON):
    """JSON as text. SQLite gives a column declared JSON numeric affinity: "1e400" became Inf."""


@compiles(JsonText, "sqlite")
def _json_text(_element: JsonText, _compiler: SQLCompiler, **_kw: Any) -> str:
    return "TEXT"


Json = JSONB(none_as_null=True).with_variant(JsonText(none_as_null=True), "sqlite")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

request_logs = Table(
    "request_logs",
    metadata,
    Column("id", UuidText(), primary_key=True),
    Column("request_time", UtcTime(), nullable=False),
    Column("model_name", Text()),
    Column("is_stream", Boolean()),
    Column("path", Text()),
    Column("method", Text()),
    Column("query", Text()),
    Column("headers", Json),
    Column("body", Json),
    Column("route", Json),
    Column("backend_attempts", Json),
    Column("stream_chunks", Json),
    Column("errors", Json),
    Column("usage_stats", Json),
    Column("outcome", Text()),
    Column("duration_ms", Double()),
    Column("created_at", UtcTime(), nullable=False, server_default=utc_now()),
    Column("request_id", Text()),
    Column("http_status", BigInteger()),
    Column("provider", Text()),
    Column("provider_model", Text()),
    Column("response", Json),
    Column("stop_reason", Text()),
    Column("ttft_ms", Double()),
    Column("prompt_tokens", BigInteger()),
    Column("completion_tokens", BigInteger()),
    Column("total_tokens", BigInteger()),
    Column("cached_tokens", BigInteger()),
    Column("reasoning_tokens", BigInteger()),
    Column("cost", Double()),
    Column("kwh_min", Double()),
    Column("kwh_max", Double()),
    Column("kgco2eq_min", Double()),
    Column("kgco2eq_max", Double()),
    Column("user_id", Text()),
    Column("api_key_id", Text()),
    Column("organization_id", Text()),
    Column("project_id", Text()),
    Column("client_ip", Text()),
    Column("truncated", Json),
    Column("extra", Json),
    # What the worker has filled in, and from where: no producer sends it.
    Column("enriched", Json),
    CheckConstraint(
        "outcome IN ({})".format(", ".join(f"'{outcome}'" for outcome in OUTCOMES)), name="outcome"
    ),
    postgresql_partition_by="RANGE (id)",
)

error_logs = Table(
    "error_logs",
    metadata,
    Column("id", UuidText(), primary_key=True),
    Column("timestamp", UtcTime(), nullable=False),
    Column("model_name", Text()),
    Column("error_type", Text()),
    Column("error_message", Text()),
    Column("backend_name", Text()),
    Column("http_status", BigInteger()),
    Column("request_path", Text()),
    Column("request_log_id", UuidText(), ForeignKey("request_logs.id", ondelete="SET NULL")),
    Column("extra_context", Json),
    Column("created_at", UtcTime(), nullable=False, server_default=utc_now()),
    # The reference as it was given; request_log_id follows when the request's row is there.
    Column("request_id", UuidText()),
    postgresql_partition_by="RANGE (id)",
)

# BRIN where rows arrive in the column's order: some pages for a table instead of an entry a row.
for _column in (
    request_logs.c.request_time,
    request_logs.c.created_at,
    error_logs.c.timestamp,
    error_logs.c.created_at,
):
    Index(None, _column, postgresql_using="brin")
for _column in (
    request_logs.c.model_name,
    request_logs.c.outcome,
    error_logs.c.model_name,
    error_logs.c.error_type,
    error_logs.c.request_log_id,
):
    Index(None, _column)

UNLINKED = text("request_log_id IS NULL AND request_id IS NOT NULL")
"""Errors whose request's row is not there yet, or that nobody linked yet."""
Index(
    "ix_error_logs_unlinked",
    error_logs.c.request_id,
    postgresql_where=UNLINKED,
    sqlite_where=UNLINKED,
)

TABLES = {"request": request_logs, "error": error_logs}
JSON_COLUMNS = {
    table.name: [column.name for column in table.c if isinstance(column.type, JSON)]
    for table in TABLES.values()
}
