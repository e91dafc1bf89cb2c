"""Which kind an error is: by class and SQLSTATE alone, and its message never quotes a row."""

import asyncio
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import create_async_engine

from spoolway.schema import BadEvent
from spoolway.worker.stores import (
    Refused,
    Retryable,
    StoreError,
    Unknown,
    Unreachable,
    classify,
)
from tests.servers import PostgresServer

SECRET = "sk-secret-of-a-row"


def postgres_error(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """Return the exception that asyncpg makes of a server's message."""
    codes = {"detail": "D", "context": "W", "constraint": "n", "severity": "S"}
    message = {"S": "ERROR", "C": sqlstate, "M": "what happened"}
    message |= {codes[name]: value for name, value in fields.items()}
    made: asyncpg.PostgresError = asyncpg.PostgresError.new(message)
    return made


SQLSTATES: dict[str, type[StoreError]] = {
    "08000": Unreachable,  # connection exception
    "08006": Unreachable,  # connection failure
    "08P01": Unreachable,  # protocol violation
    "25006": Unreachable,  # read-only transaction
    "28000": Unreachable,  # invalid authorization
    "28P01": Unreachable,  # invalid password
    "3D000": Unreachable,  # no such database
    "53100": Unreachable,  # disk full
    "53200": Unreachable,  # out of memory
    "53300": Unreachable,  # too many connections
    "57P01": Unreachable,  # admin shutdown
    "57P02": Unreachable,  # crash shutdown
    "57P03": Unreachable,  # cannot connect now
    "58030": Unreachable,  # I/O error
    "XX000": Unreachable,  # internal error
    "XX001": Unreachable,  # data corrupted
    "23503": Retryable,  # foreign key: the request went away at the same moment
    "40001": Retryable,  # serialization failure
    "40P01": Retryable,  # deadlock
    "55P03": Retryable,  # lock not available
    "57014": Retryable,  # statement timeout
    "22001": Refused,  # too long
    "22003": Refused,  # number out of range
    "22021": Refused,  # not in the character set
    "22P02": Refused,  # not JSON
    "22P05": Refused,  # NUL in JSON
    "23502": Refused,  # not null
    "23505": Refused,  # unique: an index of the owner's
    "54000": Refused,  # too large for an index
    "54001": Refused,  # too deep
    "P0001": Refused,  # RAISE EXCEPTION in a trigger
    "0A000": Unknown,  # not supported
    "25P02": Unknown,  # in a failed transaction
    "42501": Unknown,  # no permission
    "42703": Unknown,  # no such column
    "42P01": Unknown,  # no such table
    "42P07": Unknown,  # a table of that name
    "ZZ999": Unknown,
}


@pytest.mark.parametrize(("sqlstate", "kind"), SQLSTATES.items())
def test_a_sqlstate_has_its_kind(sqlstate: str, kind: type[StoreError]) -> None:
    """The kind follows from the SQLSTATE, which is passed on; DETAIL and CONTEXT are not."""
    error = postgres_error(sqlstate, detail=f"Failing row: {SECRET}", context=f"JSON: {SECRET}")

    found = classify(error)
    assert (type(found), found.sqlstate) == (kind, sqlstate)
    assert "what happened" in str(found)
    assert SECRET not in str(found)


def test_a_check_with_a_name_is_the_row_s_and_one_without_is_a_missing_partition() -> None:
    """23514 is both: only a constraint has a name."""
    assert type(classify(postgres_error("23514", constraint="no_poison"))) is Refused
    assert type(classify(postgres_error("23514"))) is Retryable


@pytest.mark.parametrize(
    ("context", "row"),
    [
        ("COPY request_logs, line 3, column body", 2),
        ("COPY request_logs, line 1", 0),
        ("COPY error_logs, Zeile 12, Spalte extra_context", 11),
        ("COPY spoolway_staging_request_logs, línea 7", 6),
        (f'JSON data, line 1: {SECRET}\nCOPY request_logs, line 9: "{SECRET} 4"', None),
        ("SQL statement", None),
        ("", None),
    ],
)
def test_copy_names_the_row_in_any_language(context: str, row: int | None) -> None:
    """The row that a COPY's context begins with is passed on, counted from 0."""
    found = classify(postgres_error("22P02", context=context))

    assert isinstance(found, Refused)
    assert found.row == row


SQLITE_CODES: dict[str, type[StoreError]] = {
    "SQLITE_FULL": Unreachable,
    "SQLITE_IOERR": Unreachable,
    "SQLITE_IOERR_FSYNC": Unreachable,
    "SQLITE_CANTOPEN": Unreachable,
    "SQLITE_CANTOPEN_ISDIR": Unreachable,
    "SQLITE_READONLY": Unreachable,
    "SQLITE_READONLY_DBMOVED": Unreachable,
    "SQLITE_PERM": Unreachable,
    "SQLITE_NOMEM": Unreachable,
    "SQLITE_CORRUPT": Unreachable,
    "SQLITE_NOTADB": Unreachable,
    "SQLITE_BUSY": Retryable,
    "SQLITE_BUSY_SNAPSHOT": Retryable,
    "SQLITE_LOCKED": Retryable,
    "SQLITE_INTERRUPT": Retryable,
    "SQLITE_PROTOCOL": Retryable,
    "SQLITE_ABORT_ROLLBACK": Retryable,
    "SQLITE_CONSTRAINT": Refused,
    "SQLITE_CONSTRAINT_CHECK": Refused,
    "SQLITE_CONSTRAINT_TRIGGER": Refused,
    "SQLITE_TOOBIG": Refused,
    "SQLITE_MISMATCH": Refused,
    "SQLITE_ERROR": Unknown,
    "SQLITE_SCHEMA": Unknown,
    "SQLITE_MISUSE": Unknown,
    "SQLITE_AUTH": Unknown,
}


@pytest.mark.parametrize(("code", "kind"), SQLITE_CODES.items())
def test_a_sqlite_code_has_its_kind(code: str, kind: type[StoreError]) -> None:
    """The kind follows from the primary result code, whatever the extended one and the class."""
    error = sqlite3.OperationalError("what happened")
    error.sqlite_errorcode = getattr(sqlite3, code)

    assert type(classify(error)) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), Unreachable),
        (ConnectionRefusedError(111, "refused"), Unreachable),
        (ConnectionResetError(), Unreachable),
        (OSError("no route"), Unreachable),
        (asyncpg.InterfaceError("connection is closed"), Unreachable),
        (asyncpg.ConnectionDoesNotExistError("gone"), Unreachable),
        (PoolTimeout("no connection"), Unreachable),
        (DBAPIError("", None, sqlite3.OperationalError("x")), Unknown),
        (UnicodeEncodeError("utf-8", SECRET, 0, 1, "surrogates"), Refused),
        (OverflowError(f"{SECRET} is out of range"), Refused),
        (BadEvent(f"not JSON: {SECRET}"), Refused),
        # Asyncpg's own DataError quotes the argument, and has no server's severity.
        (asyncpg.DataError(f"invalid input for query argument $1: {SECRET}"), Refused),
        (asyncpg.InternalClientError("a bug"), Unknown),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), Unknown),
        # A bug must not turn all rows into dead letters.
        (ValueError(SECRET), Unknown),
        (TypeError(SECRET), Unknown),
        (KeyError(SECRET), Unknown),
        (AttributeError("no attribute"), Unknown),
        (msgspec.MsgspecError("bug"), Unknown),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_what_no_database_said_has_its_kind(error: Exception, kind: type[StoreError]) -> None:
    """No answer is unreachable, a value that no driver can encode is refused, a bug is unknown."""
    found = classify(error)

    assert type(found) is kind
    assert SECRET not in str(found)


