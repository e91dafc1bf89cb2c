"""Whether the database is tried at all: during an outage no batch pays for finding out again.

closed: every batch is written. open: none is; a probe tries now and then. half-open: a probe got
through, and the next batch decides. Given the time, it decides; it does nothing by itself.
"""

from collections.abc import Callable
from typing import Final, Literal

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 5.0
"""Seconds between probes."""


class Breaker:
    """State of one database, as one worker sees it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self.refusing = False
        """Whether the database is there and refuses most of what it gets: see `Refusals`."""
        self._wait = FIRST_WAIT
        self._probe_at = 0.0

    @property
    def shown(self) -> str:
        """Its state for a person: closed, open, half-open or refusing."""
        return "refusing" if self.refusing else self.state

    @property
    def lets_through(self) -> bool:
        """Whether a batch is to be written."""
        return self.state != "open"

    @property
    def wants_probe(self) -> bool:
        """Whether it is time to look if the database is back."""
        return self.state == "open" and self._clock() >= self._probe_at

    def failed(self) -> None:
        """Note that a batch, or a probe, could not be written."""
        self._wait = FIRST_WAIT if self.state == "closed" else min(2 * self._wait, LONGEST_WAIT)
        self.state = "open"
        self._probe_at = self._clock() + self._wait

    def probed(self) -> None:
        """Note that a probe got through."""
        if self.state == "open":
            self.state = "half-open"

    def worked(self) -> None:
        """Note that a batch was written."""
        self.state = "closed"
        self.refusing = False
