"""What to read next: one place that knows which entries are in hand, and which come first.

Order: what this consumer was given before (a crash, a lost reply), what dead consumers left
behind, then what is new.
"""

import asyncio
import logging
from typing import Final

from redis.exceptions import RedisError, ResponseError

from spoolway.worker.outage import Outage
from spoolway.worker.progress import Totals
from spoolway.worker.stream import Entry, Read, Stream, is_group_gone

log = logging.getLogger("spoolway.drain")

REDIS_AWAY: Final = (RedisError, OSError, TimeoutError)
BLOCK_MS: Final = 2_000
"""How long a read waits for the first new entry: 30 round trips a minute when idle."""
CLAIM_EVERY: Final = 5.0
"""Seconds between looks for what dead consumers left behind."""
_LAST_REPLY: Final = 0.1
_READ_DEADLINE: Final = BLOCK_MS / 1000 + 5.0
_START: Final = b"0-0"


class Stopping(Exception):
    """The worker was told to stop while it waited; what it holds stays pending."""


class Intake:
    """Reads for one consumer. `held` are the ids of the entries in flight, kept by the caller."""

    def __init__(
        self, stream: Stream, totals: Totals, held: set[bytes], outage: Outage, stop: asyncio.Event
    ) -> None:
        self._stream = stream
        self._totals = totals
        self._held = held
        self._outage = outage
        self._stop = stop
        self._own_after: bytes | None = _START
        self._claim_cursor = _START
        self._claim_at = 0.0

    def own_again(self) -> None:
        """Read what is pending for this consumer once more, from the first on."""
        self._own_after = _START

    async def next_entries(self, count: int, *, wait: bool) -> list[Entry]:
        """Return up to `count` entries that are not in flight; none after a while without any.

        Without `wait`, none as soon as there is nothing.

        Raises:
            Stopping: the worker is told to stop.
            REDIS_AWAY: then call `failed`.
        """
        if self._own_after is not None:
            read = await self._stream.read_own(self._own_after, count)
            seen = [entry.id for entry in read.entries] + read.lost
            self._own_after = max(seen, key=_id_key) if seen else None
            return await self._fresh(read)
        if self._outage.clock() >= self._claim_at:
            read = await self._stream.claim_abandoned(self._claim_cursor, count)
            self._claim_cursor = read.next
            if read.next == _START:
                self._claim_at = self._outage.clock() + CLAIM_EVERY
            self._totals.entries_claimed += len(read.entries)
            if read.is_vague:
                self.own_again()
            if entries := await self._fresh(read):
                log.warning("took over %d entries of a worker that went away", len(entries))
                return entries
            if read.next != _START:
                return []
        return await self._fresh(await self._read_new(count, BLOCK_MS if wait else None))

    async def first_new(self) -> list[Entry]:
        """Wait for one new entry; none after a while without any. Raises as `next_entries`."""
        return await self._fresh(await self._read_new(1, BLOCK_MS))

    async def _read_new(self, count: int, block_ms: int | None) -> Read:
        """Read new entries; wait for them, or for the stop."""
        reading = asyncio.ensure_future(self._stream.read_new(count, block_ms))
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait(
                (reading, stopping), timeout=_READ_DEADLINE, return_when=asyncio.FIRST_COMPLETED
            )
            if stopping.done():
                # A reply that is on its way was delivered to us: take it, and finish it.
                await asyncio.wait((reading,), timeout=_LAST_REPLY)
            if reading.done():
                return reading.result()
            if stopping.done():
                raise Stopping
            raise TimeoutError(f"no reply to XREADGROUP within {_READ_DEADLINE:.0f} s")
        finally:
            stopping.cancel()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _fresh(self, read: Read) -> list[Entry]:
        """Leave out what is in flight already; count and let go of what is lost."""
        lost = [entry_id for entry_id in read.lost if entry_id not in self._held]
        if lost:
            self._totals.lost_entries += len(lost)
            log.error(
                "LOST: %d entries were deleted from stream %s while they were pending (first %s): "
                "look for whatever trims it (XTRIM, MAXLEN, DEL) and stop that",
                len(lost),
                self._stream.name,
                lost[0].decode(),
            )
            await self._stream.acknowledge(lost)
        return [entry for entry in read.entries if entry.id not in self._held]

    async def failed(self, error: BaseException) -> bool:
        """Note that a read failed; return whether it was mended, and reading can go on at once."""
        self._totals.redis_failures += 1
        # A reply that was lost on the way left its entries pending for us: ask for them again.
        self.own_again()
        if isinstance(error, ResponseError) and is_group_gone(error):
            return await self._recreate_group()
        self._outage.failed(error, "reading goes on when it answers again")
        return False

    async def _recreate_group(self) -> bool:
        try:
            created = await self._stream.create_group()
        except REDIS_AWAY as error:
            self._outage.failed(error, "the consumer group is made anew when it answers")
            return False
        if created:
            self._totals.groups_recreated += 1
            log.warning(
                "consumer group %s of stream %s was gone and is made anew, from the stream's first "
                "entry; what was in Redis and is no longer is lost (FLUSHALL, a failover?)",
                self._stream.group,
                self._stream.name,
            )
        return True


def _id_key(entry_id: bytes) -> tuple[int, int]:
    """Order of stream ids: <milliseconds>-<sequence>, as numbers."""
    ms, _, sequence = entry_id.partition(b"-")
    return int(ms), int(sequence)
