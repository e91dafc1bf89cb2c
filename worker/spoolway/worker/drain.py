"""The drain loop: stream → batch → delivery.

Up to `in_flight` batches are written at once, so that the next one is read and decoded while one
commits. Several streams share these places, each with a loop of its own; none holds one while it
waits for its Redis. An entry is acknowledged after COMMIT, or after the spool's fsync; until then it
is pending in Redis and in memory, and in no third place.
"""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from typing import Final

from spoolway.worker.batch import ReadSize, Window, assemble
from spoolway.worker.delivery import Delivery
from spoolway.worker.intake import REDIS_AWAY, Intake, Stopping
from spoolway.worker.outage import Outage
from spoolway.worker.progress import Progress
from spoolway.worker.stream import KEEP_SECONDS, Entry, Stream

log = logging.getLogger("spoolway.drain")

_AFTER_FAILED_READ: Final = 0.25
_SLOW_SHARE: Final = 0.2
"""Of the time that a write may take: batches that take longer become smaller."""


class Drain:
    """Owns the reading of one stream, and its batches in flight."""

    def __init__(
        self,
        stream: Stream,
        delivery: Delivery,
        progress: Progress,
        redis_outage: Outage,
        stop: asyncio.Event,
        *,
        window: Window,
        batch_events: int,
        batch_bytes: int,
        slots: asyncio.Semaphore,
        in_flight: int,
        is_alone: bool,
        write_timeout: float,
    ) -> None:
        self._stream = stream
        self._delivery = delivery
        self._progress = progress
        self._redis_outage = redis_outage
        self._stop = stop
        self._window = window
        self._size = ReadSize(batch_events, batch_bytes, write_timeout * _SLOW_SHARE)
        self._slots = slots
        self._in_flight = in_flight
        self._is_alone = is_alone
        self._held: set[bytes] = set()  # ids of entries in flight
        self._deliveries: set[asyncio.Task[None]] = set()
        self._intake = Intake(stream, progress.totals, self._held, redis_outage, stop)
        self._turn("starting")

    async def run(self) -> None:
        """Drain until the stop is set, then wait for what is in flight; cancel to cut that off."""
        keeping = asyncio.create_task(self._keep_held(), name="spoolway-keep")
        try:
            await self._read_until_stopped()
            await self._until_delivered()
        finally:
            unfinished = [keeping, *self._deliveries]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    async def _until_delivered(self) -> None:
        # A delivery that waits for a database or a Redis that is away gives up by itself (its
        # backoff sees the stop); one that writes is waited for.
        while self._deliveries:
            self._turn("stopping")
            await asyncio.wait(self._deliveries, timeout=1.0)

    async def _read_until_stopped(self) -> None:
        entries: list[Entry] = []
        while not self._stop.is_set():
            if not await self._slot():
                continue
            entries += (
                await self._read(
                    self._intake.next_entries(self._size.entries(), wait=self._is_alone)
                )
                or []
            )
            if entries:
                self._deliver(entries)
                entries = []
            else:
                self._slots.release()
                if not self._is_alone:
                    entries = await self._first_entries()

    async def _read(self, reading: Awaitable[list[Entry]]) -> list[Entry] | None:
        """Return what was read; None, after a pause, while Redis does not answer."""
        try:
            entries = await reading
        except Stopping:
            return []
        except REDIS_AWAY as error:
            if not await self._intake.failed(error):
                await self._pause(_AFTER_FAILED_READ)
            return None
        self._redis_outage.worked()
        return entries

    async def _first_entries(self) -> list[Entry]:
        """Wait a while for a new entry without a place in flight: others have more to do with it.

        And until Redis answers, where it does not.
        """
        while not self._stop.is_set():
            self._turn("reading")
            entries = await self._read(self._intake.first_new())
            if entries is not None:
                self._held.update(entry.id for entry in entries)
                return entries
        return []

    async def _slot(self) -> bool:
        """Wait for a place in flight, or for a second: the loop turns also when it is held up."""
        if len(self._deliveries) >= self._in_flight:  # some of them may wait to acknowledge
            self._turn("writing")
            await asyncio.wait(self._deliveries, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            return False
        try:
            async with asyncio.timeout(1.0):
                await self._slots.acquire()
        except TimeoutError:
            self._turn("writing")
            return False
        self._turn("reading")
        return True

    def _turn(self, state: str) -> None:
        self._progress.turn(state, self._stream.name)

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Start writing these entries; the slot that was taken for them is given back after it."""
        ids = [entry.id for entry in entries]
        self._held.update(ids)
        delivery = asyncio.create_task(self._delivered(entries), name="spoolway-write")
        self._deliveries.add(delivery)

        def done(task: asyncio.Task[None]) -> None:
            self._deliveries.discard(task)
            self._held.difference_update(ids)
            if not task.cancelled() and task.exception():
                self._intake.own_again()  # still pending

        delivery.add_done_callback(done)

    async def _delivered(self, entries: Sequence[Entry]) -> None:
        count = len(entries)
        try:
            ids = await self._settled(entries)
            del entries  # Redis may be away for long: until then ids are enough
            await self._delivery.acknowledge(ids)
        except Stopping:
            pass  # still pending: read again at the next start, or claimed by another worker
        except Exception:
            log.exception("a batch of %d entries failed; it is read again", count)
            await self._pause(1.0)  # it will fail again: not as fast as it can
            raise

    async def _settled(self, entries: Sequence[Entry]) -> list[bytes]:
        """Write a batch, and give its place back; return what may be acknowledged."""
        try:
            batch = assemble(entries, self._window)
            self._size.observe(entries, batch)
            began = self._redis_outage.clock()
            await self._delivery.settle(batch)
            self._size.took(self._redis_outage.clock() - began)
        finally:
            self._slots.release()
        return batch.entry_ids

    async def _keep_held(self) -> None:
        """Touch what is in flight, so that no other worker takes it for abandoned."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                await self._stream.keep(list(self._held))
            except REDIS_AWAY:
                continue  # the reading loop reports it
