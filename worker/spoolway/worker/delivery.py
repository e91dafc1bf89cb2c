"""One batch's way: into the database, or onto the disk; only then is it acknowledged.

Every event of a batch ends up as a row, as a dead letter or in the spool, each of them synced,
before its entry is acknowledged. Whatever fails on the way, the entry stays pending in Redis.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from spoolway.spool import DeadLetter, DeadLetters, NotSpooled, SpoolWriter
from spoolway.worker.batch import Batch
from spoolway.worker.breaker import Breaker
from spoolway.worker.intake import REDIS_AWAY, Stopping
from spoolway.worker.outage import Outage
from spoolway.worker.progress import Progress
from spoolway.worker.stores import Item, Outcome, Refusals, Refusing, Store, StoreError
from spoolway.worker.stores.storable import json_line
from spoolway.worker.stream import Stream
from spoolway.worker.writing import letters, log_dead, write

log = logging.getLogger("spoolway.drain")

_LARGEST_PART: Final = 2
"""Times the bytes a batch aims for that one transaction takes: what aimed too high is split."""
_BACKOFF: Final = wait_exponential(multiplier=0.1, max=3.0) + wait_random(0, 0.2)
SPOOLING: Final = "events go to the spool until it is back"
REFUSING_WAIT: Final = 30.0
"""Seconds until a database that refuses most rows is asked again."""

T = TypeVar("T")


@dataclass(slots=True)
class Settled:
    """Where the events of a batch are now."""

    outcome: Outcome = field(default_factory=Outcome)
    letters: list[DeadLetter] = field(default_factory=list)
    spooled: int = 0


class Delivery:
    """Settles batches, and acknowledges their entries; any number at once."""

    def __init__(
        self,
        *,
        stream: Stream,
        store: Store,
        spool: SpoolWriter,
        dead: DeadLetters,
        progress: Progress,
        breaker: Breaker,
        refusals: Refusals,
        store_outage: Outage,
        redis_outage: Outage,
        stop: asyncio.Event,
        batch_bytes: int,
    ) -> None:
        self._stream = stream
        self._store = store
        self._spool = spool
        self._dead = dead
        self._progress = progress
        self._breaker = breaker
        self._refusals = refusals
        self._store_outage = store_outage
        self._redis_outage = redis_outage
        self._stop = stop
        self._part_bytes = batch_bytes * _LARGEST_PART
        clock = asyncio.get_running_loop().time
        self._spool_outage = Outage("spool", clock)
        self._dead_outage = Outage("dead letters", clock)
        progress.outages += [("spool", self._spool_outage), ("dead", self._dead_outage)]

    async def settle(self, batch: Batch) -> None:
        """Return when every event of the batch is safe: then it may be acknowledged.

        Raises:
            Stopping: the worker stops first; the batch stays pending.
        """
        totals = self._progress.totals
        totals.read += batch.events
        totals.in_flight += batch.events
        began = self._redis_outage.clock()
        try:
            settled = await self._settle(batch)
        except BaseException:
            totals.in_flight -= batch.events
            totals.given_back += batch.events
            raise
        totals.in_flight -= batch.events
        self._count(settled)
        took = self._redis_outage.clock() - began
        self._progress.observed.settled(batch.events, batch.size, took)

    async def acknowledge(self, entry_ids: Sequence[bytes]) -> None:
        """Acknowledge entries whose every event is in the database or in a synced file.

        Raises:
            Stopping: the worker stops first; they stay pending.
        """
        await self._stubbornly(
            lambda: self._stream.acknowledge(entry_ids),
            REDIS_AWAY,
            self._redis_outage,
            "acknowledging goes on when it answers again",
        )

    async def _settle(self, batch: Batch) -> Settled:
        settled = Settled()
        for part in batch.parts(self._part_bytes):
            outcome = await self._written_or_spooled(part)
            if outcome is None:
                settled.spooled += len(part)
            else:
                settled.outcome.add(outcome)
        settled.letters = [*batch.dead, *letters(settled.outcome)]
        await self._stubbornly(
            lambda: asyncio.to_thread(self._dead.keep, settled.letters),
            (OSError,),
            self._dead_outage,
            "nothing is acknowledged, it is tried again",
        )
        return settled

    async def _written_or_spooled(self, part: Sequence[Item]) -> Outcome | None:
        """Write a part; return None if it is in the spool instead."""
        while True:
            if self._breaker.lets_through:
                try:
                    outcome = await write(self._store, part, self._refusals, self._sleep_or_stop)
                except Refusing as error:
                    await self._hold(error)
                    continue
                except StoreError as error:
                    self._progress.totals.write_failures += 1
                    self._breaker.failed()
                    self._store_outage.failed(error, SPOOLING)
                else:
                    self._breaker.worked()
                    self._store_outage.worked()
                    self._progress.observed.committed(part)
                    return outcome
            try:
                await asyncio.to_thread(self._spool.append, [json_line(item) for item in part])
            except NotSpooled as error:
                # The slots are full of batches like this one: nothing more is read from Redis.
                self._spool_outage.failed(error, "nothing is acknowledged, events stay in Redis")
                await self._sleep_or_stop(1.0)
            else:
                self._spool_outage.worked()
                return None

    async def _hold(self, error: Refusing) -> None:
        self._progress.totals.write_failures += 1
        self._breaker.refusing = True
        log.error("STOPPED: %s", error)
        await self._sleep_or_stop(REFUSING_WAIT)

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
                outage.failed(error, next_step)
            if outage is self._redis_outage:
                self._progress.totals.redis_failures += 1

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
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise Stopping

    def _count(self, settled: Settled) -> None:
        progress, totals = self._progress, self._progress.totals
        totals.inserted += settled.outcome.written.inserted
        totals.duplicate += settled.outcome.written.duplicates
        totals.dead += len(settled.letters)
        progress.observed.dead.update(letter.reason for letter in settled.letters)
        totals.spooled += settled.spooled
        progress.settled(committed=bool(settled.outcome.written.inserted))
        log_dead(settled.letters)
