"""Bringing the spool back by itself: probe the database, and replay beside live traffic.

The only place that probes: while the database is away no live batch waits to find out.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from spoolway.spool import Segment, SegmentFile, SpoolFolder, SpoolWriter
from spoolway.worker.breaker import Breaker
from spoolway.worker.delivery import REFUSING_WAIT, SPOOLING
from spoolway.worker.outage import Outage
from spoolway.worker.plan import SEGMENTS_AT_ONCE
from spoolway.worker.progress import Progress
from spoolway.worker.replay import Replay, Replayed
from spoolway.worker.stores import Refusing, Store, StoreError, Unknown
from spoolway.worker.threads import in_thread

log = logging.getLogger("spoolway.spool")

_LOOK_EVERY: Final = 0.5
"""Seconds between looks at the breaker and at the folder."""
_SEAL_AFTER: Final = 60.0
"""Seconds after which a segment is sealed during an outage, so that it can be replayed by hand."""
_AGAIN_AFTER: Final = 30.0
"""Seconds until a segment that failed for no known reason, or cannot be read, is tried again."""


class AutoReplay:
    """Owns one worker's probing and replaying. `run` until cancelled."""

    def __init__(
        self,
        *,
        store: Store,
        spool: SpoolWriter,
        replay: Replay,
        breaker: Breaker,
        progress: Progress,
        outage: Outage,
        is_live_busy: Callable[[], bool],
        enabled: bool,
    ) -> None:
        self._store = store
        self._spool = spool
        self._folder: SpoolFolder = spool.folder
        self._replay = replay
        self._breaker = breaker
        self._progress = progress
        self._outage = outage
        self._is_live_busy = is_live_busy
        self._enabled = enabled
        self._not_before: dict[Path, float] = {}
        self._clock = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            self._progress.breaker = self._breaker.shown
            if self._breaker.wants_probe:
                await self._probe()
            # While the database is there nothing is added to the segment: let it be replayed.
            older_than = 0.0 if self._breaker.lets_through else _SEAL_AFTER
            await asyncio.to_thread(self._spool.seal, older_than)
            if self._enabled and self._breaker.lets_through:
                await self._replay_all()
            await asyncio.sleep(_LOOK_EVERY)

    async def _probe(self) -> None:
        try:
            # Something that writes: a standby answers every question, and takes nothing.
            await self._store.link_errors()
        except StoreError as error:
            self._breaker.failed()
            self._outage.failed(error, SPOOLING)
        else:
            self._breaker.probed()

    async def _replay_all(self) -> None:
        now = self._clock()
        self._not_before = {path: at for path, at in self._not_before.items() if at > now}
        try:
            files = await asyncio.to_thread(self._folder.segments)
        except OSError as error:
            log.warning("the spool in %s cannot be read: %s", self._folder.path, error)
            return
        waiting = iter([file for file in files if file.path not in self._not_before])
        async with asyncio.TaskGroup() as lanes:
            for lane in range(SEGMENTS_AT_ONCE):
                lanes.create_task(self._replay_files(waiting), name=f"spoolway-replay-{lane}")

    async def _replay_files(self, waiting: Iterator[SegmentFile]) -> None:
        for file in waiting:
            if not self._breaker.lets_through:
                return
            await self._replay_file(file)

    async def _replay_file(self, file: SegmentFile) -> None:
        segment: Segment | None = None
        try:
            segment = await asyncio.to_thread(self._folder.take, file)
            if segment is None:  # another one replays it, or writes it
                return
            done = await self._replay_segment(segment)
        except Refusing as error:
            self._later(file.path, REFUSING_WAIT, error)
        except (Unknown, OSError) as error:
            self._later(file.path, _AGAIN_AFTER, error)  # it may be this segment's own
        except StoreError as error:
            self._breaker.failed()
            self._outage.failed(error, SPOOLING)
        else:
            log.info(
                "replayed %s: %d events, %d inserted, %d duplicate, %d dead",
                file.path.name,
                done.events,
                done.inserted,
                done.duplicate,
                done.dead,
            )
        finally:
            if segment is not None:
                segment.release()

    async def _replay_segment(self, segment: Segment) -> Replayed:
        total = Replayed()
        chunks = self._replay.chunks(segment)
        while chunk := await in_thread(partial(next, chunks, None)):
            began = self._clock()
            done = await self._replay.put_back(chunk, segment.path)
            total.add(done)
            self._count(done)
            if self._is_live_busy():
                # Most of the time is left to live events: they must not wait for old ones.
                await asyncio.sleep(2 * (self._clock() - began))
        if segment.torn_bytes:
            log.info("%s ended in a torn write of %d bytes", segment.path, segment.torn_bytes)
        await in_thread(segment.remove)
        return total

    def _count(self, done: Replayed) -> None:
        totals = self._progress.totals
        totals.replayed += done.events
        totals.replay_inserted += done.inserted
        totals.replay_duplicate += done.duplicate
        totals.replay_dead += done.dead
        if not self._breaker.refusing:
            self._breaker.worked()
        self._outage.worked()
        self._progress.settled(committed=bool(done.inserted))

    def _later(self, path: Path, seconds: float, error: Exception) -> None:
        self._not_before[path] = self._clock() + seconds
        log.error("%s stays in the spool and is tried again in %.0f s: %s", path, seconds, error)
