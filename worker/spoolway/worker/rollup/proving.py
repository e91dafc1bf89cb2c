"""Walking through the hours and days: are the roll-ups what the rows say, and if not, make them so.

Each hour and each day is a transaction of its own, beside workers that go on writing. Hours before
the day of the oldest row are left alone: retention has taken their rows, and the roll-ups are all
that is known of them. So are requests where errors alone are kept, and errors where requests are.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random

from spoolway.worker.rollup.rebuilding import ALL_KEPT, Difference, Kept, Rollup
from spoolway.worker.stores import Retryable

T = TypeVar("T")

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_ATTEMPTS: Final = 8
"""A worker that merges at the same moment makes a rebuild begin its hour anew."""


@dataclass(slots=True)
class Proved:
    """What was looked at."""

    hours: int = 0
    days: int = 0
    changed: int = 0
    """Hours and days that were made anew."""
    differences: list[Difference] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Walk:
    """The whole hours that are looked at, and how many before them are not."""

    start: datetime
    end: datetime
    left_alone: int
    kept: Kept

    @property
    def hours(self) -> int:
        """How many there are."""
        return (self.end - self.start) // _HOUR


async def walk(
    rollup: Rollup, since: datetime | None, until: datetime | None, kept: Kept = ALL_KEPT
) -> Walk | None:
    """Return the hours to look at, between these; None without any. Raises StoreError."""
    span = await rollup.span()
    if span is None or (oldest := kept.complete(span.oldest).first) is None:
        return None
    first = max(span.start, since) if since else span.start
    start = max(first, oldest)
    end = min(span.end, until) if until else span.end
    left_alone = max((min(start, end) - first) // _HOUR, 0)
    return Walk(start, max(end, start), left_alone, kept)


async def proved(
    rollup: Rollup, walked: Walk, *, rebuild: bool, is_stopped: Callable[[], bool]
) -> AsyncIterator[Proved]:
    """Compare hour by hour and then day by day, or rebuild; yields what is known by then.

    Raises StoreError. What was rebuilt until then stays; the next run finds it right.
    """
    done = Proved()
    for number in range(walked.hours):
        hour = walked.start + number * _HOUR
        if rebuild:
            done.changed += await _again(lambda hour=hour: rollup.rebuild_hour(hour, walked.kept))  # type: ignore[misc]  # mypy infers no lambda with a default
        else:
            done.differences += await rollup.check_hour(hour, walked.kept)
        done.hours += 1
        yield done
        if is_stopped():
            return
    day = walked.start.replace(hour=0)
    while day < walked.end:
        if rebuild:
            done.changed += await _again(lambda day=day: rollup.rebuild_day(day))  # type: ignore[misc]  # as above
        else:
            done.differences += await rollup.check_day(day)
        done.days += 1
        yield done
        if is_stopped():
            return
        day += _DAY


async def _again(step: Callable[[], Awaitable[T]]) -> T:
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(Retryable),
        wait=wait_random(0, 0.5),
        stop=stop_after_attempt(_ATTEMPTS),
        sleep=asyncio.sleep,
        reraise=True,
    )

    async def once() -> T:
        return await step()

    return await attempts(once)
