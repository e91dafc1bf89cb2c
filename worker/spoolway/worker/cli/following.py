"""Following rows as they are committed: asking again and again, and handing out each row once.

A row's `created_at` is when its transaction began, and others may have ended before it: each
question looks some seconds back, and what was handed out is left out by its id.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from spoolway.worker.cli.asking import why
from spoolway.worker.reading.failures import TooSlow, Unavailable

Row = dict[str, Any]
Recent = Callable[[datetime, int], Awaitable[list[Row]]]
"""Returns the newest rows that came in from a time on, at most so many, the oldest first."""

OVERLAP: Final = timedelta(seconds=10)
"""A batch is committed within a second or so. Of a transaction that took longer, and that ended after
later ones were seen, the rows are not followed; they are in the listing."""
AT_ONCE: Final = 1_000
SOONEST: Final = 0.5
LATEST: Final = 2.0
"""Seconds between questions: soon while rows come, later while none do."""
_GROW: Final = 1.5


class Follower:
    """Yields the rows of one question, in the order in which they were committed."""

    def __init__(
        self,
        recent: Recent,
        *,
        since: datetime,
        first: int,
        say: Callable[[str], None],
        wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`first`: of what is there already, at most so many rows."""
        self._recent = recent
        self._since = since
        self._first = first
        self._say = say
        self._wait = wait
        self._seen: dict[str, str] = {}
        """Ids that were handed out, and when they were committed, as far back as is looked."""
        self._is_away = False

    async def rows(self) -> AsyncGenerator[list[Row], None]:
        """Yield what is new, and an empty list where nothing is, until it is closed."""
        pause, is_first = SOONEST, True
        while True:
            found = await self._ask()
            if found is not None:
                new = self._new(found)
                if is_first:
                    new, is_first = new[len(new) - min(self._first, len(new)) :], False
                elif len(new) == AT_ONCE:
                    self._say(f"more than {AT_ONCE:,} rows came at once: some are left out")
                pause = SOONEST if new else min(pause * _GROW, LATEST)
                yield new
            else:
                pause = LATEST
                yield []
            await self._wait(pause)

    async def _ask(self) -> list[Row] | None:
        """Return the rows; None while there is no answer, which is said once."""
        try:
            found = await self._recent(self._since, AT_ONCE)
        except (Unavailable, TooSlow) as error:
            if not self._is_away:
                self._say(f"{why(error)}; it is tried again")
            self._is_away = True
            return None
        if self._is_away:
            self._say("the database answers again")
        self._is_away = False
        return found

    def _new(self, found: list[Row]) -> list[Row]:
        new = [row for row in found if row["id"] not in self._seen]
        self._seen.update((row["id"], row["created_at"]) for row in new)
        if found:
            newest = max(row["created_at"] for row in found)
            self._since = max(self._since, datetime.fromisoformat(newest) - OVERLAP)
            # Texts of one form, all in UTC: they sort as the times do.
            oldest = _text(self._since)
            self._seen = {one: at for one, at in self._seen.items() if at >= oldest}
        return new


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
