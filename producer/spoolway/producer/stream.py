"""The one place that talks to Redis: frames in, entries of the stream out.

What redis-py raises is translated here into `NotPushed`, whose message is for the operator: what,
where, what to do. It never holds the password or the content of an event.
"""

import os
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from spoolway.schema.address import DEFAULT_REDIS_URL, REDIS_URL_EXPECTED, check_redis_url

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0

Fields = dict[str, str | bytes | int]


class NotPushed(Exception):
    """Redis has not confirmed these entries: keep them, and try again later."""

    def __init__(self, message: str, left: Sequence[int]) -> None:
        super().__init__(message)
        self.left = left
        """Which of the entries: their positions in what was given to `add`."""


def default_url() -> str:
    """Return REDIS_URL, or Redis on this machine."""
    return os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL


class Stream:
    """One stream on one server, over one connection made when it is first needed. One thread."""

    def __init__(self, url: str, name: str) -> None:
        check_redis_url(url)
        self._url = url
        self._name = name
        try:
            self._client = _client(url, CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
            pool: Any = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # raises for options it does not know
        except (ValueError, TypeError, redis.RedisError) as error:
            raise ValueError(
                f"the Redis URL is malformed ({error}): {REDIS_URL_EXPECTED}"
            ) from None
        settings: dict[str, Any] = pool.connection_kwargs
        self.address = settings.get("path") or (
            f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
        )
        """Where it is, for a person to read."""
        self._secrets = _spellings(settings.get("password"))

    def add(self, entries: Sequence[Fields]) -> None:
        """Append the entries to the stream in one round trip.

        Raises:
            NotPushed: Redis has not confirmed all of them. Those without an answer may be there.
        """
        everything = range(len(entries))
        try:
            # No transaction: half of it is better than none. No MAXLEN: it would drop what no
            # worker has read.
            with self._client.pipeline(transaction=False) as pipeline:
                for entry in entries:
                    pipeline.xadd(self._name, entry)  # type: ignore[arg-type]  # dict is invariant
                replies = pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - whatever fails in a client library or a socket, the entries are kept
            self._disconnect()
            raise self._not_pushed(error, everything) from None
        refused = {at: reply for at, reply in enumerate(replies) if isinstance(reply, Exception)}
        if refused:
            # A server that was demoted, or replaced behind its name, is left this way too.
            self._disconnect()
            raise self._not_pushed(next(iter(refused.values())), list(refused))

    def probe(self, seconds: float) -> None:
        """Ask Redis, over another connection, whether it answers; what it says does not matter.

        Raises:
            NotPushed: it did not, in about so many seconds.
        """
        try:
            with _client(self._url, min(seconds, CONNECT_TIMEOUT_S), seconds) as client:
                client.ping()
        except redis.ResponseError:
            return  # such as a user that may do nothing but XADD
        except Exception as error:  # noqa: BLE001 - as in add
            raise self._not_pushed(error, ()) from None

    def close(self) -> None:
        """Close the connection; the next `add` makes a new one."""
        self._disconnect()

    def _disconnect(self) -> None:
        self._client.connection_pool.disconnect()

    def _not_pushed(self, error: Exception, left: Sequence[int]) -> NotPushed:
        # Not its arguments: redis-py puts the whole command into those of some errors.
        text = f"{type(error).__name__}: {error}"[:300]
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return NotPushed(
            f"stream {self._name!r} in Redis at {self.address} takes no events ({text}); "
            f"{_advice(error)}",
            left,
        )


def _client(url: str, connect_timeout: float, timeout: float) -> redis.Redis:
    # Nothing is left to the library's defaults, which differ: redis-py 5 waits for ever and
    # speaks RESP2, redis-py 8 waits 5 s, speaks RESP3 and asks for maintenance messages.
    # Retrying is the pusher's, which knows when to stop.
    return redis.Redis.from_url(
        url,
        socket_connect_timeout=connect_timeout,
        socket_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _advice(error: Exception) -> str:
    match error:
        case redis.AuthenticationError() | redis.exceptions.NoPermissionError():
            return "check user and password in the Redis URL, and that this user may XADD"
        case redis.exceptions.OutOfMemoryError():
            return "Redis is full: start workers to drain it, or raise its maxmemory"
        case redis.ReadOnlyError():
            return "this is a replica: the Redis URL must lead to the primary"
        case redis.BusyLoadingError():
            return "Redis is loading its data: wait for it"
        case redis.TimeoutError():
            return "Redis hangs or is overloaded, or the network drops packets: look at it"
        case redis.ResponseError() if str(error).startswith("WRONGTYPE"):
            return "this key holds something else: delete it, or choose another stream"
        case redis.ConnectionError() | OSError():
            return "check that Redis runs there, and that the Redis URL is right"
    return "look into the log of Redis"


def _spellings(password: object) -> list[str]:
    if not isinstance(password, str) or not password:
        return []
    return sorted({password, unquote(password)}, key=len, reverse=True)
