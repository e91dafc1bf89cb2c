"""How often somebody may ask, and how many questions the database is asked at once."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from spoolway.worker.serve.answers import ApiError

MOST_QUERIES: Final = 4
"""Questions that the database is asked at once, of everybody together: the pool is small, and rows
that arrive need the server, too."""
MOST_EXPORTS: Final = 2
"""Each asks the database as fast as its client reads, for an hour perhaps."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class Rate:
    """So many requests a minute for each caller; what was not used can be used at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        """By the caller's name: those of the settings, and so never many."""

    def take(self, name: str) -> None:
        """Count a request. Raises ApiError for one too many."""
        if not self._per_minute:
            return
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(float(self._per_minute), now))
        refilled = bucket.left + (now - bucket.at) * self._per_minute / 60
        bucket.left, bucket.at = min(float(self._per_minute), refilled), now
        if bucket.left < 1:
            seconds = max(1, math.ceil((1 - bucket.left) * 60 / self._per_minute))
            raise ApiError(
                429,
                "too-many-requests",
                f"more than {self._per_minute} requests a minute: ask again in {seconds} s "
                "(SPOOLWAY_API_RATE)",
                {"retry-after": str(seconds)},
            )
        bucket.left -= 1


class Slots:
    """Places for questions to the database, and others for exports."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds that a question waits for its turn."""
        self._queries = asyncio.Semaphore(MOST_QUERIES)
        self._patience = patience
        self._exports = 0

    @asynccontextmanager
    async def query(self) -> AsyncIterator[None]:
        """Take one's turn. Raises ApiError if it does not come."""
        try:
            async with asyncio.timeout(self._patience):
                await self._queries.acquire()
        except TimeoutError:
            raise _busy(f"{MOST_QUERIES} others are being answered") from None
        try:
            yield
        finally:
            self._queries.release()

    @contextmanager
    def export(self) -> Iterator[None]:
        """Be one of the few exports. Raises ApiError at once if there are enough."""
        if self._exports >= MOST_EXPORTS:
            raise _busy(f"{MOST_EXPORTS} exports are running")
        self._exports += 1
        try:
            yield
        finally:
            self._exports -= 1


def _busy(why: str) -> ApiError:
    return ApiError(503, "busy", f"{why}: ask again in a moment", {"retry-after": "1"})
