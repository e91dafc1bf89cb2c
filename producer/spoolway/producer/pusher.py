"""The background thread's work: buffer → frames → stream, and by way of the disk while Redis is away.

It owns compression, the network and retrying, so that none of them happens on a thread that
serves requests. An event is let go of only when Redis has confirmed it, when it is synced on this
machine's disk, or when `close` has run out of time.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING, Final

from tenacity import Retrying, wait_random_exponential

from spoolway.producer.buffer import Buffer, Item
from spoolway.producer.frames import Frame, cut
from spoolway.producer.rarely import Rarely
from spoolway.producer.stream import READ_TIMEOUT_S, NotPushed, Stream
from spoolway.schema import FrameEncoder

if TYPE_CHECKING:
    from spoolway.producer.spooling import Spooling

FRAMES_PER_PUSH: Final = 16
"""Ready frames that share a round trip."""
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 2.0
IN_MEMORY_S: Final = 1.0
"""Seconds for which events wait in memory after a failure: a restart of Redis costs no disk write."""
SPOOL_LINGER_S: Final = 1.0
"""Seconds that an event then waits in memory for others to share its fsync."""
_PROBE_S: Final = 1.0
"""Seconds for an answer while Redis is away: where it hangs, the thread soon spools again."""
_PATIENT_EVERY: Final = 5
"""Each so manyth probe waits as long as a push does: a slow Redis is not one that is away."""
_SLOW_S: Final = 0.5
"""Seconds of one push after which the next one is smaller: between two there is time to spool."""

_log = logging.getLogger("spoolway.producer")


class Pusher:
    """Pushes what is in one buffer to the stream, or to several, from one thread."""

    def __init__(
        self,
        buffer: Buffer,
        stream: Stream,
        encoder: FrameEncoder,
        *,
        frame_events: int,
        frame_bytes: int,
        spooling: "Spooling | None" = None,
    ) -> None:
        self._buffer = buffer
        self._stream = stream
        self._encoder = encoder
        self._frame_events = frame_events
        self._frame_bytes = frame_bytes
        self.spooling: Final = spooling
        """The way to the disk and back; None without a folder."""
        self._live: list[Frame] | None = None
        """Of what was taken from the buffer, the frames that Redis has not confirmed."""
        self._back: list[Frame] | None = None
        """Of a chunk of the spool, the frames that Redis has not confirmed."""
        self._turns = count(os.getpid())  # not all of many short processes begin with one stream
        self._is_due = False
        self._at_once = FRAMES_PER_PUSH
        self._failing_since: float | None = None
        self._probes = 0
        self._rarely = Rarely(_log.warning)
        self._rarely_back = Rarely(_log.info)
        self._until_taken = Retrying(
            # The window doubles and the moment in it is random, so that a thousand proxies do not
            # come back to a restarted Redis at once. No limit: only close() gives up.
            wait=wait_random_exponential(
                multiplier=2 * FIRST_WAIT_S, min=FIRST_WAIT_S, max=LONGEST_WAIT_S
            ),
            stop=lambda _: buffer.is_done,
            sleep=self._meanwhile,
            reraise=True,
        )
        self.frames = 0
        self.failures = 0
        self.last_error: str | None = None

    @property
    def why_it_waits(self) -> str | None:
        """Why events are neither in Redis nor on disk, for a person to read."""
        disk = self.spooling.last_error if self.spooling else None
        return "; and ".join(filter(None, (self.last_error, disk))) or None

    def run(self) -> None:
        """Push until the buffer is closed and empty: the thread's whole life."""
        try:
            if self.spooling:
                self.spooling.check()
            while not self._buffer.is_done:
                self._wait()
                # What failed is noted. It comes here when nothing is left, or nothing to be done.
                with contextlib.suppress(Exception):
                    self._until_taken(self._attempt)
        finally:
            self._stream.close()
            if self.spooling:
                self.spooling.close()

    def _wait(self) -> None:
        """Wait until there is something to push."""
        bounds = self._buffer.bounds
        self._is_due = self._live is not None or self._buffer.wait(
            bounds.ready_events,
            bounds.ready_bytes,
            bounds.linger,
            self.spooling.returning.due_at if self.spooling else None,
        )

    def _attempt(self) -> None:
        began = time.monotonic()
        try:
            self._work()
        except Exception as error:
            self._note_failure(error, began)
            raise

    def _work(self) -> None:
        """Push some of what waits: live events first, then some of those on the disk."""
        failing = self._failing_since is not None
        if self._buffer.is_done:
            return
        if failing:
            self._probe()
        if failing or self._is_due:
            self._push_live()
        if self.spooling and not self._buffer.closed:
            if self._buffer.is_crowded and self.spooling.is_ready:
                self._spool_surplus(self.spooling)
            else:
                self._give_back(self.spooling)

    def _probe(self) -> None:
        """Raise NotPushed, soon, if Redis still hangs."""
        self._probes += 1
        is_patient = self._probes % _PATIENT_EVERY == 0
        self._stream.probe(READ_TIMEOUT_S if is_patient else _PROBE_S)

    def _push_live(self) -> None:
        if self._live is None:
            items = self._buffer.take(
                self._at_once * self._frame_events, self._at_once * self._frame_bytes
            )
            self._live = self._frames_of(items)
        self._push(self._live)
        if not self._live:
            self._buffer.settle()
            self._live = None

    def _give_back(self, spooling: "Spooling") -> None:
        """Push one chunk of the spool, if there is any."""
        if self._back is None:
            lines = spooling.returning.chunk()
            if not lines:
                return
            items = ((line, 1) for line in lines)
            self._back = self._frames_of(items)
        self._push(self._back)
        if not self._back:
            spooling.returning.confirm()
            self._back = None

    def _frames_of(self, items: Iterable[Item]) -> list[Frame]:
        return list(cut(items, self._frame_events, self._frame_bytes, self._turns))

    def _push(self, left: list[Frame]) -> None:
        """Push the first of the frames in `left`; take those out that Redis has confirmed."""
        going = left[: self._at_once]
        began = time.monotonic()
        try:
            if going:
                self._stream.add([(f.turn, self._encoder.encode(f.lines, f.events)) for f in going])
        except NotPushed as error:
            left[: len(going)] = [going[at] for at in error.left]
            self.frames += len(going) - len(error.left)
            raise
        del left[: len(going)]
        self.frames += len(going)
        self._note_success(len(going), time.monotonic() - began)

    def _meanwhile(self, seconds: float) -> None:
        """Until the next attempt: hold events in memory for a moment, then take them to the disk."""
        until = time.monotonic() + seconds
        while not self._buffer.is_done and (now := time.monotonic()) < until:
            if self.spooling is None or not self.spooling.is_ready:
                self._buffer.pause(until - now)
                return
            in_memory_until = (self._failing_since or now) + IN_MEMORY_S
            if now < in_memory_until and not (self._buffer.closed or self._buffer.is_crowded):
                if self._buffer.pause(min(until, in_memory_until) - now, until_crowded=True):
                    return
            elif self._live is not None or self._wait_for_batch(self.spooling, until):
                self._spool_some(self.spooling)

    def _wait_for_batch(self, spooling: "Spooling", until: float) -> bool:
        """Wait until there is enough for an fsync; False at `until`."""
        bounds = self._buffer.bounds
        return self._buffer.wait(
            bounds.max_events // 4 + 1,
            min(spooling.batch_bytes, bounds.max_bytes // 4 + 1),
            SPOOL_LINGER_S,
            until,
        )

    def _spool_surplus(self, spooling: "Spooling") -> None:
        """Redis is slower than what comes: make room in memory, before anything is dropped."""
        while spooling.is_ready and self._buffer.is_crowded:
            self._spool_some(spooling)

    def _spool_some(self, spooling: "Spooling") -> None:
        """Take the oldest of what waits to the disk, in one write."""
        if self._live is None:
            items = self._buffer.take(self._buffer.bounds.max_events, spooling.batch_bytes)
            self._live = self._frames_of(items)
        lines = [line for frame in self._live for item in frame.lines for line in item.split(b"\n")]
        if spooling.store(lines, self._buffer):
            self._live = None

    def _note_success(self, frames: int, seconds: float) -> None:
        if not frames:
            return
        self.last_error = None
        if seconds < _SLOW_S / 2:
            self._at_once = min(2 * self._at_once, FRAMES_PER_PUSH)
        elif seconds > _SLOW_S:
            self._at_once = max(int(frames * _SLOW_S / seconds), 1)
        if self._failing_since is not None:
            away = time.monotonic() - self._failing_since
            self._failing_since, self._probes = None, 0
            self._rarely_back("the stream takes events again, after %.1f s", away)

    def _note_failure(self, error: Exception, began: float) -> None:
        self.failures += 1
        # One by one at first: on a slow line a whole batch may never fit into the timeout.
        self._at_once = 1
        if isinstance(error, NotPushed):
            self.last_error = str(error)
        else:
            self.last_error = f"a frame cannot be pushed ({type(error).__name__})"
            _log.debug("while a frame was being pushed", exc_info=error)
        if self._failing_since is None:
            self._failing_since = began
        waiting = self._buffer.counts()
        self._rarely(
            "%s. %d events (%d bytes) wait in this process; %s",
            self.last_error,
            waiting.events,
            waiting.bytes,
            f"if this lasts they go to {self.spooling.folder}, and back by themselves"
            if self.spooling
            else "when its buffer is full, new ones are dropped",
        )
