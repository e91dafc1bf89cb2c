"""The options of a PostgreSQL URL: libpq's names, and asyncpg's. All others are refused here.

How a connection is made with them is said in spoolway.migrations.postgresql, for migrations too.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SSL: Final = {
    **{mode: mode for mode in SSL_MODES},
    **dict.fromkeys(("true", "1", "yes", "on"), "require"),
    **dict.fromkeys(("false", "0", "no", "off"), "disable"),
}

_NUMBERS: Final[Mapping[str, type[float] | type[int]]] = {
    "command_timeout": float,
    "statement_cache_size": int,
    "prepared_statement_cache_size": int,
    "max_cached_statement_lifetime": int,
    "max_cacheable_statement_size": int,
}
"""What asyncpg takes as a number, which a URL's text is not: these become connect_args."""
_SECONDS: Final = frozenset({"connect_timeout", "timeout"})
_TEXTS: Final = frozenset(
    {
        *("host", "port", "user", "password", "passfile", "target_session_attrs"),
        *("krbsrvname", "gsslib", "application_name", "options"),
        *("sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
_NAME: Final = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)
_KNOWN: Final = frozenset({"ssl", "sslmode", *_NUMBERS, *_SECONDS, *_TEXTS})


class Options(NamedTuple):
    """A URL's options, checked."""

    query: dict[str, str | tuple[str, ...]]
    """What stays in the URL."""
    connect_args: dict[str, Any]
    """What goes beside it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean x?)`, or nothing."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""


def checked_options(given: Iterable[tuple[str, str]]) -> Options:
    """Check the options of a URL.

    Raises:
        ValueError: an option that is not known, or has a value it cannot have.
    """
    query: dict[str, str | tuple[str, ...]] = {}
    connect_args: dict[str, Any] = {}
    unknown = []
    for name, value in given:
        if name not in _KNOWN:
            unknown.append(name)
        elif name in ("ssl", "sslmode"):
            query["ssl"] = _ssl(name, value)
        elif name in _NUMBERS:
            connect_args[name] = _number(name, value, _NUMBERS[name])
        elif name in _SECONDS:
            query[name] = f"{_number(name, value, float):g}"
        elif (before := query.get(name)) is not None:  # host=a:1&host=b:2
            query[name] = (*((before,) if isinstance(before, str) else before), value)
        else:
            query[name] = value
    if unknown:
        # What is no name may be a piece of a password with a "?" in it.
        shown = [name if _NAME.fullmatch(name) else "…" for name in sorted(unknown)]
        raise ValueError(
            f"has the option {' and '.join(shown)}, which asyncpg does not know"
            f"{nearest(unknown[0], _KNOWN)}"
        )
    return Options(query, connect_args)


def _ssl(name: str, value: str) -> str:
    try:
        return _SSL[value.lower()]
    except KeyError:
        raise ValueError(
            f"has an option that asyncpg does not take: `{name}` parameter must be one of: "
            f"{', '.join(SSL_MODES)}"
        ) from None


def _number(name: str, value: str, number: type[float] | type[int]) -> float:
    try:
        parsed = number(value)
    except ValueError:
        parsed = -1
    if not 0 <= parsed < float("inf"):
        raise ValueError(f"has an option that is no number: {name}")
    return parsed
