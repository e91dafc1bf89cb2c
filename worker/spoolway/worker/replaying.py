"""What `spoolway replay` does with a spool: which segments, how far, how fast, and what is left.

Any number may run at once, beside workers: a segment is locked by whoever replays it. One that is
replayed in part is cut where that ended, so that nothing of it is counted twice.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from spoolway.spool import Chunk, Segment, SegmentFile, SpoolFolder
from spoolway.worker.plan import Destination, Halt, Left, Plan, Report, Skip
from spoolway.worker.threads import in_thread

LOCKED_WAIT: Final = 15.0
"""Seconds to wait for segments that others have locked. A worker that spooled seals what it wrote
within 5 s of the database's return; another replay is done with a segment sooner."""
_LOOK_EVERY: Final = 0.25
_MOST_FAILURES: Final = 3
"""Segments in a row that fail for no known reason before the rest is not tried any more."""

LOCKED: Final = "in use: another replay has it, or a worker or proxy writes it and seals it in time"
NEWER: Final = "spooled after this replay began"


@dataclass(slots=True)
class _Held:
    """A locked segment, and how much of it is safe elsewhere."""

    segment: Segment
    settled_to: int = 0
    is_whole: bool = False


class Replaying:
    """One run over one spool. `run` once."""

    def __init__(
        self,
        folder: SpoolFolder,
        destination: Destination,
        plan: Plan,
        stop: asyncio.Event,
        *,
        progressed: Callable[[int], None] = lambda _events: None,
        waiting: Callable[[int], None] = lambda _segments: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._destination = destination
        self._plan = plan
        self._stop = stop
        self._progressed = progressed
        self._waiting = waiting
        self._now = now
        self._clock = clock
        self._report = Report()
        self._unspent = plan.limit
        self._next_at = 0.0
        self._worked_at = 0.0
        self._failures = 0
        self._ended: str | None = None
        """Why nothing more is replayed."""
        self._why: dict[str, str] = {}
        """Names of segments that failed, and how."""
        self._kept: set[str] = set()
        self._locked: list[SegmentFile] = []

    async def run(self) -> Report:
        """Replay what is in the spool by now. Raises OSError if the folder cannot be read."""
        files = await in_thread(self._folder.segments)
        # What a worker spools meanwhile is not waited for: this ends.
        newest = max([self._now(), *(file.began for file in files)])
        self._worked_at = self._clock()
        while True:
            await self._replay_all(files)
            if self._is_over() or not self._locked or not await self._wait_for_locked():
                break
            files = [
                file
                for file in await in_thread(self._folder.segments)
                if file.began <= newest and file.path.name not in self._why.keys() | self._kept
            ]
        self._report.left = await in_thread(self._what_is_left)
        return self._report

    async def _replay_all(self, files: list[SegmentFile]) -> None:
        self._locked = []
        waiting = iter(files)
        # Of a limit or a rate the oldest segment comes first.
        lanes = self._plan.lanes if self._plan.limit is self._plan.rate is None else 1
        async with asyncio.TaskGroup() as running:
            for lane in range(lanes):
                running.create_task(self._replay_files(waiting), name=f"spoolway-replay-{lane}")

    async def _replay_files(self, waiting: Iterator[SegmentFile]) -> None:
        for file in waiting:
            if self._is_over():
                return
            try:
                segment = await in_thread(partial(self._folder.take, file))
            except OSError as error:
                self._failed(file, f"cannot be opened: {_said(error)}")
                continue
            if segment is None:
                self._locked.append(file)
                continue
            await self._replay_segment(file, _Held(segment))

    async def _replay_segment(self, file: SegmentFile, held: _Held) -> None:
        try:
            await self._put_chunks(held)
            self._failures = 0
        except Halt as error:
            self._ended = self._ended or str(error)
        except Skip as error:
            held.settled_to = 0  # it keeps its name, under which it is known to fail
            self._failed(file, str(error))
        except OSError as error:
            held.settled_to = 0
            self._failed(file, f"cannot be read, or a dead letter not be written: {_said(error)}")
        finally:
            try:
                await in_thread(partial(self._let_go, held))
            except OSError as error:
                # Every event is safe where it went: when it comes again, it is a duplicate.
                self._failed(file, f"is replayed, but cannot be removed: {_said(error)}")
            finally:
                held.segment.release()

    async def _put_chunks(self, held: _Held) -> None:
        plan, segment = self._plan, held.segment
        chunks = segment.chunks(plan.chunk_events(), plan.batch_bytes)
        while not self._is_over():
            chunk = await in_thread(partial(next, chunks, None))
            if chunk is None:
                held.is_whole = True
                return
            if self._unspent is not None and events_in(chunk) > self._unspent:
                chunks = iter(())
                chunk = await in_thread(
                    partial(first_events, segment, held.settled_to, self._unspent)
                )
            events = events_in(chunk)
            if not await self._is_time(events):
                return
            if self._unspent is not None:
                self._unspent -= events
            done = await self._destination.put(chunk, segment.path)
            held.settled_to = chunk.end
            self._report.done.add(done)
            self._worked_at = self._clock()
            self._progressed(done.events)

    def _let_go(self, held: _Held) -> None:
        segment = held.segment
        self._report.torn_bytes += segment.torn_bytes if held.is_whole else 0
        self._report.segments += held.is_whole
        if self._plan.keep:
            if held.is_whole:
                self._kept.add(segment.path.name)
        elif held.is_whole:
            segment.remove()
        elif held.settled_to:
            segment.cut(held.settled_to)

    def _is_over(self) -> bool:
        if self._ended is None:
            if self._stop.is_set():
                self._ended = "interrupted: run the same command again to go on"
            elif self._unspent is not None and self._unspent <= 0:
                self._ended = "the limit is reached: run the same command again to go on"
        return self._ended is not None

    async def _is_time(self, events: int) -> bool:
        """Wait as the rate demands; return False if it is stopped before."""
        if self._plan.rate is not None:
            if not await self._sleep(self._next_at - self._clock()):
                return False
            self._next_at = max(self._next_at, self._clock()) + events / self._plan.rate
        return True

    async def _wait_for_locked(self) -> bool:
        if self._clock() - self._worked_at >= LOCKED_WAIT:
            return False
        self._waiting(len(self._locked))
        await self._sleep(_LOOK_EVERY)
        return not self._is_over()

    async def _sleep(self, seconds: float) -> bool:
        """Return True after so many seconds, False as soon as it is stopped."""
        if seconds <= 0:
            return not self._stop.is_set()
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return True
        return False

    def _failed(self, file: SegmentFile, why: str) -> None:
        self._why[file.path.name] = why
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._ended = self._ended or why

    def _what_is_left(self) -> list[Left]:
        by_reason: dict[str, Left] = {}
        locked = {file.path.name for file in self._locked}
        for file in self._folder.segments():
            name = file.path.name
            if name in self._kept:
                continue
            reason = self._why.get(name) or self._ended or (LOCKED if name in locked else NEWER)
            left = by_reason.setdefault(reason, Left(reason))
            left.segments += 1
            left.events += count_events(file)
        return list(by_reason.values())


def events_in(chunk: Chunk) -> int:
    """Return the events of a chunk, damaged ones included: each becomes a dead letter."""
    return len(chunk.lines) + len(chunk.damaged)


def first_events(segment: Segment, offset: int, events: int) -> Chunk:
    """Return the chunk of the first `events` events after `offset`, the end of another one.

    One more only where a rotted newline has joined it to the last. Raises OSError.
    """
    first = Chunk(offset)
    for line in segment.chunks(1, 1):
        if line.end <= offset:
            continue
        first.end = line.end
        first.lines += line.lines
        first.damaged += line.damaged
        if events_in(first) >= events:
            break
    return first


def count_events(file: SegmentFile) -> int:
    """Return a segment's events; 0 for what cannot be read, or is gone by now."""
    try:
        return file.count_events()
    except OSError:
        return file.named_events or 0


def _said(error: OSError) -> str:
    return str(error.strerror or error)
