"""A client of whichever Redis holds a stream: the one that is named, or the primary that is found.

Behind Sentinel and in a Cluster every new connection asks anew who the primary is, and one whose
server is no longer that is closed: what failed is tried again by whoever sent it, and goes there.
"""

import asyncio
import contextlib
import time
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from spoolway.schema.address import RedisAddress, redis_address
from spoolway.schema.primaries import UNREADABLE, Primary, in_cluster, of_sentinel, slot_of
from spoolway.schema.redis_errors import NoPrimary, advice, is_elsewhere
from spoolway.worker.config import shown_url

CONNECT_TIMEOUT: Final = 2.0
_LOOK_EVERY: Final = 5.0
"""Seconds between questions to Sentinel while all goes well: a primary that was replaced while it
lived takes itself for the primary for ten seconds more, and nobody pushes to it."""
_ASK_SECONDS: Final = 2.0
"""How long one Sentinel, or node, has for its answer."""
_FIND_SECONDS: Final = 4.0
"""After so long no other one is asked: the next search begins with another."""
_LOOK_SECONDS: Final = 1.0
"""How long a command waits for that question while all goes well."""


def client_for(url: str, stream: str, *, socket_timeout: float | None) -> Redis:
    """Return a client of the Redis that holds this stream. It connects when it is first used.

    `socket_timeout` is in seconds; None waits for ever.
    """
    return Redis.from_pool(pool_for(url, stream, socket_timeout=socket_timeout))


def pool_for(url: str, stream: str, *, socket_timeout: float | None) -> ConnectionPool:
    """Return the connections of such a client."""
    address = redis_address(url)
    options: dict[str, Any] = {
        "socket_timeout": socket_timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
    }
    if not address.url.startswith("unix:"):
        options["socket_keepalive"] = True
    told: dict[str, Any] = {**options, **parse_url(address.url)}
    way = told.pop("connection_class", Connection)
    if address.kind == "server":
        return ConnectionPool(connection_class=_NAMED[way], **told)
    found = _FoundTls if way is SSLConnection else _Found
    return ConnectionPool(connection_class=found, finder=Finder(address, stream), **told)


async def replicas_of(client: Redis) -> int:
    """Return how many replicas must confirm what is pushed, for any failover to leave it there.

    Raises NoPrimary.
    """
    finder: Finder | None = client.connection_pool.connection_kwargs.get("finder")
    if finder is None:
        return 0
    return (finder.primary or await finder.find()).replicas


class Finder:
    """Asks Sentinels, or nodes of a Cluster, for the primary of one stream."""

    def __init__(self, address: RedisAddress, stream: str) -> None:
        self._address = address
        self._slot = slot_of(stream)
        self._first_asked = 0
        self._look_at = 0.0
        self.primary: Primary | None = None
        """As it was found last."""

    async def find(self) -> Primary:
        """Ask one after the other until one knows. Raises NoPrimary."""
        asked, why = self._address.asked, ""
        cause: Exception | None = None
        first, self._first_asked = self._first_asked, self._first_asked + 1
        last = time.monotonic() + _FIND_SECONDS
        for turn in range(len(asked)):
            if time.monotonic() > last:
                break
            url = asked[(first + turn) % len(asked)]
            try:
                async with asyncio.timeout(_ASK_SECONDS):
                    primary = await self._ask(url)
                if primary is not None:
                    self.primary, self._look_at = primary, time.monotonic() + _LOOK_EVERY
                    return primary
                why, cause = "it knows of none", None
            except (RedisError, OSError, *UNREADABLE) as error:
                why, cause = f"{type(error).__name__}: {error}", error
        raise NoPrimary(self._address.shown, why) from cause

    async def look_again(self) -> None:
        """Ask Sentinel now and then, also while all goes well: a Cluster's node says it by itself."""
        if self._address.kind == "sentinel" and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_EVERY
            with contextlib.suppress(NoPrimary, TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self.find()

    async def _ask(self, url: str) -> Primary | None:
        client: Any = Redis.from_url(
            url, socket_timeout=CONNECT_TIMEOUT, socket_connect_timeout=CONNECT_TIMEOUT
        )
        async with client:
            if self._address.kind == "cluster":
                slots = await client.execute_command("CLUSTER", "SLOTS")
                return in_cluster(slots, self._slot, urlsplit(url).hostname or "")
            name = self._address.name
            found = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
            if not found:
                return None
            return of_sentinel(found, await client.execute_command("SENTINEL", "REPLICAS", name))


class _Sending(AbstractConnection):
    """A connection that says in redis-py's words that it was closed before it was written to."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send. Raises redis-py's ConnectionError also for what uvloop calls a RuntimeError."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Connection closed by server ({error})") from error


class _Plain(_Sending, Connection):
    """To a host."""


class _Tls(_Sending, SSLConnection):
    """To a host, over TLS."""


class _Socket(_Sending, UnixDomainSocketConnection):
    """To a socket of this machine."""


_NAMED: Final = {Connection: _Plain, SSLConnection: _Tls, UnixDomainSocketConnection: _Socket}


class _Found(_Sending, Connection):
    """A connection to the primary, as the finder says when it is made."""

    def __init__(self, *, finder: Finder, **options: Any) -> None:
        super().__init__(**options)
        self._finder = finder

    async def connect(self) -> None:
        """Ask who the primary is, and connect to it. Raises NoPrimary too."""
        if not self.is_connected:
            primary = await self._finder.find()
            self.host, self.port = primary.host, primary.port
        await super().connect()  # type: ignore[no-untyped-call]  # redis-py has no annotations here

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send, on a connection made anew if the primary is another one by now."""
        if self.is_connected:
            await self._finder.look_again()
            primary = self._finder.primary
            if primary is not None and (primary.host, primary.port) != (self.host, self.port):
                await self.disconnect(nowait=True)
        await super().send_packed_command(command, check_health)

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """Read a reply. A server that is not the primary any more has had its last question."""
        try:
            return await super().read_response(*arguments, **options)
        except ResponseError as error:
            if not is_elsewhere(error):
                raise
            await self.disconnect(nowait=True)
            raise RedisConnectionError(
                f"{self.host}:{self.port} is not the primary ({error})"
            ) from error


class _FoundTls(_Found, SSLConnection):
    """The same over TLS."""


def explain_redis(error: BaseException, url: str) -> str:
    """Return what is wrong with Redis and what to do, in one line without a password."""
    try:
        address = redis_address(url)
    except ValueError as mistake:
        return str(mistake)
    said = f"{type(error).__name__}: {error}"
    for password in address.passwords:
        said = said.replace(password, "***")
    said = " ".join(said[:300].split())
    return f"Redis at {shown_url(url)} cannot be used ({said}); {advice(error, address.kind)}"
