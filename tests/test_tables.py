"""Where events land: every column has its field, and SQLite gives back what PostgreSQL would."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Engine,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, registry
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.schema import CreateIndex, CreateTable

from spoolway.schema import Event, RequestEvent, decode_line, encode_line, new_id
from spoolway.schema.columns import COLUMNS, Kind
from spoolway.schema.events import EVENT_TYPES, OUTCOMES, OVERFLOW_COLUMN
from spoolway.schema.tables import (
    JSON_COLUMNS,
    TABLES,
    UtcTime,
    UuidText,
    error_logs,
    metadata,
    request_logs,
)
from tests.servers import PostgresServer
from tests.strategies import MOMENT, NAIVE, error_fields, request_fields

REQUEST_LOGS = [
    "id",
    "request_time",
    "model_name",
    "is_stream",
    "path",
    "method",
    "query",
    "headers",
    "body",
    "route",
    "backend_attempts",
    "stream_chunks",
    "errors",
    "usage_stats",
    "outcome",
    "duration_ms",
    "created_at",
    "request_id",
    "http_status",
    "provider",
    "provider_model",
    "response",
    "stop_reason",
    "ttft_ms",
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
    "user_id",
    "api_key_id",
    "organization_id",
    "project_id",
    "client_ip",
    "truncated",
    "extra",
    "enriched",
]
ERROR_LOGS = [
    "id",
    "timestamp",
    "model_name",
    "error_type",
    "error_message",
    "backend_name",
    "http_status",
    "request_path",
    "request_log_id",
    "extra_context",
    "created_at",
    "request_id",
]
BY_DATABASE = {"request": {"created_at", "enriched"}, "error": {"created_at", "request_log_id"}}
"""Columns that no producer fills."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """A SQLite file with both tables, foreign keys on."""
    engine = create_engine(f"sqlite:///{tmp_path / 'spoolway.db'}")

    @event.listens_for(engine, "connect")
    def _foreign_keys(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA foreign_keys=ON")

    metadata.create_all(engine)
    yield engine
    engine.dispose()


def type_of(kind: Kind) -> Any:
    """Return what a column of this kind is declared as."""
    declared: dict[Kind, Any] = {
        "text": Text,
        "whole": BigInteger,
        "real": Double,
        "flag": Boolean,
        "time": UtcTime,
        "id": UuidText,
        "outcome": Text,
        "json": postgresql.JSONB,
    }
    return declared[kind]


# --- Fields and columns -------------------------------------------------------------


def test_the_tables_have_these_columns() -> None:
    """In this order; readers' queries and the migrations depend on the names."""
    assert [column.name for column in request_logs.c] == REQUEST_LOGS
    assert [column.name for column in error_logs.c] == ERROR_LOGS


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_field_has_its_column(kind: str) -> None:
    """A struct's fields are the table's columns, but for those that the database fills."""
    columns = {column.name for column in TABLES[kind].c}
    assert set(EVENT_TYPES[kind].__struct_fields__) == columns - BY_DATABASE[kind]
    assert set(COLUMNS[kind]) == columns - BY_DATABASE[kind]
    assert OVERFLOW_COLUMN[kind] in columns


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_field_and_its_column_are_of_one_kind(kind: str) -> None:
    """What fits the field fits the column."""
    for name, field_kind in COLUMNS[kind].items():
        assert isinstance(TABLES[kind].c[name].type, type_of(field_kind)), name
    json_columns = [name for name, field_kind in COLUMNS[kind].items() if field_kind == "json"]
    assert sorted({*JSON_COLUMNS[TABLES[kind].name]} - BY_DATABASE[kind]) == sorted(json_columns)


def test_only_the_id_and_the_times_are_needed() -> None:
    """Every other column may be NULL: nothing else is needed of an event."""
    needed = {
        table.name: {column.name for column in table.c if not column.nullable}
        for table in TABLES.values()
    }
    assert needed["request_logs"] == {"id", "request_time", "created_at"}
    assert needed["error_logs"] == {"id", "timestamp", "created_at"}


def test_what_is_searched_is_indexed() -> None:
    """Every column that DESIGN names, and the errors that wait for their request."""
    indexed = {
        table.name: {column.name for index in table.indexes for column in index.columns}
        for table in TABLES.values()
    }
    assert indexed["request_logs"] == {"request_time", "model_name", "outcome", "created_at"}
    assert indexed["error_logs"] == {
        "timestamp",
        "model_name",
        "error_type",
        "created_at",
        "request_log_id",
        "request_id",
    }


