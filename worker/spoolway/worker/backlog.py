"""How far the workers are behind: what `spoolway status` asks of Redis. Reads only."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from spoolway.schema.address import redis_address, stream_names
from spoolway.worker.config import Settings
from spoolway.worker.redis_client import client_for


@dataclass(slots=True, frozen=True)
class Backlog:
    """One stream and its consumer group, in entries (frames of events) and seconds."""

    length: int
    """Entries in the stream: not read, or read and not yet acknowledged and deleted."""
    pending: int
    """Entries that a worker has read and not acknowledged."""
    undelivered: int | None
    """Entries that no worker has read; None where Redis cannot tell any more."""
    lag_seconds: float
    """Age of the oldest entry that no worker has read; 0 if there is none."""
    pending_seconds: float
    """Age of the oldest entry that is pending; 0 if none is."""
    delivered: int | None
    """Entries that the group has ever been given; None where Redis cannot tell (6.2 never can)."""

    @property
    def added(self) -> int | None:
        """Entries that ever came into the stream; None where Redis cannot tell."""
        if self.delivered is None or self.undelivered is None:
            return None
        return self.delivered + self.undelivered

    @property
    def settled(self) -> int | None:
        """Entries that workers were given and have acknowledged; None where Redis cannot tell."""
        return None if self.delivered is None else self.delivered - self.pending

    @property
    def age_seconds(self) -> float:
        """Age of the oldest entry that is not settled."""
        return max(self.lag_seconds, self.pending_seconds)


async def backlogs(settings: Settings) -> dict[str, Backlog]:
    """Ask for every stream, by its name. Raises redis-py's exceptions, and OSError."""
    found = {}
    for names in on_servers(settings):
        redis = client_for(settings.redis_url, names[0], socket_timeout=5.0)
        try:
            for name in names:
                found[name] = await _ask(redis, name, settings.group)
        finally:
            await redis.aclose()
    return found


def on_servers(settings: Settings) -> list[list[str]]:
    """Return the streams that one client can ask for; in a Cluster each may be on another node."""
    names = stream_names(settings.stream, settings.streams)
    if redis_address(settings.redis_url).kind == "cluster":
        return [[name] for name in names]
    return [names]


def in_all(found: Iterable[Backlog]) -> Backlog:
    """Return the backlog of several streams as one: the sums, and the longest waits."""
    all_ = list(found)
    return Backlog(
        sum(one.length for one in all_),
        sum(one.pending for one in all_),
        _sum([one.undelivered for one in all_]),
        max(one.lag_seconds for one in all_),
        max(one.pending_seconds for one in all_),
        _sum([one.delivered for one in all_]),
    )


def _sum(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


async def _ask(redis: Redis, stream: str, group: str) -> Backlog:
    seconds, microseconds = await redis.time()
    now_ms = seconds * 1000 + microseconds / 1000
    length = int(await redis.xlen(stream))
    found = await _group(redis, stream, group)
    if found is None:
        # No worker has been here yet: all of it waits for the first one.
        oldest = await _first(redis, stream, b"-")
        return Backlog(length, 0, length, _age(oldest, now_ms), 0.0, 0)
    summary: dict[str, Any] = await redis.xpending(stream, group)
    oldest = await _first(redis, stream, b"(" + found["last-delivered-id"])
    undelivered = 0 if oldest is None else found.get("lag")
    return Backlog(
        length,
        int(found["pending"]),  # of the same moment as what was delivered
        undelivered,
        _age(oldest, now_ms),
        _age(summary["min"], now_ms),
        _delivered(found),
    )


def _delivered(group: dict[str, Any]) -> int | None:
    if group["last-delivered-id"] == b"0-0" and "entries-read" in group:
        return 0  # a group that was never read from has no count yet
    return group.get("entries-read")


async def _group(redis: Redis, stream: str, group: str) -> dict[str, Any] | None:
    try:
        groups: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    except ResponseError as error:
        if str(error).startswith("no such key"):
            return None
        raise
    return next((found for found in groups if found["name"] == group.encode()), None)


async def _first(redis: Redis, stream: str, after: bytes) -> bytes | None:
    entries: list[tuple[bytes, Any]] = await redis.xrange(stream, min=after, count=1)
    return entries[0][0] if entries else None


def _age(entry_id: bytes | None, now_ms: float) -> float:
    """Return how long ago an entry was pushed, by its id: Redis's own clock has made it."""
    if entry_id is None:
        return 0.0
    return max(0.0, (now_ms - int(entry_id.partition(b"-")[0])) / 1000)
