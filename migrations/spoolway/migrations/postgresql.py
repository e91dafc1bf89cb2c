"""How a PostgreSQL server is reached, by the worker and by migrations alike: TLS, and poolers.

Nothing here connects.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy.engine import URL

from spoolway.migrations.errors import MigrationError

_FILES: Final[tuple[str, ...]] = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# What asyncpg takes in a DSN alone, with the meaning libpq gives it, and not as an argument.
_IN_DSN: Final[tuple[str, ...]] = (
    "sslmode",
    *_FILES,
    "sslpassword",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
_DEFAULT_AUTHORITIES: Final = Path("~/.postgresql/root.crt")
_SERVER_SETTINGS: Final[tuple[str, ...]] = ("application_name", "options")

# Behind pgbouncer in transaction mode every transaction may be on another server connection, where
# a prepared statement does not exist, or another client's has its name: none has a name.
_NO_NAMED_STATEMENTS: Final[dict[str, Any]] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": str,
}


class UnusableOption(MigrationError):
    """An option of the database's URL that no connection can be made with."""


def reach(
    url: URL,
    *,
    timeout: float,
    server_settings: Mapping[str, str],
    given: Mapping[str, Any] | None = None,
) -> tuple[URL, dict[str, Any]]:
    """Return the URL and the `connect_args` to give SQLAlchemy.

    `timeout` is how long connecting may take, in seconds, unless the URL has a `connect_timeout`.
    `given` are connect_args of the operator's: where they say something, they win.

    Raises:
        UnusableOption: a file that cannot be read, or a timeout that is no number.
    """
    query = dict(url.query)
    # `ssl` is asyncpg's name for what libpq calls sslmode.
    if "ssl" in query:
        query["sslmode"] = query.pop("ssl")
    tls: dict[str, str] = {name: str(query.pop(name)) for name in _IN_DSN if name in query}
    for name in _FILES:
        if name in tls:
            _require_readable(name, tls[name])
    if tls.get("sslmode", "").startswith("verify-") and "sslrootcert" not in tls:
        _require_authorities(tls["sslmode"])
    told: dict[str, str] = {
        name: str(query.pop(name)) for name in _SERVER_SETTINGS if name in query
    }
    for name in ("connect_timeout", "timeout"):
        if name in query:
            timeout = _seconds(name, str(query.pop(name))) or timeout
    given = dict(given or {})
    told |= given.pop("server_settings", {})
    arguments = {
        **_NO_NAMED_STATEMENTS,
        "timeout": timeout,
        "server_settings": {**server_settings, **told},
        **given,
    }
    if tls:
        arguments["dsn"] = f"postgresql://?{urlencode(tls)}"
    return url.set(query=query), arguments


def _require_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "it cannot be read"
        raise UnusableOption(f"{name} in DATABASE_URL is {path}: {reason}") from error


def _require_authorities(mode: str) -> None:
    if not os.environ.get("PGSSLROOTCERT") and not _DEFAULT_AUTHORITIES.expanduser().is_file():
        raise UnusableOption(
            f"sslmode={mode} in DATABASE_URL needs to know who vouches for the server: add "
            "sslrootcert=<file of the authorities>; /etc/ssl/certs/ca-certificates.crt has those "
            "that everybody trusts"
        )


def _seconds(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnusableOption(
            f"{name} in DATABASE_URL is {text!r}: give a number of seconds"
        ) from None
