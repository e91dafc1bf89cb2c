"""What was found out once, kept within bounds: names of models are whatever clients send."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST: Final = 4096
"""Names that are kept: a proxy has some hundreds. Bytes of each are bounded by who looks them up."""


class Memo(Generic[K, V]):
    """A dictionary that is emptied when it is full. Whoever reads it may use `known` directly."""

    def __init__(self, most: int = _MOST) -> None:
        self.known: Final[dict[K, V]] = {}
        self._most = most

    def keep(self, key: K, value: V) -> V:
        """Keep a value, and return it."""
        if len(self.known) >= self._most:
            self.known.clear()
        self.known[key] = value
        return value

    def forget(self) -> None:
        """Find out everything anew."""
        self.known.clear()