@pytest.mark.parametrize("name", ["postgresql", "sqlite"])
def test_the_tables_can_be_declared(name: str) -> None:
    """On both databases, with types that keep what is stored."""
    dialect = registry.load(name)()
    ddl = "\n".join(
        str(CreateTable(table).compile(dialect=dialect))
        + "".join(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)
        for table in TABLES.values()
    )
    assert "JSON" not in ddl or "JSONB" in ddl  # SQLite's JSON would have numeric affinity
    assert ("PARTITION BY RANGE (id)" in ddl) == (dialect.name == "postgresql")
    assert "ON DELETE SET NULL" in ddl


# --- On SQLite ------------------------------------------------------------------------


def stored(engine: Engine, table: Table, name: str) -> Any:
    """Return what the file holds in a column of the only row, without SQLAlchemy's types."""
    with engine.connect() as connection:
        return connection.execute(text(f"SELECT {name} FROM {table.name}")).scalar_one()


def add(engine: Engine, table: Table, **values: Any) -> UUID:
    """Insert a row, and return its id."""
    time_column = "request_time" if table is request_logs else "timestamp"
    row = {"id": new_id(), time_column: MOMENT, **values}
    with engine.begin() as connection:
        connection.execute(insert(table), [row])
    return UUID(str(row["id"]))


def read(engine: Engine, column: Column[Any]) -> Any:
    """Return a column of the only row."""
    with engine.connect() as connection:
        return connection.execute(select(column)).scalar_one()


@pytest.mark.parametrize(
    "moment",
    [
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=5, minutes=30))),
        MOMENT.replace(microsecond=0),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
    ids=str,
)
def test_a_time_comes_back_as_the_moment_it_was(engine: Engine, moment: datetime) -> None:
    """In UTC, to the microsecond; in the file it is text that sorts by time."""
    add(engine, request_logs, request_time=moment)
    found = read(engine, request_logs.c.request_time)
    assert found == moment
    assert found.utcoffset() == timedelta(0)
    expected = moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
    assert stored(engine, request_logs, "request_time") == expected


def test_a_time_without_a_zone_is_not_stored(engine: Engine) -> None:
    """Nobody would know later which zone it was in."""
    with pytest.raises(StatementError, match="time without a time zone"):
        add(engine, request_logs, request_time=NAIVE)


def test_created_at_is_filled_with_the_time_in_utc(engine: Engine) -> None:
    """By the database, in the form in which UtcTime stores it: they sort together."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    add(engine, request_logs)
    created = read(engine, request_logs.c.created_at)
    assert created.utcoffset() == timedelta(0)
    assert before <= created <= datetime.now(UTC) + timedelta(seconds=1)
    assert len(stored(engine, request_logs, "created_at")) == len("2026-01-31 23:59:59.123456")


def test_an_id_is_text_of_36_characters(engine: Engine) -> None:
    """In SQLite, as every tool prints it; in Python a UUID on both databases."""
    given_id = add(engine, request_logs)
    assert stored(engine, request_logs, "id") == str(given_id)
    assert read(engine, request_logs.c.id) == given_id
    with engine.connect() as connection:
        query = select(request_logs.c.path).where(request_logs.c.id == given_id)
        assert len(connection.execute(query).all()) == 1


JSON_TEXTS = ["5", '"x"', "1e400", "12345678901234567890123", "0.1", "true", '""', "[]", "1.50"]


@pytest.mark.parametrize("value", JSON_TEXTS)
def test_json_text_is_stored_as_it_is(engine: Engine, value: str) -> None:
    """No affinity makes a number of it: 1e400 would be Infinity, 12345678901234567890123 a float."""
    row = [str(new_id()), str(MOMENT), value]
    with engine.begin() as connection:
        statement = "INSERT INTO request_logs (id, request_time, body) VALUES (?, ?, ?)"
        connection.exec_driver_sql(statement, tuple(row))
    assert stored(engine, request_logs, "body") == value
    with engine.connect() as connection:
        kind = connection.execute(text("SELECT typeof(body) FROM request_logs")).scalar_one()
    assert kind == "text"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.lists(st.text()))
def test_json_through_sqlalchemy_comes_back(engine: Engine, value: Any) -> None:
    """None is SQL NULL, not JSON's null: both databases are asked for it with IS NULL."""
    one = new_id()
    with engine.begin() as connection:
        row = {"id": one, "request_time": MOMENT, "body": value}
        connection.execute(insert(request_logs), [row])
        query = select(request_logs.c.body, request_logs.c.body.is_(None))
        body, is_null = connection.execute(query.where(request_logs.c.id == one)).one()
    assert (body, bool(is_null)) == (value, value is None)


