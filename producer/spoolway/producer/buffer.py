"""The bounded buffer between the threads that emit and the one that pushes.

It holds encoded lines, first in, first out, until Redis or the disk has them: what is on its way
counts towards the bounds too. It does no I/O and does not log.
"""

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Final

_NEVER: Final = sys.maxsize
"""A number of events or bytes that is never reached."""

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
    spooled: int
    dropped: int
    abandoned: int
    rejected: int
    withheld: int
    reduced: int
    events: int
    bytes: int


class Buffer:
    """First in, first out; many threads put, one takes a batch at a time and settles it."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds: Final = bounds
        # Re-entrant: a signal handler, or a finalizer that the garbage collector runs, may emit on
        # a thread that is in here already. So nothing below calls out between reading a number and
        # writing it, and nothing walks over the items that wait.
        self._lock = threading.RLock()
        self._settled = threading.Condition(self._lock)
        # Wakes the pusher: free when rung. A condition variable forgets a notification that comes
        # just before the wait (from a finalizer on the pusher's own thread); a lock does not.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._items: deque[Item] = deque()
        self._taken: deque[Item] = deque()
        self._events = self._bytes = 0  # of both
        self._taken_events = self._taken_bytes = 0
        self._accepted = self._pushed = self._spooled = 0
        self._dropped = self._abandoned = self._rejected = 0
        self._withheld = self._reduced = 0
        self._wake_events = self._wake_bytes = _NEVER  # at which put() wakes the pusher
        self._first_at = 0.0  # when the oldest that waits was put here, or earlier
        self._flush_to = 0  # accepted events that somebody waits for
        self._nudges = self._heeded = 0  # calls of flush and close, and those the pusher acted on
        self._closed = self._given_up = False

    # The side of emit().

    def put(self, lines: bytes, events: int) -> bool:
        """Take it, or drop it (and count that) because there is no room or because of `close`."""
        bounds = self.bounds
        size = len(lines)
        with self._lock:
            if (
                self._events + events > bounds.max_events
                or self._bytes + size > bounds.max_bytes
                or self._closed
            ):
                self._dropped += events
                return False
            if not self._items:
                self._first_at = time.monotonic()
            self._items.append((lines, events))
            self._accepted += events
            self._events += events
            self._bytes += size
            if self._events >= self._wake_events or self._bytes >= self._wake_bytes:
                self._wake_events = self._wake_bytes = _NEVER
                self._ring()
        return True

    def count_rejected(self) -> None:
        """Count one that was refused for what it is."""
        with self._lock:
            self._rejected += 1

    def count_withheld(self) -> None:
        """Count one that its owner does not want recorded."""
        with self._lock:
            self._withheld += 1

    def count_reduced(self) -> None:
        """Count one of which the metadata alone is recorded, because its redaction failed."""
        with self._lock:
            self._reduced += 1

    def count_dropped(self, events: int) -> None:
        """Count what was lost before it got here."""
        with self._lock:
            self._dropped += events

    # The side of the pusher.

    def wait(self, events: int, size: int, linger: float, until: float | None = None) -> bool:
        """Wait until so many events or bytes wait; True if it is time to take them.

        Also when the first of them has waited for `linger` seconds, or somebody flushes or closes.
        False at `until` (of time.monotonic), or when it is closed and empty. Without `until` it
        sleeps without a timeout while there is nothing.
        """
        while True:
            with self._lock:
                now, end = time.monotonic(), until
                if self._items:
                    due_at = self._first_at + linger
                    if (
                        now >= due_at
                        or self._events >= events
                        or self._bytes >= size
                        or self._flush_to > self._pushed + self._spooled
                        or self._closed
                    ):
                        return True
                    end = due_at if until is None else min(due_at, until)
                    self._wake_events, self._wake_bytes = events, size
                elif self._closed:
                    return False
                else:
                    self._wake_events, self._wake_bytes = 1, _NEVER
                if until is not None and now >= until:
                    self._wake_events = self._wake_bytes = _NEVER
                    return False
            self._bell.acquire(timeout=-1.0 if end is None else max(end - now, 0.0))

    def pause(self, seconds: float, *, until_crowded: bool = False) -> bool:
        """Sleep until it is time to try again; True if somebody asked to flush or close."""
        deadline = time.monotonic() + seconds
        bounds = self.bounds
        while self._heeded == self._nudges and (left := deadline - time.monotonic()) > 0:
            if until_crowded:
                with self._lock:
                    self._wake_events = bounds.max_events // 2 + 1
                    self._wake_bytes = bounds.max_bytes // 2 + 1
                    if self.is_crowded:
                        return False
            self._bell.acquire(timeout=left)
        nudged = self._heeded != self._nudges
        self._heeded = self._nudges
        return nudged

    def take(self, events: int, size: int) -> list[Item]:
        """Take the oldest, about so many; all of them are settled before more are taken."""
        with self._lock:
            if self._items and not self._taken and self._events <= events and self._bytes <= size:
                # All that waits, in one step: emit() may be waiting for this lock.
                empty: deque[Item] = deque()
                self._taken, self._items = self._items, empty
                self._taken_events, self._taken_bytes = self._events, self._bytes
            while self._items and (
                not self._taken or (self._taken_events < events and self._taken_bytes < size)
            ):
                item = self._items.popleft()
                self._taken.append(item)
                self._taken_events += item[1]
                self._taken_bytes += len(item[0])
            taken = self._taken
        return list(taken)

    def settle(self, spooled: int = 0) -> None:
        """All that was taken is on disk (so many events of it) or confirmed by Redis."""
        with self._lock:
            if self._given_up:  # whoever closes has it now
                return
            self._pushed += self._taken_events - spooled
            self._spooled += spooled
            self._events -= self._taken_events
            self._bytes -= self._taken_bytes
            self._taken = deque()
            self._taken_events = self._taken_bytes = 0
            self._settled.notify_all()

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of the bounds is in use."""
        bounds = self.bounds
        return 2 * self._events > bounds.max_events or 2 * self._bytes > bounds.max_bytes

    @property
    def given_up(self) -> bool:
        """Whether `close` ran out of time: what was taken need not be pushed any more."""
        return self._given_up

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: closed, and empty or given up."""
        return self._given_up or (self._closed and not self._events)

    # The side of flush(), close() and stats.

    def flush(self, timeout: float) -> bool:
        """Wait until all that was accepted so far is settled, at most `timeout` seconds."""
        with self._lock:
            target = self._accepted
            self._flush_to = target
            self._nudge()
            deadline = time.monotonic() + timeout
            while self._pushed + self._spooled < target and not self._abandoned:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                self._settled.wait(left)
            return self._pushed + self._spooled >= target

    def close(self) -> None:
        """Take no more; what is in here goes on its way at once."""
        with self._lock:
            self._closed = True
            self._nudge()

    def give_up(self) -> list[Item]:
        """Take what is left away from the pusher, in order; `rescued` or `abandon` settle it."""
        with self._lock:
            self._closed = self._given_up = True
            waiting, self._items = self._items, deque()
            taken, self._taken = self._taken, deque()
            self._nudge()
            return [*taken, *waiting]

    def rescued(self, events: int, size: int) -> None:
        """So much of what `give_up` returned is on disk."""
        with self._lock:
            self._spooled += events
            self._events -= events
            self._bytes -= size
            self._settled.notify_all()

    def abandon(self) -> int:
        """Let go of what is left after `give_up`; return how many events are lost in all."""
        with self._lock:
            self._abandoned += self._events
            self._dropped += self._events
            self._events = self._bytes = 0
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
                spooled=self._spooled,
                dropped=self._dropped,
                abandoned=self._abandoned,
                rejected=self._rejected,
                withheld=self._withheld,
                reduced=self._reduced,
                events=self._events,
                bytes=self._bytes,
            )
