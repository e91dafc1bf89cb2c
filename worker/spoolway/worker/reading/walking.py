"""From the newest rows back to older ones, in windows of ids that fit into the time there is.

A filter that few rows pass would have the database read all of a period for one page. So a
statement asks for a window of it, as long as the one before suggests: what is found by the end of
the time is handed out, with the place where to go on.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, Select

from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import TooSlow

Window = Callable[[UUID, UUID, int, bool], Select[Any]]
"""Makes the statement of the rows with ids in [first, last), newest first, and at most so many; and
says whether most rows are expected to be asked for, or only few."""

LEAST_MS: Final = 1_000
"""The shortest window: who has more in a second than can be read in time is told."""
MOST_MS: Final = 32 * 24 * 3_600_000
"""The longest: PostgreSQL locks every partition that a statement may read, and has a limit."""
_AIM: Final = 0.4
"""Seconds that a window should take."""
_SHARE: Final = 0.25
"""Of the time limit that one window gets, so that a shorter one can be tried after it."""
_GROW: Final = 16
_TIME_BITS: Final = 80
"""Of an id, below its milliseconds."""
_LAST: Final = 2**128 - 1


@dataclass(frozen=True, slots=True)
class Found:
    """What one window had, and below which id nothing has been read yet."""

    rows: Sequence[Row[Any]]
    down_to: UUID
    is_last: bool


async def walk(
    database: ReadDatabase,
    window: Window,
    ids: tuple[UUID, UUID],
    *,
    most: Callable[[], int],
    first_ms: int,
    now_ms: int,
    seconds: float | None = None,
) -> AsyncGenerator[Found, None]:
    """Yield what is in each window of `ids` [first, last), from the newest to the oldest.

    `most` says how many rows are still wanted. When a window has more, the next one begins below
    the last of its rows. `seconds` is the time for all of it; without, each window has the
    database's own.

    Raises:
        TooSlow: in the time for all of it not even the shortest window could be read.
    """
    low, high, clock = ids[0].int, ids[1].int, database.clock
    # Nothing or little is in the future: the first window reaches back into the past.
    width = max(first_ms, (high >> _TIME_BITS) - now_ms + first_ms)
    limit = database.seconds if seconds is None else seconds
    end = None if seconds is None else clock() + seconds
    is_dense = True
    while high > low:
        left = limit if end is None else end - clock()
        if left <= 0:
            return
        bottom = max(low, high - (width << _TIME_BITS))
        wanted = most()
        began = clock()
        try:
            rows = await database.fetch(
                window(_uuid(bottom), _uuid(high), wanted, is_dense),
                seconds=min(left, limit * _SHARE),
            )
        except TooSlow:
            if width <= LEAST_MS:
                raise
            width = max(LEAST_MS, min(width, MOST_MS) // _GROW)
            is_dense = not is_dense
            continue
        took = clock() - began
        is_dense = len(rows) * _GROW >= wanted
        # A window that was left early because there were enough rows says nothing of its length.
        high = rows[-1].id.int if len(rows) >= wanted else bottom
        yield Found(rows, _uuid(high), is_last=high <= low)
        aim = _AIM if end is None else min(_AIM, (end - clock()) / 2)
        width = _next(width, took, aim)


def _next(width: int, took: float, aim: float) -> int:
    factor = min(max(aim / max(took, 1e-6), 1 / _GROW), _GROW)
    return min(max(int(width * factor), LEAST_MS), MOST_MS)


def _uuid(value: int) -> UUID:
    return UUID(int=min(max(value, 0), _LAST))
