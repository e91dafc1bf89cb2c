"""The drain loop: stream → batch → database → ack.

Up to `in_flight` batches are written at once, so that the next one is read and decoded while one
commits. An entry is acknowledged after COMMIT only; until then it is pending in Redis and in memory,
and in no third place.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from spoolway.spool import DeadLetter, DeadLetters
from spoolway.worker.batch import ReadSize, Window, assemble
from spoolway.worker.intake import REDIS_AWAY, Intake, Stopping
from spoolway.worker.outage import Outage
from spoolway.worker.progress import Progress
from spoolway.worker.stores import Outcome, Store, StoreError, write_isolating
from spoolway.worker.stream import KEEP_SECONDS, Entry, Stream

log = logging.getLogger("spoolway.drain")

_LARGEST_PART: Final = 2
"""Times the bytes a batch aims for that one transaction takes: what aimed too high is split."""
_AFTER_FAILED_READ: Final = 0.25
_BACKOFF: Final = wait_exponential(multiplier=0.1, max=3.0) + wait_random(0, 0.2)
_HELD: Final = "nothing is acknowledged, the batch is tried again"

T = TypeVar("T")


class Drain:
    """Owns the reading task and the batches in flight."""

    def __init__(
        self,
        stream: Stream,
        store: Store,
        dead: DeadLetters,
        progress: Progress,
        *,
        window: Window,
        batch_events: int,
        batch_bytes: int,
        in_flight: int,
    ) -> None:
        self._stream = stream
        self._store = store
        self._dead = dead
        self._progress = progress
        self._window = window
        self._size = ReadSize(batch_events, batch_bytes)
        self._batch_bytes = batch_bytes
        self._slots = asyncio.Semaphore(in_flight)
        self._held: set[bytes] = set()  # ids of entries in flight
        self._deliveries: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        clock = asyncio.get_running_loop().time
        self._redis_outage = Outage(f"Redis ({stream.name})", clock)
        self._store_outage = Outage("database", clock)
        self._dead_outage = Outage("dead letters", clock)
        self._intake = Intake(stream, progress.totals, self._held, self._redis_outage, self._stop)

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
            self._progress.turn(
                "waiting for the database" if self._store_outage.since else "writing"
            )
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
            await self._write_and_acknowledge(entries)
        except Stopping:
            pass  # still pending: read again at the next start, or claimed by another worker
        except Exception:
            log.exception("a batch of %d entries failed; it is read again", len(entries))
            await self._pause(1.0)  # it will fail again: not as fast as it can
            raise

    async def _write_and_acknowledge(self, entries: Sequence[Entry]) -> None:
        batch = assemble(entries, self._window)
        self._size.observe(entries, batch)
        self._progress.totals.read += batch.events
        outcome = Outcome()
        for part in batch.parts(self._batch_bytes * _LARGEST_PART):
            outcome.add(
                await self._stubbornly(
                    partial(write_isolating, self._store, part),
                    (StoreError,),
                    self._store_outage,
                    _HELD,
                )
            )
        letters = [*batch.dead, *_letters(outcome)]
        await self._stubbornly(
            lambda: asyncio.to_thread(self._dead.keep, letters),
            (OSError,),
            self._dead_outage,
            _HELD,
        )
        # From here on every event of the batch is in the database or in a synced file.
        await self._stubbornly(
            lambda: self._stream.acknowledge(batch.entry_ids),
            REDIS_AWAY,
            self._redis_outage,
            "acknowledging goes on when it answers again",
        )
        self._count(outcome, letters)

    async def _stubbornly(
        self,
        step: Callable[[], Awaitable[T]],
        errors: tuple[type[BaseException], ...],
        outage: Outage,
        next_step: str,
    ) -> T:
        """Do the step until it works. Raises Stopping if the worker is stopped before."""

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if error is not None:
                self._progress.totals.write_failures += 1
                outage.failed(error, next_step)

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(errors),
            wait=_BACKOFF,
            sleep=self._sleep_or_stop,
            before_sleep=failed,
        )

        async def once() -> T:  # tenacity awaits what is declared async, and no lambda
            return await step()

        result: T = await attempts(once)
        outage.worked()
        return result

    async def _sleep_or_stop(self, seconds: float) -> None:
        await self._pause(seconds)
        if self._stop.is_set():
            raise Stopping

    def _count(self, outcome: Outcome, letters: Sequence[DeadLetter]) -> None:
        totals = self._progress.totals
        totals.inserted += outcome.written.inserted
        totals.duplicate += outcome.written.duplicates
        totals.dead += len(letters)
        self._progress.committed()
        for letter in letters[:3]:
            log.error(
                "dead letter (%s, entry %s): %s", letter.reason, letter.entry_id, letter.message
            )
        if len(letters) > 3:
            log.error("and %d more dead letters of the same batch", len(letters) - 3)

    async def _keep_held(self) -> None:
        """Touch what is in flight, so that no other worker takes it for abandoned."""
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                await self._stream.keep(list(self._held))
            except REDIS_AWAY:
                continue  # the reading loop reports it


def _letters(outcome: Outcome) -> list[DeadLetter]:
    refused = [
        DeadLetter("refused", one.message, one.item.line, sqlstate=one.sqlstate)
        for one in outcome.refused
    ]
    conflicts = [
        DeadLetter(
            "conflict",
            f"id {one.item.event.id} is in the database with other content: the first one stays",
            one.item.line,
        )
        for one in outcome.written.conflicts
    ]
    return refused + conflicts
