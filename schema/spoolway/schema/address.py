"""Where the stream is: the Redis URL and the streams' names, as producers and workers read them.

One server is redis-py's own URL. Behind Sentinel, and in a Cluster, the servers to ask are listed
before the path: who holds the stream is what they say.
"""

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

DEFAULT_REDIS_URL: Final = "redis://127.0.0.1:6379/0"
REDIS_URL_EXPECTED: Final = (
    "expected redis://[[user]:password@]host:6379/0, rediss://…, unix:///path/to/socket?db=0, "
    "redis+sentinel://[…@]host:26379,host:26379/name/0 or redis+cluster://[…@]host:6379,host:6379 "
    "(percent-encode special characters in the password)"
)
MOST_STREAMS: Final = 256

_SCHEMES: Final[dict[str, tuple[str, "Kind"]]] = {
    "redis": ("redis", "server"),
    "rediss": ("rediss", "server"),
    "unix": ("unix", "server"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
}
_DEFAULT_PORTS: Final = {"sentinel": 26379, "cluster": 6379}
_OF_SENTINEL: Final = {"sentinel_username", "sentinel_password"}

Kind = Literal["server", "sentinel", "cluster"]


@dataclass(slots=True, frozen=True)
class RedisAddress:
    """A Redis URL, taken apart."""

    kind: Kind
    url: str
    """As redis-py reads it; behind Sentinel and in a Cluster only with a host of `at`."""
    asked: tuple[str, ...] = ()
    """URLs of the Sentinels, or of nodes of the Cluster, to ask where a primary is."""
    name: str = ""
    """Of the primary, as its Sentinels call it."""

    def at(self, host: str, port: int) -> str:
        """Return the URL of a server that was found, with the login and options of this one."""
        parts = urlsplit(self.url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{_bracketed(host)}:{port}").geturl()

    @property
    def shown(self) -> str:
        """Where it is, for a person to read: without login and options."""
        if self.kind == "server":
            parts = urlsplit(self.url)
            if parts.scheme == "unix":
                return unquote(parts.path)
            return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
        hosts = ",".join(urlsplit(url).netloc.rpartition("@")[2] for url in self.asked)
        return f"{self.name} of Sentinel {hosts}" if self.name else f"Cluster {hosts}"

    @property
    def passwords(self) -> tuple[str, ...]:
        """Every password in it, as it was written and as it is meant."""
        written = {urlsplit(url).password or "" for url in (self.url, *self.asked)}
        written |= {value for key, value in _options(self.url) if key == "password"}
        spelled = {spelling for word in written for spelling in (word, unquote(word)) if spelling}
        return tuple(sorted(spelled, key=len, reverse=True))


def redis_address(url: str) -> RedisAddress:
    """Take a Redis URL apart; refuse one that no client understands, without repeating it.

    Raises:
        ValueError: what is wrong with it, and what was expected, in one line.
    """
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in _SCHEMES:
        shown = f"the scheme {scheme!r}" if scheme and "://" in url else "no scheme"
        raise ValueError(f"the Redis URL has {shown}: {REDIS_URL_EXPECTED}")
    base, kind = _SCHEMES[scheme]
    if kind == "server":
        _check_server(url)
        return RedisAddress("server", url)
    return _of_several(url, base, kind)


def stream_names(stream: str, streams: int) -> list[str]:
    """Return the names of so many streams: of one its own name, else one hash tag for each.

    Keys with different hash tags are in different slots of a Redis Cluster.
    """
    return [stream] if streams == 1 else [f"{stream}:{{{number}}}" for number in range(streams)]


def _check_server(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_of_several = parts.scheme != "unix" and "," in parts.netloc.rpartition("@")[2]
        if not is_of_several:
            parts.port  # noqa: B018 - parses, and raises for what is no port
    except ValueError:
        raise ValueError(f"the Redis URL is malformed: {REDIS_URL_EXPECTED}") from None
    if is_of_several:
        raise ValueError(
            "the Redis URL names several hosts: write redis+sentinel:// or redis+cluster:// for "
            f"what they are; {REDIS_URL_EXPECTED}"
        )
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError(f"the Redis URL names no socket: {REDIS_URL_EXPECTED}")
        return
    _check_database(parts.path.strip("/"))


def _of_several(url: str, base: str, kind: Kind) -> RedisAddress:
    place, _, query = url.partition("://")[2].partition("?")
    authority, _, path = place.partition("/")
    login, at, hosts = authority.rpartition("@")
    try:
        nodes = [_host_and_port(host, _DEFAULT_PORTS[kind]) for host in hosts.split(",")]
    except ValueError:
        raise ValueError(f"the Redis URL has no hosts and ports: {REDIS_URL_EXPECTED}") from None
    name, _, database = path.strip("/").partition("/") if kind == "sentinel" else ("", "", path)
    database = database.strip("/")
    _check_database(database)
    if kind == "sentinel" and not name:
        raise ValueError(
            "the Redis URL does not name the primary that Sentinel watches (commonly mymaster): "
            f"{REDIS_URL_EXPECTED}"
        )
    if kind == "cluster" and database not in ("", "0"):
        raise ValueError("the Redis URL names a database; a Redis Cluster has none but 0")
    options = parse_qsl(query, keep_blank_values=True)
    of_server = urlencode([(key, value) for key, value in options if key not in _OF_SENTINEL])
    asked_login, asked_options = f"{login}{at}", of_server
    if kind == "sentinel":
        told = dict(options)
        user, password = (quote(told.get(f"sentinel_{key}", ""), safe="") for key in _LOGIN)
        asked_login = f"{user}:{password}@" if user or password else ""
        asked_options = urlencode([(key, text) for key, text in options if key.startswith("ssl_")])
    return RedisAddress(
        kind,
        f"{base}://{login}{at}{nodes[0]}/{database or 0}" + (f"?{of_server}" if of_server else ""),
        tuple(
            f"{base}://{asked_login}{node}/0" + (f"?{asked_options}" if asked_options else "")
            for node in nodes
        ),
        unquote(name),
    )


_LOGIN: Final = ("username", "password")


def _host_and_port(text: str, default_port: int) -> str:
    """Return `host:port` of one that may leave out the port. Raises ValueError."""
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError
    return f"{_bracketed(parts.hostname)}:{parts.port or default_port}"


def _check_database(database: str) -> None:
    if database and not database.isdigit():
        # Not shown: after a password with a "/" in it, this is its second half.
        raise ValueError(f"the Redis URL names a database that is no number: {REDIS_URL_EXPECTED}")


def _options(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
