"""Which server takes a stream: the one that is named, the one that Sentinel names, or a Cluster's.

What was found is kept until somebody says that it failed; then it is looked for anew. One thread.
"""

from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from spoolway.schema.address import RedisAddress
from spoolway.schema.primaries import UNREADABLE, Primary, in_cluster, of_sentinel, slot_of
from spoolway.schema.redis_errors import NoPrimary


class Server(NamedTuple):
    """A server, over one connection made when it is first needed."""

    client: redis.Redis
    replicas: int = 0
    """How many must confirm what is pushed: all that may take its place."""


class Servers:
    """Every server that takes some of the streams."""

    def __init__(self, address: RedisAddress, connect_timeout: float, timeout: float) -> None:
        self._address: Final = address
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._by_stream: dict[str, Server] = {}
        self._by_place: dict[tuple[str, int], Server] = {}
        self._first_asked = 0
        self._only: Server | None = None
        if address.kind == "server":
            self._only = Server(self._client(address.url, timeout))

    def of(self, stream: str) -> Server:
        """Return who takes a stream. Raises redis-py's exceptions and OSError: nobody does now."""
        if self._only is not None:
            return self._only
        if stream not in self._by_stream:
            primary = self._ask(stream)
            place = primary.host, primary.port
            if place not in self._by_place:
                client = self._client(self._address.at(*place), self._timeout)
                self._by_place[place] = Server(client, primary.replicas)
            self._by_stream[stream] = self._by_place[place]
        return self._by_stream[stream]

    def forget(self) -> None:
        """Close every connection, and look anew the next time."""
        for server in (*self._by_place.values(), *([self._only] if self._only else [])):
            server.client.connection_pool.disconnect()
        self._by_stream.clear()
        self._by_place.clear()
        self._first_asked += 1  # the one that was asked may be what is behind

    def _ask(self, stream: str) -> Primary:
        """Ask one after the other, until one knows."""
        asked, why = self._address.asked, ""
        cause: Exception | None = None
        for turn in range(len(asked)):
            url = asked[(self._first_asked + turn) % len(asked)]
            try:
                # One that hangs is not waited for as long as a push is: others know it, too.
                with self._client(url, self._connect_timeout) as client:
                    if primary := self._answer(client, stream, urlsplit(url).hostname or ""):
                        return primary
                why, cause = "it knows of none", None
            except (redis.RedisError, OSError, *UNREADABLE) as error:
                why, cause = f"{type(error).__name__}: {error}", error
        raise NoPrimary(self._address.shown, why) from cause

    def _answer(self, client: Any, stream: str, asked: str) -> Primary | None:
        if self._address.kind == "cluster":
            slots = client.execute_command("CLUSTER", "SLOTS")
            return in_cluster(slots, slot_of(stream), asked)
        name = self._address.name
        if not (found := client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)):
            return None
        return of_sentinel(found, client.execute_command("SENTINEL", "REPLICAS", name))

    def _client(self, url: str, timeout: float) -> redis.Redis:
        # Nothing is left to the library's defaults, which differ: redis-py 5 waits for ever and
        # speaks RESP2, redis-py 8 waits 5 s, speaks RESP3 and asks for maintenance messages.
        # Retrying is the pusher's, which knows when to stop.
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=self._connect_timeout,
            socket_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
