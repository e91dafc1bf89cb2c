"""A line that is looked at closely, and how closely it still may be."""

import re
from functools import cached_property
from typing import Final

from spoolway.producer.redaction import extent
from spoolway.producer.redaction.patterns import REDACTED

Span = tuple[int, int, bytes]
"""From where to where, and what comes there."""

_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_STEPS: Final = 1_000
_BYTES_PER_STEP: Final = 1024


class TooMany(Exception):
    """There is more in this line to look at than is good for the request that waits for it."""


class Scanned:
    """The bytes of a line, with a bound for the work on it: thousands of steps, more in a large one.

    A line that needs more was made to be slow.
    """

    def __init__(self, data: bytes) -> None:
        self.data: Final = data
        self._left = _STEPS + len(data) // _BYTES_PER_STEP
        self._seen = 0
        self._is_inside = False

    @cached_property
    def text(self) -> str:
        """One character for each byte, so that a position is the same in both."""
        return self.data.decode("latin-1")

    def spend(self, steps: int) -> None:
        """Count work of so many steps, of some microseconds each.

        Raises:
            TooMany: that was the last of them.
        """
        self._left -= steps
        if self._left < 0:
            raise TooMany

    def inside_a_string(self, begin: int, end: int) -> Span | None:
        """Return what of a match to replace, so that the line stays JSON: within one string.

        Call it with places in their order.
        """
        begin = self._behind_escape(begin)
        passed = _ESCAPE.sub(b"", self.data[self._seen : begin])
        self._is_inside ^= passed.count(b'"') % 2 == 1
        self._seen = begin
        if not self._is_inside:
            return None
        end = min(self._behind_escape(end), extent.end_of_string(self.data, begin))
        around = len(REDACTED) - 1
        if begin >= end or self.data.find(REDACTED, max(begin - around, 0), end + around) >= 0:
            return None  # it is nothing, or a part of what has been replaced
        return begin, end, REDACTED

    def _behind_escape(self, at: int) -> int:
        """Return the end of the escape that this place is in the middle of, or the place."""
        begins = self.data.rfind(b"\\", max(at - 5, 0), at)
        if begins < 0 or extent.backslashes(self.data, begins) % 2:
            return at
        length = 6 if self.data[begins + 1 : begins + 2] == b"u" else 2
        return max(at, begins + length)