@pytest.mark.parametrize("outcome", [*OUTCOMES, None])
def test_an_outcome_is_one_of_three_or_unknown(engine: Engine, outcome: str | None) -> None:
    """NULL is a request whose end nobody saw."""
    add(engine, request_logs, outcome=outcome)
    assert read(engine, request_logs.c.outcome) == outcome


def test_another_outcome_is_refused_by_the_database(engine: Engine) -> None:
    """Whoever writes it."""
    with pytest.raises(IntegrityError, match="ck_request_logs_outcome"):
        add(engine, request_logs, outcome="done")


def test_an_error_outlives_its_request(engine: Engine) -> None:
    """The link becomes NULL when the request's row goes; the reference as given stays."""
    request_id = add(engine, request_logs)
    add(engine, error_logs, request_log_id=request_id, request_id=request_id)
    with engine.begin() as connection:
        connection.execute(request_logs.delete())
    assert read(engine, error_logs.c.request_log_id) is None
    assert read(engine, error_logs.c.request_id) == request_id


def test_an_error_cannot_be_linked_to_nothing(engine: Engine) -> None:
    """The link is a real foreign key."""
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        add(engine, error_logs, request_log_id=new_id())


def test_a_file_has_what_is_declared(engine: Engine) -> None:
    """Names of constraints and indexes too: migrations find them by name."""
    found = inspect(engine)
    assert found.get_pk_constraint("request_logs")["name"] == "pk_request_logs"
    (foreign,) = found.get_foreign_keys("error_logs")
    assert foreign["name"] == "fk_error_logs_request_log_id"
    names = {index["name"] for index in found.get_indexes("error_logs")}
    assert {"ix_error_logs_unlinked", "ix_error_logs_request_log_id"} <= names


def test_sqlites_own_functions_read_what_is_stored(engine: Engine) -> None:
    """Times and JSON are in forms that SQL can use."""
    add(engine, request_logs, body={"a": [1, 2]})
    query = text(
        "SELECT strftime('%Y-%m-%dT%H:%M', request_time), json_extract(body, '$.a[1]'), body "
        "FROM request_logs"
    )
    with engine.connect() as connection:
        minute, second, body = connection.execute(query).one()
    assert (minute, second, json.loads(body)) == ("2026-01-31T23:59", 2, {"a": [1, 2]})


# --- On PostgreSQL --------------------------------------------------------------------


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(st.lists(request_fields() | error_fields(), min_size=10, max_size=10))
def test_postgresql_takes_whatever_was_encoded(
    newest_postgres: PostgresServer, several: list[dict[Any, Any]]
) -> None:
    """Every column of every event, whatever a proxy had put in: nothing is refused."""
    asyncio.run(_insert(newest_postgres.url(), [decode_line(encode_line(f)) for f in several]))


async def _insert(url: str, events: list[Event]) -> None:
    dialect = registry.load("postgresql")()
    connection = await asyncpg.connect(url)
    try:
        for table in TABLES.values():
            columns = ", ".join(f"{c.name} {c.type.compile(dialect=dialect)}" for c in table.c)
            await connection.execute(f"CREATE TEMPORARY TABLE {table.name} ({columns})")
        for one in events:
            table = TABLES["request" if isinstance(one, RequestEvent) else "error"]
            row = {name: getattr(one, name) for name in one.__struct_fields__}
            values = [
                (bytes(value).decode() or None) if isinstance(value, msgspec.Raw) else value
                for value in row.values()
            ]
            slots = ", ".join(f"${number + 1}" for number in range(len(row)))
            statement = f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({slots})"
            await connection.execute(statement, *values)
    finally:
        await connection.close()