async def test_what_sqlalchemy_wraps_is_classified_by_the_driver_s_error(
    newest_postgres: PostgresServer, tmp_path: Path
) -> None:
    """An exception that comes through SQLAlchemy is of the same kind as without it."""
    url = newest_postgres.url().replace("postgresql://", "postgresql+asyncpg://")
    for address, statement, kind in (
        (url, "SELECT 1/0", Refused),
        (url, "SELECT * FROM nowhere", Unknown),
        (url.replace("/postgres", "/no_such_database"), "SELECT 1", Unreachable),
        (f"sqlite+aiosqlite:///{tmp_path}", "SELECT 1", Unreachable),
        (f"sqlite+aiosqlite:///{tmp_path}/x.db", "SELECT * FROM nowhere", Unknown),
    ):
        engine = create_async_engine(address)
        with pytest.raises(Exception) as raised:
            async with engine.connect() as connection:
                await connection.execute(text(statement))
        await engine.dispose()
        assert type(classify(raised.value)) is kind, raised.value


POSTGRES_STATEMENTS = {
    "22P05": f"""SELECT '{{"a":"{SECRET}\\u0000"}}'::jsonb""",
    "22P02": f"""SELECT '["{SECRET}", NaN]'::jsonb""",
    "22003": "SELECT '[1e200000]'::jsonb",
    "54001": "SELECT repeat('[', 100000)::jsonb",
    "54000": f"INSERT INTO t (name) SELECT '{SECRET}' || string_agg(md5(i::text), '')"
    " FROM generate_series(1, 1000) i",
    "23514": f"INSERT INTO t (name, secret) VALUES ('poison', '{SECRET}')",
    "23502": f"INSERT INTO t (name, secret) VALUES (NULL, '{SECRET}')",
    "23505": f"INSERT INTO t (name) VALUES ('{SECRET}'), ('{SECRET}')",
}


