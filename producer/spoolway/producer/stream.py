"""The one place that pushes to Redis: frames in, entries of a stream out.

What redis-py raises is translated here into `NotPushed`, whose message is for the operator: what,
where, what to do. It never holds a password or the content of an event.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

import redis

from spoolway.producer.servers import Server, Servers
from spoolway.schema.address import (
    DEFAULT_REDIS_URL,
    MOST_STREAMS,
    REDIS_URL_EXPECTED,
    redis_address,
    stream_names,
)
from spoolway.schema.redis_errors import NotReplicated, advice

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
_REPLICAS_MS: Final = 1_000
"""Milliseconds in which the replicas confirm what was pushed; else it is pushed again."""

Fields = dict[str, str | bytes | int]
Entry = tuple[int, Fields]
"""A frame's turn, which chooses one of the streams, and what is pushed."""


class NotPushed(Exception):
    """Redis has not confirmed these entries: keep them, and try again later."""

    def __init__(self, message: str, left: Sequence[int]) -> None:
        super().__init__(message)
        self.left = left
        """Which of the entries: their positions in what was given to `add`."""


def default_url() -> str:
    """Return REDIS_URL, or Redis on this machine."""
    return os.environ.get("REDIS_URL") or DEFAULT_REDIS_URL


def default_streams() -> int:
    """Return SPOOLWAY_STREAMS, or 1. Raises ValueError: it is no number."""
    told = os.environ.get("SPOOLWAY_STREAMS") or "1"
    if not told.isdecimal():
        raise ValueError(f"SPOOLWAY_STREAMS is a number of streams, got {told!r}")
    return int(told)


class Stream:
    """One stream, or several that share the frames, each on one server. One thread.

    Behind Sentinel, and in a Cluster with replicas, an entry counts as pushed when every replica
    that may be promoted has it: else a failover would lose what Redis had just confirmed.
    """

    def __init__(self, url: str, name: str, streams: int = 1) -> None:
        if not 1 <= streams <= MOST_STREAMS:
            raise ValueError(f"streams is 1 to {MOST_STREAMS}, got {streams}")
        self._address = address = redis_address(url)
        self._shown = f"{name!r}" if streams == 1 else f"{name!r} (1 of {streams})"
        self._names = stream_names(name, streams)
        try:
            for one in (address.url, *address.asked):
                pool: Any = redis.ConnectionPool.from_url(one)
                pool.connection_class(
                    **pool.connection_kwargs
                )  # raises for options it does not know
        except (ValueError, TypeError, redis.RedisError) as error:
            said = self._without_passwords(str(error))
            raise ValueError(f"the Redis URL is malformed ({said}): {REDIS_URL_EXPECTED}") from None
        self._servers = Servers(address, CONNECT_TIMEOUT_S, READ_TIMEOUT_S)

    def add(self, entries: Sequence[Entry]) -> None:
        """Append each entry to its stream, in one round trip to each server.

        Raises:
            NotPushed: Redis has not confirmed all of them. Those without an answer may be there.
        """
        left: list[int] = []
        why: Exception | None = None
        shares: dict[int, tuple[Server, list[int]]] = {}
        for at, (turn, _) in enumerate(entries):
            try:
                server = self._servers.of(self._name_of(turn))
            except Exception as error:  # noqa: BLE001 - as below
                # Its time is up for the others, too: who asks again asks for all of them.
                why, left = error, list(range(len(entries)))
                shares = {}
                break
            shares.setdefault(id(server), (server, []))[1].append(at)
        for server, positions in shares.values():
            try:
                refused = self._push(server, [entries[at] for at in positions])
            except Exception as error:  # noqa: BLE001 - whatever fails in a client library or a socket, the entries are kept
                why = error
                left += positions
            else:
                why = next(iter(refused.values()), why)
                left += [positions[at] for at in refused]
        if why is not None:
            # A server that was demoted, or replaced behind its name, is left this way too.
            self._servers.forget()
            raise self._not_pushed(why, sorted(left)) from None

    def probe(self, seconds: float) -> None:
        """Ask Redis, over other connections, whether it answers; what it says does not matter.

        Raises:
            NotPushed: it did not, in about so many seconds.
        """
        servers = Servers(self._address, min(seconds, CONNECT_TIMEOUT_S), seconds)
        try:
            for client in {id(c): c for c in (servers.of(n).client for n in self._names)}.values():
                client.ping()
        except redis.ResponseError:
            return  # such as a user that may do nothing but XADD
        except Exception as error:  # noqa: BLE001 - as in add
            raise self._not_pushed(error, ()) from None
        finally:
            servers.forget()

    def close(self) -> None:
        """Close the connections; the next `add` makes new ones."""
        self._servers.forget()

    def _name_of(self, turn: int) -> str:
        return self._names[turn % len(self._names)]

    def _push(self, server: Server, entries: Sequence[Entry]) -> dict[int, Exception]:
        """Return what was refused, and why. Raises what redis-py raises."""
        # No transaction: half of it is better than none. No MAXLEN: it would drop what no worker
        # has read.
        with server.client.pipeline(transaction=False) as pipeline:
            for turn, fields in entries:
                pipeline.xadd(self._name_of(turn), fields)  # type: ignore[arg-type]  # dict is invariant
            if server.replicas:
                pipeline.wait(server.replicas, _REPLICAS_MS)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        refused = {at: reply for at, reply in enumerate(replies) if isinstance(reply, Exception)}
        if server.replicas:
            confirmed = replies[-1]
            if (error := refused.pop(len(entries), None)) is None and confirmed < server.replicas:
                error = NotReplicated(confirmed, server.replicas)
            if error is not None:
                return dict.fromkeys(range(len(entries)), error)
        return refused

    def _not_pushed(self, error: Exception, left: Sequence[int]) -> NotPushed:
        # Not its arguments: redis-py puts the whole command into those of some errors.
        text = self._without_passwords(f"{type(error).__name__}: {error}")[:300]
        return NotPushed(
            f"stream {self._shown} in Redis at {self._address.shown} takes no events ({text}); "
            f"{advice(error, self._address.kind)}",
            left,
        )

    def _without_passwords(self, text: str) -> str:
        for password in self._address.passwords:
            text = text.replace(password, "***")
        return text
