"""What an operator does about an error of Redis, in a few words. For producers and workers alike.

By the exception's class and Redis's error code, the first word of its reply: never by other text.
"""

import ssl
from collections.abc import Iterator
from typing import Final

import redis
from redis import exceptions

from spoolway.schema.address import Kind

_CODES: Final[dict[type[BaseException], str]] = {
    exceptions.MovedError: "MOVED",
    exceptions.AskError: "ASK",
    exceptions.TryAgainError: "TRYAGAIN",
    exceptions.ClusterCrossSlotError: "CROSSSLOT",
    exceptions.ClusterDownError: "CLUSTERDOWN",
    exceptions.ReadOnlyError: "READONLY",
}
_BY_CODE: Final = {
    "MOVED": "this is a Redis Cluster: write redis+cluster:// in REDIS_URL",
    "ASK": "this is a Redis Cluster: write redis+cluster:// in REDIS_URL",
    "CROSSSLOT": "this is a Redis Cluster: write redis+cluster:// in REDIS_URL",
    "CLUSTERDOWN": "the Cluster misses a node or slots: see CLUSTER INFO and CLUSTER NODES there",
    "MISCONF": "Redis cannot write to its disk and takes nothing: look at its disk and its log",
    "NOREPLICAS": "Redis takes nothing without its replicas (min-replicas-to-write): bring them back",
    "WRONGTYPE": "this key holds something else: delete it, or choose another stream",
    "READONLY": "this is a replica: REDIS_URL must lead to the primary",
}
_ELSEWHERE: Final = {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY"}


class NoPrimary(redis.ConnectionError):
    """Nobody that was asked names a primary; its cause is what the last one raised, if it did."""

    def __init__(self, asked: str, why: str) -> None:
        super().__init__(f"{asked} names no primary ({why})")


class NotReplicated(redis.RedisError):
    """The primary has it, and not every replica that may be promoted: a failover might lose it."""

    def __init__(self, confirmed: int, replicas: int) -> None:
        super().__init__(f"{confirmed} of {replicas} replicas confirm it in time")


def code_of(error: BaseException) -> str:
    """Return the error code of a reply, such as MOVED: redis-py 8 knows more of them by class."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return str(error).partition(" ")[0] if isinstance(error, redis.ResponseError) else ""


def is_elsewhere(error: BaseException) -> bool:
    """Tell whether another server is, or will be, the right one: ask again who it is."""
    return code_of(error) in _ELSEWHERE


def advice(error: BaseException, kind: Kind = "server") -> str:
    """Return what to do about what redis-py raised, of a URL of this kind."""
    code = code_of(error) or code_of(error.__cause__ or error)
    if kind != "server" and code in _ELSEWHERE - {"CLUSTERDOWN"}:
        return "another server is the primary by now: it is looked for anew"
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "the server's certificate is not trusted: name its authority with ssl_ca_certs=, "
                "and the host as the certificate does"
            )
        if isinstance(cause, ssl.SSLError):
            return "TLS fails: check that this port speaks TLS, else write redis:// for rediss://"
    match error:
        case exceptions.NoPermissionError():
            return "this user lacks a permission: give it what docs/redis.md lists (ACL SETUSER)"
        case redis.AuthenticationError():
            return "check user and password in REDIS_URL"
        case exceptions.OutOfMemoryError():
            return "Redis is full: start workers to drain it, or raise its maxmemory"
        case redis.BusyLoadingError():
            return "Redis is loading its data: wait for it"
        case NoPrimary(__cause__=exceptions.NoPermissionError() | redis.AuthenticationError()):
            return advice(error.__cause__ or error)
        case NoPrimary():
            return "check that they run, that they are what REDIS_URL says, and the name in it"
        case NotReplicated():
            return "look at the replicas: what Sentinel or the Cluster takes for down is not waited for"
        case redis.TimeoutError():
            return (
                "Redis hangs or is overloaded, the network drops packets, or, with rediss://, this "
                "port does not speak TLS"
            )
        case _ if code in _BY_CODE:
            return _BY_CODE[code]
        case redis.ConnectionError() | OSError():
            return (
                "check that Redis runs there, and that REDIS_URL is right (rediss:// for a "
                "port that speaks TLS)"
            )
    return "look into the log of Redis"


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
