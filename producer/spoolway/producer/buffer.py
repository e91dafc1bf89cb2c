"""The bounded buffer between the threads that emit and the one that pushes.

It holds encoded lines, first in, first out, until Redis has confirmed them: what is on its way
counts towards the bounds too. It does no I/O and does not log.
"""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

_NEVER: Final = sys.maxsize
"""A number of waiting events that is never reached."""

Item = tuple[bytes, int]
"""JSON lines that stay together in one frame, and how many they are."""


@dataclass(slots=True, frozen=True)
class Bounds:
    """How much is held, and how much is worth a push at once."""

    max_bytes: int
    max_events: int
    ready_bytes: int
    ready_events: int
    linger: float
    """Seconds that an event waits for others to share its frame."""


@dataclass(slots=True, frozen=True)
class Counts:
    """What went through, in events; see ProducerStats."""

    accepted: int
    pushed: int
    dropped: int
    abandoned: int
    rejected: int
    events: int
    bytes: int


class Buffer:
    """First in, first out; many threads put, one takes."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        # Re-entrant: a signal handler, or a finalizer that the garbage collector runs, may emit on
        # a thread that is in here already. So nothing below calls out between reading a number and
        # writing it.
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        # Wakes the pusher: free when rung. A condition variable forgets a notification that comes
        # just before the wait (from a finalizer on the pusher's own thread); a lock does not.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._items: deque[Item] = deque()
        self._waiting_events = self._waiting_bytes = 0
        self._taken_events = self._taken_bytes = 0
        self._accepted = self._pushed = self._dropped = self._abandoned = self._rejected = 0
        self._wake_at = _NEVER  # waiting events at which put() wakes the pusher
        self._flush_to = 0  # accepted events that somebody waits for
        self._nudges = self._heeded = 0  # calls of flush and close, and those the pusher acted on
        self._closed = self._given_up = False

    # The side of emit().

    def put(self, lines: bytes, events: int) -> bool:
        """Take it, or drop it (and count that) because there is no room or because of `close`."""
        bounds = self._bounds
        size = len(lines)
        with self._lock:
            if (
                self._waiting_events + self._taken_events + events > bounds.max_events
                or self._waiting_bytes + self._taken_bytes + size > bounds.max_bytes
                or self._closed
            ):
                self._dropped += events
                return False
            self._items.append((lines, events))
            self._accepted += events
            self._waiting_events += events
            self._waiting_bytes += size
            if self._waiting_events >= self._wake_at or (
                self._waiting_bytes >= bounds.ready_bytes and self._wake_at < _NEVER
            ):
                self._wake_at = _NEVER
                self._ring()
        return True

    def count_rejected(self) -> None:
        """Count one that was refused for what it is."""
        with self._lock:
            self._rejected += 1

    def count_dropped(self, events: int) -> None:
        """Count what was lost before it got here."""
        with self._lock:
            self._dropped += events

    # The side of the pusher.

    def take(self) -> deque[Item] | None:
        """Wait until a push is worth it, and return all that waits; None when there is no more.

        Sleeps without a timeout while the buffer is empty. `done` must be told of all of it.
        """
        deadline: float | None = None
        while True:
            with self._lock:
                if self._items:
                    now = time.monotonic()
                    if deadline is None:
                        deadline = now + self._bounds.linger
                    if now >= deadline or self._is_due():
                        return self._take_all()
                    self._wake_at, timeout = self._bounds.ready_events, deadline - now
                elif self._closed:
                    return None
                else:
                    self._wake_at, timeout = 1, -1.0
            self._bell.acquire(timeout=timeout)

    def _is_due(self) -> bool:
        return (
            self._waiting_events >= self._bounds.ready_events
            or self._waiting_bytes >= self._bounds.ready_bytes
            or self._flush_to > self._accepted - self._waiting_events
            or self._closed
        )

    def _take_all(self) -> deque[Item]:
        taken, self._items = self._items, deque()
        self._taken_events += self._waiting_events
        self._taken_bytes += self._waiting_bytes
        self._waiting_events = self._waiting_bytes = 0
        self._wake_at = _NEVER
        return taken

    def done(self, events: int, size: int) -> None:
        """Redis has confirmed so many events of what was taken, in the order it was taken in."""
        with self._lock:
            if self._given_up:  # counted as abandoned already
                return
            self._taken_events -= events
            self._taken_bytes -= size
            self._pushed += events
            self._settled.notify_all()

    def pause(self, seconds: float) -> None:
        """Sleep until it is time to try again, or until somebody asks to flush or close."""
        deadline = time.monotonic() + seconds
        while self._heeded == self._nudges and (left := deadline - time.monotonic()) > 0:
            self._bell.acquire(timeout=left)
        self._heeded = self._nudges

    @property
    def given_up(self) -> bool:
        """Whether `close` ran out of time: what was taken need not be pushed any more."""
        return self._given_up

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    # The side of flush(), close() and stats.

    def flush(self, timeout: float) -> bool:
        """Wait until all that was accepted so far is confirmed, at most `timeout` seconds."""
        with self._lock:
            target = self._accepted
            self._flush_to = target
            self._nudge()
            deadline = time.monotonic() + timeout
            while self._pushed < target and not self._given_up:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._settled.wait(left)
            return self._pushed >= target

    def close(self) -> None:
        """Take no more; what is in here goes on its way at once."""
        with self._lock:
            self._closed = True
            self._nudge()

    def give_up(self) -> int:
        """Let go of what is left, and return how many events that are in all so far."""
        with self._lock:
            self._closed = self._given_up = True
            left = self._waiting_events + self._taken_events
            self._items = deque()
            self._waiting_events = self._waiting_bytes = 0
            self._taken_events = self._taken_bytes = 0
            self._abandoned += left
            self._dropped += left
            self._nudge()
            self._settled.notify_all()
            return self._abandoned

    def _nudge(self) -> None:
        self._nudges += 1
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.release()
        except RuntimeError:
            return  # rung already, and not heard yet

    def counts(self) -> Counts:
        """Return all counts of one moment."""
        with self._lock:
            return Counts(
                accepted=self._accepted,
                pushed=self._pushed,
                dropped=self._dropped,
                abandoned=self._abandoned,
                rejected=self._rejected,
                events=self._waiting_events + self._taken_events,
                bytes=self._waiting_bytes + self._taken_bytes,
            )
