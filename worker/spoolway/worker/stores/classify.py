"""Which `StoreError` a driver's exception is: by class and SQLSTATE, never by its text.

SQLSTATEs: PostgreSQL documentation, appendix A. SQLite result codes: sqlite.org/rescode.html.
"""

import re
import sqlite3
import ssl
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from spoolway.schema import BadInput
from spoolway.worker.stores.errors import Refused, Retryable, StoreError, Unknown, Unreachable

_UNREACHABLE: Final = (
    "08",  # connection exception
    "25006",  # read-only transaction: a standby after a failover
    "25P03",  # we stood still in the middle of a transaction: the server has ended it
    "28",  # invalid authorization: the server is there, but not for us, not now
    "3D000",  # the database does not exist (yet, or again)
    "53",  # insufficient resources: disk full, out of memory, too many connections
    "57P",  # operator intervention: shutdown, crash, starting up
    "58",  # system error: I/O
    "XX",  # internal error, corrupted data or index
)
_RETRYABLE: Final = (
    "23503",  # foreign key: the request of an error was deleted at the same moment
    "40",  # rollback: serialization failure, deadlock
    "55P03",  # lock not available
    "57014",  # cancelled: statement_timeout
)
_REFUSED: Final = (
    "22",  # data exception
    "23",  # integrity constraint
    "54",  # program limit exceeded: 54001 is too deep a nesting
    "P0001",  # RAISE EXCEPTION: a trigger of the owner's does not want this row
)

_SQLITE_UNREACHABLE: Final = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}
_SQLITE_RETRYABLE: Final = {
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PROTOCOL,  # WAL: too many were opening the file at once
}
_SQLITE_REFUSED: Final = {
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_RANGE,
}


def classify(error: BaseException) -> StoreError:
    """Return the `StoreError` to raise from `error`; its message has no row's content in it."""
    error = _driver_error(error)
    name = type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        return _postgres(error)
    if isinstance(error, sqlite3.Error):
        return _sqlite(error)
    if isinstance(error, TimeoutError):
        return Unreachable("no answer within the deadline")
    if isinstance(error, (UnicodeError, OverflowError, BadInput)):
        # A value that no driver can encode: no database has seen the batch.
        return Refused(f"{name}: not encodable")
    if isinstance(error, PoolTimeout):
        return Unreachable("every connection of the pool was in use for too long")
    if isinstance(
        error, (OSError, asyncpg.InterfaceError, asyncpg.TargetServerAttributeNotMatched)
    ):
        return Unreachable(f"{name}: {error}")
    if isinstance(error, (ValueError, TypeError, LookupError)):
        return Unknown(f"{name} (its text may quote the row; the traceback has it)")
    return Unknown(f"{name}: {error}")


_MISTAKES: Final = ("28", "3D000")
_SQLITE_MISTAKES: Final = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
}


def is_away(error: BaseException) -> bool:
    """Tell whether a database that cannot be opened may come back by itself.

    A wrong password, a wrong name, a certificate that nobody vouches for and a file that is no
    database are for the operator to mend.
    """
    error = _driver_error(error)
    if isinstance(error, (ssl.SSLCertVerificationError, asyncpg.ClientConfigurationError)):
        return False
    if isinstance(error, asyncpg.PostgresError) and (error.sqlstate or "").startswith(_MISTAKES):
        return False
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_MISTAKES:
        return False
    return isinstance(classify(error), (Unreachable, Retryable))


def is_without_partition(error: asyncpg.CheckViolationError) -> bool:
    """Tell whether no partition takes the row: the one check that has no constraint's name."""
    return error.constraint_name is None


def _driver_error(error: BaseException) -> BaseException:
    """Unwrap what SQLAlchemy puts around a driver's exception."""
    while isinstance(error, DBAPIError) and error.orig is not None:
        error = error.orig.__cause__ or error.orig
    return error


def _postgres(error: asyncpg.PostgresError) -> StoreError:
    sqlstate: str = error.sqlstate or ""
    if error.severity is None and isinstance(error, asyncpg.DataError):
        # asyncpg's own, which quotes the argument: the server has not seen it.
        return Refused(f"{type(error).__name__}: not encodable", sqlstate)
    # The primary message alone: DETAIL would quote the failing row.
    message = f"{type(error).__name__}: {error.args[0] if error.args else error!s}"
    if isinstance(error, asyncpg.CheckViolationError) and is_without_partition(error):
        return Retryable(message, sqlstate)  # the partition went away again: it is made anew
    if sqlstate.startswith(_UNREACHABLE):
        return Unreachable(message, sqlstate)
    if sqlstate.startswith(_RETRYABLE):
        return Retryable(message, sqlstate)
    if sqlstate.startswith(_REFUSED):
        return Refused(message, sqlstate, _copy_row(error))
    return Unknown(message, sqlstate)


def _copy_row(error: asyncpg.PostgresError) -> int | None:
    """Return the 0-based row that COPY's error context names ("COPY request_logs, line 3")."""
    context: str = getattr(error, "context", None) or ""
    # Translated servers write other words around it: the table's name, then the first number.
    named = re.match(r"COPY (\S+), \D*(\d+)", context)
    return int(named[2]) - 1 if named else None


def _sqlite(error: sqlite3.Error) -> StoreError:
    message = f"{type(error).__name__}: {error}"
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by Python's module itself: a closed connection, a bug
        return Unknown(message)
    primary = code & 0xFF
    if primary in _SQLITE_UNREACHABLE:
        return Unreachable(message)
    if primary in _SQLITE_RETRYABLE:
        return Retryable(message)
    if primary in _SQLITE_REFUSED:
        return Refused(message)
    return Unknown(message)
