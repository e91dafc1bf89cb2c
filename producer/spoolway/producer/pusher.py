"""The background thread's work: buffer → frames → stream.

It owns compression, the network and retrying, so that none of them happens on a thread that
serves requests. A frame is let go of only when Redis has confirmed it, or when `close` has run out
of time.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from tenacity import Retrying, wait_random_exponential

from spoolway.producer.buffer import Buffer, Item
from spoolway.producer.rarely import Rarely
from spoolway.producer.stream import NotPushed, Stream
from spoolway.schema import FrameEncoder

FRAMES_PER_PUSH: Final = 16
"""Ready frames that share a round trip."""
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 2.0

_log = logging.getLogger("spoolway.producer")


class Frame(NamedTuple):
    """The lines of one stream entry to be."""

    lines: list[bytes]
    events: int
    size: int
    """Bytes of its JSON lines."""


class Pusher:
    """Pushes what is in one buffer to one stream, from one thread."""

    def __init__(
        self,
        buffer: Buffer,
        stream: Stream,
        encoder: FrameEncoder,
        *,
        frame_events: int,
        frame_bytes: int,
    ) -> None:
        self._buffer = buffer
        self._stream = stream
        self._encoder = encoder
        self._frame_events = frame_events
        self._frame_bytes = frame_bytes
        self._at_once = FRAMES_PER_PUSH
        self._failing_since: float | None = None
        self._rarely = Rarely(_log.warning)
        self._rarely_back = Rarely(_log.info)
        self._until_pushed = Retrying(
            # The window doubles and the moment in it is random, so that a thousand proxies do not
            # come back to a restarted Redis at once. No limit: only close() gives up.
            wait=wait_random_exponential(
                multiplier=2 * FIRST_WAIT_S, min=FIRST_WAIT_S, max=LONGEST_WAIT_S
            ),
            stop=lambda _: buffer.given_up,
            sleep=buffer.pause,
            reraise=True,
        )
        self.frames = 0
        self.failures = 0
        self.last_error: str | None = None

    def run(self) -> None:
        """Push until the buffer is closed and empty: the thread's whole life."""
        try:
            while (items := self._buffer.take()) is not None:
                self._push_all(items)
        finally:
            self._stream.close()

    def _push_all(self, items: deque[Item]) -> None:
        while items and not self._buffer.given_up:
            batch = list(self._frames(items))
            left = list(batch)
            try:
                self._until_pushed(self._push, left)
            except Exception:  # noqa: BLE001 - noted in _push; it comes here when close() has given up
                return
            self._buffer.done(sum(f.events for f in batch), sum(f.size for f in batch))

    def _frames(self, items: deque[Item]) -> Iterator[Frame]:
        """Cut the next frames off the items, by count and by bytes; an item is never cut."""
        for _ in range(FRAMES_PER_PUSH):
            lines: list[bytes] = []
            events = size = 0
            while items:
                more_lines, more_events = items[0]
                if lines and (
                    events + more_events > self._frame_events
                    or size + len(more_lines) > self._frame_bytes
                ):
                    break
                items.popleft()
                lines.append(more_lines)
                events += more_events
                size += len(more_lines)
            if not lines:
                return
            yield Frame(lines, events, size)

    def _push(self, left: list[Frame]) -> None:
        """Push the frames in `left`, and take those out of it that Redis has confirmed."""
        while left:
            going = left[: self._at_once]
            try:
                self._stream.add([self._encoder.encode(f.lines, f.events) for f in going])
            except Exception as error:
                refused = error.left if isinstance(error, NotPushed) else range(len(going))
                left[: len(going)] = [going[at] for at in refused]
                self.frames += len(going) - len(refused)
                self._note_failure(error)
                raise
            del left[: len(going)]
            self.frames += len(going)
            self._note_success()

    def _note_success(self) -> None:
        self.last_error = None
        self._at_once = min(2 * self._at_once, FRAMES_PER_PUSH)
        if self._failing_since is not None:
            away = time.monotonic() - self._failing_since
            self._failing_since = None
            self._rarely_back("the stream takes events again, after %.1f s", away)

    def _note_failure(self, error: Exception) -> None:
        self.failures += 1
        # One by one at first: on a slow line a whole batch may never fit into the timeout.
        self._at_once = 1
        if isinstance(error, NotPushed):
            self.last_error = str(error)
        else:
            self.last_error = f"a frame cannot be pushed ({type(error).__name__})"
            _log.debug("while a frame was being pushed", exc_info=error)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        waiting = self._buffer.counts()
        self._rarely(
            "%s. %d events (%d bytes) wait in this process; when its buffer is full, new ones are "
            "dropped",
            self.last_error,
            waiting.events,
            waiting.bytes,
        )
