"""A body as it flows by: all of it up to a cap; beyond that its beginning, end, size and hash."""

import hashlib
from typing import Final

from spoolway.schema.caps import KIB, marker

HEAD_BYTES: Final = 16 * KIB
TAIL_BYTES: Final = 16 * KIB
"""Kept of a body that is over its cap: what an answer says of itself stands at its ends."""


class Body:
    """Takes parts of a body, in order; holds as many bytes as the cap and the ends at most."""

    __slots__ = ("_cap", "_hash", "_parts", "head", "size", "tail")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._parts: list[bytes] = []
        self.size = 0
        """Bytes so far."""
        self.head = self.tail = b""
        """The ends, once it is over the cap."""

    def feed(self, data: bytes) -> None:
        """Take the next part."""
        was_over = self.is_over
        self.size += len(data)
        if not self.is_over:
            self._parts.append(data)
            return
        if not was_over:  # the first time: what was kept becomes the head
            data = b"".join((*self._parts, data))
            self._parts.clear()
            self.head = data[:HEAD_BYTES]
            self._hash = hashlib.sha256(data, usedforsecurity=False)
        else:
            self._hash.update(data)
        self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    @property
    def is_over(self) -> bool:
        """Whether it is larger than the cap, and no longer all there."""
        return self.size > self._cap

    def whole(self) -> bytes:
        """Return all of it, if it is not over the cap."""
        return b"".join(self._parts)

    def marker(self) -> dict[str, object]:
        """Return what stands for it in its column: size, SHA-256 and beginning."""
        if self.is_over:
            return marker(self.size, self._hash.hexdigest(), self.head)
        whole = self.whole()
        return marker(self.size, hashlib.sha256(whole).hexdigest(), whole)
