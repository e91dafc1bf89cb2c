"""Reading what Sentinels and the nodes of a Redis Cluster say: where a primary is. It does no I/O."""

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

_SLOTS: Final = 16_384
UNREADABLE: Final = (ValueError, TypeError, LookupError)
"""What reading a reply raises that is none of these."""
_UNUSABLE: Final = {"s_down", "o_down", "disconnected"}


class Primary(NamedTuple):
    """A server that takes what is pushed, and the replicas that may take its place."""

    host: str
    port: int
    replicas: int = 0
    """How many have to confirm an entry for it to survive any failover."""


def slot_of(key: str) -> int:
    """Return the hash slot of a key: of what stands between its first braces, if anything does."""
    _, brace, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return crc_hqx((tag if brace and closed and tag else key).encode(), 0) % _SLOTS


def in_cluster(reply: Iterable[Any], slot: int, asked: str) -> Primary | None:
    """Return who holds a slot, by the reply to CLUSTER SLOTS of the host `asked`; None: nobody."""
    for first, last, primary, *replicas in reply:
        if first <= slot <= last:
            # A node that does not know its own address yet, or is told to hide it, says none.
            host = _text(primary[0] or b"")
            return Primary(host if host not in ("", "?") else asked, primary[1], len(replicas))
    return None


def of_sentinel(address: Sequence[Any] | None, replicas: Iterable[Any]) -> Primary | None:
    """Return the primary, by the replies to GET-MASTER-ADDR-BY-NAME and REPLICAS of a Sentinel.

    Of its replicas only those count that Sentinel sees alive and that may be promoted.
    """
    if not address:
        return None
    return Primary(_text(address[0]), int(address[1]), sum(map(_is_candidate, replicas)))


def _is_candidate(replica: Any) -> bool:
    if isinstance(replica, dict):
        told = {_text(key): _text(value) for key, value in replica.items()}
    else:
        told = {_text(k): _text(v) for k, v in zip(replica[::2], replica[1::2], strict=True)}
    flags = set(told.get("flags", "").split(","))
    is_linked = told.get("master-link-status", "ok") == "ok"
    return is_linked and told.get("slave-priority") != "0" and not flags & _UNUSABLE


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
