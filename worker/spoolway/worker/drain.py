"""The drain loop: stream → batch → delivery.

Up to `in_flight` batches are delivered at once, so that the next one is read and decoded while one
commits. An entry is acknowledged after COMMIT, or after the spool's fsync; until then it is pending
in Redis and in memory, and in no third place.
"""

import asyncio
import logging
from collections.abc import Sequence
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
    """Owns the reading task and the batches in flight."""

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
        in_flight: int,
        write_timeout: float,
    ) -> None:
        self._stream = stream
        self._delivery = delivery
        self._progress = progress
        self._redis_outage = redis_outage
        self._stop = stop
        self._window = window
        self._size = ReadSize(batch_events, batch_bytes, write_timeout * _SLOW_SHARE)
        self._slots = asyncio.Semaphore(in_flight)
        self._held: set[bytes] = set()  # ids of entries in flight
        self._deliveries: set[asyncio.Task[None]] = set()
        self._intake = Intake(stream, progress.totals, self._held, redis_outage, stop)

    @property
    def is_busy(self) -> bool:
        """Whether live events keep it as busy as it may be."""
        return self._slots.locked()

    async def run(self) -> None:
        """Drain until `stop` is called, then wait for what is in flight; cancel to cut that off."""
        keeping = asyncio.create_task(self._keep_held(), name="spoolway-keep")
        try:
            await self._read_until_stopped()
            await self._until_delivered()
        finally:
            unfinished = [keeping, *self._deliveries]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)

    def stop(self) -> None:
        """Stop reading. What is being written is finished and acknowledged."""
        self._stop.set()

    async def _until_delivered(self) -> None:
        # A delivery that waits for a database or a Redis that is away gives up by itself (its
        # backoff sees the stop); one that writes is waited for.
        while self._deliveries:
            self._progress.turn("stopping")
            await asyncio.wait(self._deliveries, timeout=1.0)

    async def _read_until_stopped(self) -> None:
        while not self._stop.is_set():
            if not await self._slot():
                continue
            entries: list[Entry] = []
            try:
                entries = await self._intake.next_entries(self._size.entries())
                self._redis_outage.worked()
            except Stopping:
                pass
            except REDIS_AWAY as error:
                if not await self._intake.failed(error):
                    await self._pause(_AFTER_FAILED_READ)
            finally:
                if not entries:
                    self._slots.release()
            if entries:
                self._deliver(entries)

    async def _slot(self) -> bool:
        """Wait for a place in flight, or for a second: the loop turns also when it is held up."""
        try:
            async with asyncio.timeout(1.0):
                await self._slots.acquire()
        except TimeoutError:
            self._progress.turn("writing")
            return False
        self._progress.turn("reading")
        return True

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than until the stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            pass

    def _deliver(self, entries: Sequence[Entry]) -> None:
        """Start writing these entries; the slot that was taken for them is given back at the end."""
        ids = [entry.id for entry in entries]
        self._held.update(ids)
        delivery = asyncio.create_task(self._delivered(entries), name="spoolway-write")
        self._deliveries.add(delivery)

        def done(task: asyncio.Task[None]) -> None:
            self._deliveries.discard(task)
            self._held.difference_update(ids)
            self._slots.release()
            if not task.cancelled() and task.exception():
                self._intake.own_again()  # still pending

        delivery.add_done_callback(done)

    async def _delivered(self, entries: Sequence[Entry]) -> None:
        try:
            batch = assemble(entries, self._window)
            self._size.observe(entries, batch)
            began = self._redis_outage.clock()
            await self._delivery.deliver(batch)
            self._size.took(self._redis_outage.clock() - began)
        except Stopping:
            pass  # still pending: read again at the next start, or claimed by another worker
        except Exception:
            log.exception("a batch of %d entries failed; it is read again", len(entries))
            await self._pause(1.0)  # it will fail again: not as fast as it can
            raise

    async def _keep_held(self) -> None:
        """Touch what is in flight, so that no other worker takes it for abandoned."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                await self._stream.keep(list(self._held))
            except REDIS_AWAY:
                continue  # the reading loop reports it
