"""Why a database cannot be used, as one sentence for an operator.

Classified by exception class, SQLSTATE and SQLite's result codes, never by message text; no
sentence has a password in it. What is not about connecting stays an exception, with its traceback.
"""

import inspect
import os
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL
from sqlalchemy.exc import TimeoutError as PoolTimeout

_DRIVERS: Final = {"asyncpg", "aiosqlite"}
_DEFAULT_PORT: Final = 5432


def explain(error: BaseException, url: URL) -> str | None:
    """Return what is wrong, where, and what to do, in one line; None if that cannot be told.

    `error` may be a driver's exception or SQLAlchemy's around one.
    """
    sentence = _of_sqlite if url.get_backend_name() == "sqlite" else _of_postgresql
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError) and cause.name in _DRIVERS:
            return (
                f"the database driver {cause.name} is not installed: pip install 'spoolway[worker]'"
            )
        if (told := sentence(cause, url)) is not None:
            return " ".join(told.split())
    return None


def explain_outage(error: BaseException, url: URL) -> str:
    """Return why a worker's write did not happen, as `explain`; else in the error's own words."""
    if isinstance(error.__cause__, TimeoutError):
        # Not that of connecting: the whole write has taken too long, wherever it was by then.
        where = "SQLite" if url.get_backend_name() == "sqlite" else _server(url)
        return (
            f"{where} took longer than SPOOLWAY_WRITE_TIMEOUT: look there for locks and slow "
            "queries, and whether it is reached at all"
        )
    return explain(error.__cause__ or error, url) or f"{type(error).__name__}: {error}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, and what SQLAlchemy and its adapters have wrapped."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = getattr(cause, "orig", None) or cause.__cause__


# --- PostgreSQL ---------------------------------------------------------------


def _of_postgresql(error: BaseException, url: URL) -> str | None:
    sqlstate = getattr(error, "sqlstate", None)
    if sqlstate is not None:
        return _by_sqlstate(sqlstate, error, url)
    if isinstance(error, PoolTimeout):
        return (
            "every connection of the worker's own pool was in use for too long: look for locks and "
            f"slow queries in {_server(url)}, or raise DATABASE_POOL_SIZE"
        )
    if isinstance(error, OSError):
        return _by_os_error(error, url)
    if isinstance(error, UnicodeError):
        return f"{url.host!r} in DATABASE_URL is no host name"
    if isinstance(error, OverflowError):
        return f"{url.port} in DATABASE_URL is no port: it is between 1 and 65535"
    if isinstance(error, TypeError) and (options := _unknown_options(url)):
        return f"DATABASE_URL has the option {' and '.join(options)}, which asyncpg does not know"
    if _is_configuration_error(error):
        return f"DATABASE_URL has an option that asyncpg does not take: {error}"
    return None


def _by_sqlstate(sqlstate: str, error: BaseException, url: URL) -> str | None:
    """PostgreSQL documentation, appendix A."""
    server, user = _server(url), repr(url.username or url.query.get("user", ""))
    match sqlstate:
        case "28P01":
            return (
                f"{server} does not let user {user} in: wrong password, or no such user; "
                "correct them in DATABASE_URL"
            )
        case "28000":
            return (
                f"{server} does not let user {user} in from here: {_message(error)}; correct "
                "DATABASE_URL or the server's pg_hba.conf"
            )
        case "3D000":
            return (
                f"{server} has no database {url.database!r}: create it, or correct its name in "
                "DATABASE_URL"
            )
        case "42501" | "3F000":
            return (
                f"user {user} may not do this in database {url.database!r} of {server}: "
                f"{_message(error)}; to migrate it needs CREATE on a schema of its search_path, "
                "and to be the owner of the tables that are there; to write, the grants of "
                "docs/postgresql.md"
            )
        case "25006":
            return f"{server} is read-only, such as a standby: name the primary in DATABASE_URL"
        case "53300":
            return (
                f"{server} has no connection left ({_message(error)}): end others, lower "
                "DATABASE_POOL_SIZE, or raise its limit (max_connections, the role's, the database's)"
            )
        case "55P03" | "57014":
            return (
                f"{server} gave up a statement ({_message(error)}): look there for who holds locks "
                "(pg_blocking_pids) and for slow queries"
            )
        case "57P03":
            return f"{server} is starting up or shutting down: try again in a moment"
    if sqlstate.startswith("08"):
        return (
            f"{server} ended the connection ({_message(error)}): see its log, and whether it is "
            "PostgreSQL"
        )
    return None


