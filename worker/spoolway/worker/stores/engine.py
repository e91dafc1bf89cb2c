"""The SQLAlchemy engine under the PostgreSQL store: which connections, and how many at most."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from spoolway.migrations.postgresql import UnusableOption, reach

_OURS: Final = {"application_name": "spoolway", "timezone": "UTC"}
"""Both are among what pgbouncer takes at the start of a connection, and keeps per client."""
_LIMITS: Final = ("statement_timeout", "lock_timeout")
_MS: Final = {
    "": 1,
    "us": 0.001,
    "ms": 1,
    "s": 1000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}


def make_engine(
    url: URL, *, write_timeout: float, options: Mapping[str, Any]
) -> tuple[AsyncEngine, dict[str, float]]:
    """Return an engine that connects at its first use, and the operator's own limits in seconds.

    `options` are arguments of create_async_engine. Their connect_args are added to ours, but for
    statement_timeout and lock_timeout in the server_settings: those go into each transaction,
    because pgbouncer refuses them at the start of a connection.

    Raises:
        UnusableOption: a limit that is no time, or what `reach` raises.
    """
    connect_args = dict(options.get("connect_args") or {})
    server_settings = dict(connect_args.pop("server_settings", None) or {})
    limits = {
        name: _seconds(name, str(server_settings.pop(name)))
        for name in _LIMITS
        if name in server_settings
    }
    bare, connect_args = reach(
        url,
        timeout=write_timeout,
        server_settings=_OURS,
        given={**connect_args, "server_settings": server_settings},
    )
    # Values of rows are nobody's business, also where statements are logged.
    arguments = {**options, "connect_args": connect_args}
    engine = create_async_engine(bare, hide_parameters=True, **arguments)
    return engine, {name: seconds for name, seconds in limits.items() if seconds}


def _seconds(name: str, text: str) -> float:
    """Read a time as postgresql.conf has it: "30s", "500ms", 5000 (ms)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|)", text.strip())
    if match is None:
        raise UnusableOption(f'{name} is {text!r}: give a time as PostgreSQL has it, such as "30s"')
    return float(match[1]) * _MS[match[2]] / 1000
