"""The Redis stream as one worker sees it: read, claim, keep, acknowledge, sweep.

Nothing here writes what a full Redis refuses: under maxmemory with noeviction XREADGROUP, XCLAIM,
XAUTOCLAIM, XACK and XDEL still work, so a backlog can always be drained. XACK and XDEL are
pipelined, not MULTI, which fails then.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.exceptions import OutOfMemoryError, ResponseError

from spoolway.worker.redis_client import client_for

CLAIM_IDLE_MS: Final = 20_000
"""Entries that their consumer has not touched for so long are abandoned. A live worker touches
what it holds every KEEP_SECONDS, however long the database takes."""
KEEP_SECONDS: Final = 5.0
_READ_MARGIN: Final = 5.0

# One script, so that no entry can be delivered, and no group be made anew, between the look and
# the deletion: every entry up to the last delivered one that is not pending was acknowledged.
_SWEEP: Final = """
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
local last = nil
for _, group in ipairs(groups) do
  local fields = {}
  for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
  if fields['name'] == ARGV[1] then last = fields['last-delivered-id'] end
end
if not last then return 0 end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1])
local before = last
if pending[1] > 0 then before = '(' .. pending[2] end
local left = redis.call('XRANGE', KEYS[1], '-', before, 'COUNT', ARGV[2])
local swept = 0
for _, entry in ipairs(left) do swept = swept + redis.call('XDEL', KEYS[1], entry[1]) end
return swept
"""
# A consumer is forgotten only while it has nothing pending: XGROUP DELCONSUMER drops what it had.
_FORGET: Final = """
local forgotten = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local fields = {}
  for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
  if fields['pending'] == 0 and fields['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields['name'])
    forgotten = forgotten + 1
  end
end
return forgotten
"""
_FORGET_AFTER_MS: Final = 3_600_000
_SWEEP_COUNT: Final = 1_000


@dataclass(slots=True, frozen=True)
class Entry:
    """One stream entry: its id, and its fields as they came."""

    id: bytes
    fields: Mapping[bytes, bytes]


@dataclass(slots=True, frozen=True)
class Read:
    """What one read brought.

    `lost` are the ids of entries that were pending and are gone from the stream: nobody can read
    them any more. `is_vague` says that more are lost than are named: Redis 6.2 gives the claimer
    entries that are gone without saying which; reading what is its own does.
    """

    entries: list[Entry]
    lost: list[bytes]
    next: bytes = b"0-0"
    is_vague: bool = False


class Stream:
    """One consumer of one consumer group on one stream. Raises redis-py's exceptions."""

    def __init__(self, url: str, *, stream: str, group: str, consumer: str) -> None:
        self.name: Final = stream
        self.group: Final = group
        self.consumer: Final = consumer
        self._redis = client_for(url, stream, socket_timeout=_READ_MARGIN)
        # Blocking reads have a connection of their own: a cancelled read can leave its reply on
        # the connection, where the next command would take it for its own.
        self._reader = client_for(url, stream, socket_timeout=None)

    async def prepare(self) -> None:
        """Create the group if need be. Raises if Redis does not answer.

        A full Redis refuses that even where the group is there, and lets it be read all the same.
        Where it is not, reading says so.
        """
        with contextlib.suppress(OutOfMemoryError):
            await self.create_group()

    async def create_group(self) -> bool:
        """Create the group, and the stream with it, to read from the first entry on.

        Returns False if it is there already.
        """
        try:
            await self._redis.xgroup_create(self.name, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if str(error).startswith("BUSYGROUP"):
                return False
            raise
        return True

    async def read_new(self, count: int, block_ms: int | None) -> Read:
        """Read entries that nobody was given yet; wait up to `block_ms` for the first, or not."""
        return _read(
            await self._reader.xreadgroup(
                self.group, self.consumer, {self.name: ">"}, count=count, block=block_ms
            )
        )

    async def read_own(self, after: bytes, count: int) -> Read:
        """Read entries that were given to this consumer before, with ids above `after`."""
        return _read(
            await self._redis.xreadgroup(self.group, self.consumer, {self.name: after}, count=count)
        )

    async def claim_abandoned(self, cursor: bytes, count: int) -> Read:
        """Take over what other consumers have not touched for CLAIM_IDLE_MS.

        `next` is the cursor to go on from; 0-0 when all was looked at.
        """
        reply: Any = await self._redis.xautoclaim(
            self.name, self.group, self.consumer, CLAIM_IDLE_MS, start_id=cursor, count=count
        )
        # The third element, ids that are gone from the stream, came with Redis 7.0.
        lost = list(reply[2]) if len(reply) > 2 else []
        claimed = [(entry_id, fields) for entry_id, fields in reply[1] if entry_id is not None]
        return Read(_entries(claimed)[0], lost, reply[0], len(claimed) < len(reply[1]))

    async def keep(self, ids: Sequence[bytes]) -> None:
        """Tell the group that this consumer is still at work on these entries."""
        if ids:
            await self._redis.xclaim(
                self.name, self.group, self.consumer, 0, list(ids), justid=True
            )

    async def acknowledge(self, ids: Sequence[bytes]) -> None:
        """Acknowledge entries and delete them. Only after COMMIT, or after an fsync."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xack(self.name, self.group, *ids)
        pipeline.xdel(self.name, *ids)
        await pipeline.execute()

    async def sweep(self) -> int:
        """Delete entries whose worker died between XACK and XDEL; return how many."""
        return int(
            await cast("Any", self._redis.eval(_SWEEP, 1, self.name, self.group, str(_SWEEP_COUNT)))
        )

    async def forget_idle_consumers(self) -> int:
        """Remove consumers with nothing pending that were not seen for an hour."""
        return int(
            await cast(
                "Any", self._redis.eval(_FORGET, 1, self.name, self.group, str(_FORGET_AFTER_MS))
            )
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.aclose()
        await self._redis.aclose()


def _read(reply: Any) -> Read:
    if not reply:
        return Read([], [])
    ((_, raw),) = reply
    entries, lost = _entries(raw)
    return Read(entries, lost)


def _entries(
    raw: Iterable[tuple[bytes, Mapping[bytes, bytes] | None]],
) -> tuple[list[Entry], list[bytes]]:
    """Split a reply into entries and the ids of those that were deleted while pending."""
    entries: list[Entry] = []
    lost: list[bytes] = []
    for entry_id, fields in raw:
        if fields:
            entries.append(Entry(entry_id, fields))
        else:
            lost.append(entry_id)
    return entries, lost


def is_group_gone(error: ResponseError) -> bool:
    """Tell whether the stream or its group is no longer there: FLUSHALL, failover, an operator."""
    return str(error).startswith(("NOGROUP", "UNBLOCKED"))
