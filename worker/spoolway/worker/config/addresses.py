"""Where the database is: the forms of URL that are understood, and how one is shown."""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.options import checked_options

DRIVERS: Final = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
}
"""URL schemes understood, and the SQLAlchemy dialect and driver of each."""

_SCHEME: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+_.-]*)://(?P<rest>.*)", re.DOTALL)
_PLACE: Final = re.compile(
    r"(?P<hosts>(?:[^/\[\]]|\[[^/\[\]]*\])*)(?:/(?P<database>.*))?", re.DOTALL
)
_HOST: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]*))?"
)
_OPTIONS: Final = re.compile(r"\?[A-Za-z_]+=")


class Address(NamedTuple):
    """A database as SQLAlchemy takes it."""

    url: URL
    connect_args: dict[str, Any]
    """What the URL says and SQLAlchemy takes beside it alone."""
    shown: str
    """For a person: as it was given, without what is secret."""


def database_url(text: str, name: str = "DATABASE_URL") -> URL:
    """Parse a database URL into the dialect and driver that Spoolway uses; `name` is whose it is.

    Raises:
        UsageError: malformed, or a scheme, driver or option that is not supported.
    """
    try:
        return address(text).url
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None


def address(text: str) -> Address:
    """Parse a database URL.

    Raises:
        ValueError: what is wrong, to be read after the setting's name; without what is secret.
    """
    text = text.strip()
    if not _is_text(text):
        raise ValueError("is no text in UTF-8")
    parts = _SCHEME.fullmatch(text)
    if parts is None:
        raise _malformed("")
    scheme = parts["scheme"].lower()
    driver = DRIVERS.get(scheme)
    if driver is None:
        raise ValueError(
            f"has scheme {scheme!r}, which is not supported: use postgresql:// (driver asyncpg) or "
            "sqlite:/// (driver aiosqlite)"
        )
    if driver.startswith("sqlite"):
        return _sqlite(text, driver)
    return _postgresql(scheme, parts["rest"], driver)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeError:
        return False
    return True


def sqlite_url(path: str) -> str:
    """Return the URL of a SQLite file.

    Raises:
        ValueError: no path that a URL can hold; a ":memory:" is refused when the URL is read.
    """
    if "?" in path or path.startswith("file:"):
        raise ValueError("is no plain path of a file")
    return f"sqlite:///{path}"


def postgresql_url(*, host: str, port: str, database: str, user: str, password: str | None) -> str:
    """Return the URL of what is given in pieces, whatever characters they hold."""
    secret = "" if password is None else f":{quote(password, safe='')}"
    user, database = quote(user, safe=""), quote(database, safe="")
    if host.startswith("/"):
        return f"postgresql://{user}{secret}@:{port}/{database}?host={quote(host, safe='')}"
    host = f"[{host}]" if ":" in host else quote(host, safe="")
    return f"postgresql://{user}{secret}@{host}:{port}/{database}"


def shown_url(url: URL | str) -> str:
    """Return a URL for a person to read: its password hidden, its options left out."""
    if isinstance(url, URL):
        return url.set(query={}).render_as_string(hide_password=True)
    parts = urlsplit(url)._replace(query="", fragment="")
    if parts.password is None:
        return parts.geturl()
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()


def _malformed(scheme: str) -> ValueError:
    return ValueError(
        f"is malformed{scheme and f' (scheme {scheme!r})'}: expected "
        "postgresql://user:password@host:5432/name or sqlite:///path/to/file.db "
        "(percent-encode special characters in the password)"
    )


# --- SQLite -------------------------------------------------------------------


def _sqlite(text: str, driver: str) -> Address:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise _malformed("sqlite") from None
    if url.host or url.username or url.password:
        raise ValueError(
            "has two slashes before the file: sqlite:///file is in the working directory, "
            "sqlite:////folder/file is an absolute path"
        )
    file = (url.database or "").removeprefix("file:")
    if file in ("", ":memory:") or url.query.get("mode") == "memory":
        raise ValueError(
            "names an in-memory SQLite database, which is gone when the worker stops, and which no "
            "other worker nor spoolway replay sees: give a file, sqlite:///path/to/file.db"
        )
    return Address(url.set(drivername=driver), {}, shown_url(url.set(drivername="sqlite")))


# --- PostgreSQL ---------------------------------------------------------------


def _postgresql(scheme: str, text: str, driver: str) -> Address:
    """Read what follows the scheme. A password may hold any character that leaves one reading."""
    end = end_of_userinfo(text)
    userinfo, place = (text[:end], text[end + 1 :]) if end >= 0 else ("", text)
    place, _, query = place.partition("?")
    user, has_password, password = userinfo.partition(":")
    parts = _PLACE.fullmatch(place)
    if parts is None:
        raise _malformed(scheme)
    hosts = [_host(host, scheme) for host in parts["hosts"].split(",")]
    given = _query(query, scheme)
    options = checked_options([*given, *_as_options(hosts)])
    database = unquote(parts["database"] or "")
    if not database:
        raise ValueError("names no database: add its name, postgresql://user@host:5432/name")
    host, port = hosts[0] if len(hosts) == 1 and not hosts[0][0].startswith("/") else ("", None)
    url = URL.create(
        driver,
        username=unquote(user) or None,
        password=unquote(password) if has_password else None,
        host=host or None,
        port=port,
        database=database,
        query=options.query,
    )
    plain = url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)
    return Address(url, options.connect_args, plain + _shown_query([*given, *_as_options(hosts)]))


def end_of_userinfo(text: str) -> int:
    """Return where the `@` before the host is in what follows a URL's scheme; -1 without one.

    It is the last one before the options: a password may have an `@` in it that nobody encoded, and
    an Azure user is user@server. Options begin with a `?`, a name and a `=`; a `?` alone is no end.
    """
    options = _OPTIONS.search(text)
    return text.rfind("@", 0, options.start() if options else len(text))


def _host(text: str, scheme: str) -> tuple[str, int | None]:
    parts = _HOST.fullmatch(text)
    port = int(parts["port"]) if parts and parts["port"] else None
    if parts is None:
        raise _malformed(scheme)
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"has port {port}: a port is between 1 and 65535")
    return parts["v6"] or unquote(parts["name"]), port


def _as_options(hosts: list[tuple[str, int | None]]) -> list[tuple[str, str]]:
    """Return as options what no plain URL holds: a socket's folder in the host, several hosts."""
    if len(hosts) == 1 and not hosts[0][0].startswith("/"):
        return []
    ports = ",".join(str(port or 5432) for _, port in hosts)
    return [("host", ",".join(host for host, _ in hosts)), ("port", ports)]


def _query(text: str, scheme: str) -> list[tuple[str, str]]:
    try:
        # A "+" is a plus sign here, as libpq reads it.
        return parse_qsl(
            text.replace("+", "%2B"), keep_blank_values=True, strict_parsing=bool(text)
        )
    except ValueError:
        raise _malformed(scheme) from None


_SECRET: Final = re.compile("pass|secret|token", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Whether an option or argument of this name is not shown."""
    return _SECRET.search(name) is not None and name != "passfile"


def _shown_query(options: Iterable[tuple[str, str]]) -> str:
    shown = "&".join(
        f"{name}={'***' if is_secret(name) else quote(value, safe='/:,-._')}"
        for name, value in options
    )
    return f"?{shown}" if shown else ""
