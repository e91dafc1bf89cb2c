"""What is known of the running worker, for whoever asks."""

import asyncio
from typing import Final

from spoolway.worker.config import Settings
from spoolway.worker.http.health import unready
from spoolway.worker.http.sample import Sample
from spoolway.worker.http.sources import DeadLetterCounts, Disk, Queue, ask_disk, ask_redis
from spoolway.worker.progress import Progress
from spoolway.worker.stores import Store, StoreError
from spoolway.worker.stores.measured import Measured, PoolUse

_PATIENCE: Final = 1.0
"""Seconds that a scrape waits for what is asked. What takes longer is there at the next one."""
_SOON: Final = 5.0
_SELDOM: Final = 60.0
"""Seconds for which an answer is good."""


class Monitor:
    """Reads the worker's progress, and asks Redis, the disk and the database, each now and then."""

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self.progress: Progress | None = None
        """None while the worker starts."""
        self._store: Store | None = None
        self.redis: Final[Sample[Queue]] = Sample("redis", self._redis, every=_SOON)
        self.disk: Final[Sample[Disk]] = Sample("disk", self._disk, every=_SOON)
        letters = DeadLetterCounts(settings.dir / "dead")
        self.dead_letters: Final = Sample("dead_letters", letters.ask, every=_SELDOM / 4)
        self.database: Final[Sample[Measured]] = Sample("database", self._measure, every=_SELDOM)
        self.samples: Final = (self.redis, self.disk, self.dead_letters, self.database)

    def watch(self, progress: Progress, store: Store | None) -> None:
        """Take over from a start: from here on there is something to tell."""
        self.progress, self._store = progress, store

    def unready(self) -> list[str]:
        """Return why events are not taken just now; nothing if they are."""
        return unready(self.progress)

    def pool_use(self) -> PoolUse | None:
        """Return how many connections to the database are open; None without a pool."""
        return self._store.pool_use() if self._store is not None else None

    async def look(self) -> None:
        """Ask what is due, all at once, and wait a moment for the answers."""
        if self.progress is not None:
            await asyncio.gather(*(sample.look(_PATIENCE) for sample in self.samples))

    async def close(self) -> None:
        """Ask no more."""
        await asyncio.gather(*(sample.close() for sample in self.samples))

    async def _redis(self) -> Queue:
        return await ask_redis(self.settings)

    async def _disk(self) -> Disk:
        return await ask_disk(self.settings.dir)

    async def _measure(self) -> Measured:
        if self._store is None or self.progress is None:
            raise RuntimeError("nothing is watched yet")
        if self.progress.breaker == "open":
            raise StoreError("it is away: the probe is who asks")
        return await self._store.measure()