@pytest.mark.parametrize(("sqlstate", "statement"), POSTGRES_STATEMENTS.items())
async def test_postgresql_quotes_the_row_and_the_message_does_not(
    newest_postgres: PostgresServer, sqlstate: str, statement: str
) -> None:
    """What the server really says of a bad row: refused, with its SQLSTATE, without content."""
    connection: Any = await asyncpg.connect(newest_postgres.url())
    await connection.execute(
        "CREATE TEMP TABLE t (name text NOT NULL UNIQUE CHECK (name <> 'poison'), secret text)"
    )
    with pytest.raises(asyncpg.PostgresError) as raised:
        await connection.execute(statement)
    await connection.close()

    found = classify(raised.value)
    assert (type(found), found.sqlstate) == (Refused, sqlstate)
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda c: c.execute("INSERT INTO t VALUES ('poison', ?)", [SECRET]),
        lambda c: c.execute("INSERT INTO t VALUES (?, 1), (?, 2)", [SECRET, SECRET]),
        lambda c: c.execute("INSERT INTO t VALUES (NULL, ?)", [SECRET]),
    ],
    ids=["check", "unique", "not-null"],
)
def test_sqlite_s_refusals_do_not_quote_the_row(
    break_it: Callable[[sqlite3.Connection], object],
) -> None:
    """What SQLite really says of a bad row: refused, without content."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE t (name TEXT NOT NULL UNIQUE CHECK (name <> 'poison'), secret TEXT)"
        )
        with pytest.raises(sqlite3.Error) as raised:
            break_it(connection)

    found = classify(raised.value)
    assert type(found) is Refused
    assert SECRET not in str(found)


async def test_a_wrong_password_is_unreachable_and_not_told(
    newest_postgres: PostgresServer,
) -> None:
    """28P01 names the user; the password is in no message."""
    with pytest.raises(asyncpg.PostgresError) as raised:
        await asyncpg.connect(newest_postgres.url(password=SECRET))

    found = classify(raised.value)
    assert (type(found), found.sqlstate) == (Unreachable, "28P01")
    assert SECRET not in str(found)


async def test_a_deadline_that_passes_is_unreachable() -> None:
    """Asyncio's timeout, as the stores use it."""
    with pytest.raises(TimeoutError) as raised:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    assert type(classify(raised.value)) is Unreachable


def test_a_store_error_says_its_kind_by_its_class_alone() -> None:
    """Four kinds, none of which is another: whoever catches one catches no other."""
    kinds = (Unreachable, Retryable, Refused, Unknown)

    assert all(kind.__mro__[1] is StoreError for kind in kinds)
    assert os.linesep not in str(Refused("no", "22P02", 3))