def _by_os_error(error: OSError, url: URL) -> str:
    server = _server(url)
    if isinstance(error, TimeoutError):
        return f"{server} does not answer: check host, port and firewall"
    if isinstance(error, socket.gaierror):
        return (
            f"the host name {url.host!r} in DATABASE_URL cannot be resolved: correct it (in a "
            "password, @ : / ? # must be percent-encoded)"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of {server} is not trusted: {error.verify_message}; give the file "
            "of who signed it as sslrootcert, and the server's name as it is in the certificate, "
            "in DATABASE_URL"
        )
    if isinstance(error, ssl.SSLError):
        return f"{server} does not agree on TLS: {error.reason or 'handshake failed'}"
    if isinstance(error, ConnectionRefusedError):
        return (
            f"{server} cannot be reached: nothing listens there: start it, or correct DATABASE_URL"
        )
    if isinstance(error, FileNotFoundError):
        return f"{server} cannot be reached: there is no such socket: start it, or correct DATABASE_URL"
    if error.errno is None and isinstance(error, ConnectionError):  # asyncpg's own
        return f"{server} cannot be used: it speaks no TLS, or is not PostgreSQL"
    reason = os.strerror(error.errno) if error.errno else "connection failed"
    return f"{server} cannot be reached: {reason}"


def _server(url: URL) -> str:
    host = url.host or url.query.get("host")
    if host is None:
        return "the PostgreSQL server on this machine"
    port = url.port or url.query.get("port") or _DEFAULT_PORT
    if not isinstance(host, str) or not isinstance(port, (int, str)):
        return "every PostgreSQL server of DATABASE_URL"
    return f"PostgreSQL at {host}:{port}"


def _message(error: BaseException) -> str:
    """Return the server's primary message alone: DETAIL may quote rows."""
    if getattr(error.__cause__, "sqlstate", None):  # SQLAlchemy's adapter puts the class before it
        error = error.__cause__ or error
    return str(error.args[0] if error.args else error)


def _unknown_options(url: URL) -> list[str]:
    import asyncpg

    # host, port, user, password and database are parameters too.
    return sorted(url.query.keys() - inspect.signature(asyncpg.connect).parameters.keys())


def _is_configuration_error(error: BaseException) -> bool:
    import asyncpg

    return isinstance(error, asyncpg.exceptions.ClientConfigurationError)


# --- SQLite -------------------------------------------------------------------


def _of_sqlite(error: BaseException, url: URL) -> str | None:
    path = Path(url.database or "")
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"SQLite database {path} cannot be opened: {error.strerror or type(error).__name__}"
            f"{where}; give a path that spoolway may write, in DATABASE_URL or by --dir"
        )
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else _by_result_code(code & 0xFF, path)


def _by_result_code(code: int, path: Path) -> str | None:
    """https://sqlite.org/rescode.html."""
    match code:
        case sqlite3.SQLITE_CANTOPEN if not path.exists():
            return (
                f"SQLite database {path} is not there, or {path.absolute().parent} is no folder that "
                "spoolway may write: a worker makes it; else name another in DATABASE_URL or by --dir"
            )
        case sqlite3.SQLITE_CANTOPEN:
            return (
                f"SQLite database {path} cannot be opened: {path.absolute().parent} must be a "
                "folder that spoolway may write"
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return f"SQLite database {path} is read-only: give spoolway the right to write it"
        case sqlite3.SQLITE_NOTADB:
            return f"{path} is not a SQLite database: name another file in DATABASE_URL"
        case sqlite3.SQLITE_CORRUPT:
            return f"SQLite database {path} is damaged: restore it, or name another file"
        case sqlite3.SQLITE_FULL:
            return f"SQLite database {path} cannot grow: the disk is full"
        case sqlite3.SQLITE_IOERR:
            return f"SQLite database {path} cannot be read or written: the disk reports an error"
        case sqlite3.SQLITE_BUSY:
            return f"SQLite database {path} is locked by another process: end it, or try again"
    return None
