"""Logging what may happen a thousand times a second: at most once a minute."""

import threading
import time
from collections.abc import Callable

MINUTE_S = 60.0


class Rarely:
    """Passes one message a minute on to a logger's method, and says how many it held back."""

    def __init__(
        self,
        log: Callable[..., None],
        every: float = MINUTE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._held_back = 0

    def __call__(self, message: str, *arguments: object) -> None:
        """Log it, unless the last one is less than a minute ago. Never waits."""
        # Whoever finds it locked came within the same microseconds: that is less than a minute.
        if not self._lock.acquire(blocking=False):
            return
        try:
            now = self._clock()
            if now < self._next:
                self._held_back += 1
                return
            self._next = now + self._every
            held_back, self._held_back = self._held_back, 0
        finally:
            self._lock.release()
        # After the lock: a log handler may lead back here.
        if held_back:
            message += " (and %d times more since the last of these messages)"
            arguments = (*arguments, held_back)
        self._log(message, *arguments)
