"""What proves the roll-ups equal to the rows, and what makes them so: the same for both databases."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from spoolway.schema import time_of
from spoolway.schema.usage import DIMENSIONS, ERROR_FACT, REQUEST_FACT, Level
from spoolway.worker.rollup.groups import Dimensions, Groups
from spoolway.worker.rollup.totals import Totals


@dataclass(slots=True, frozen=True)
class Difference:
    """A group of which a table says something else than the rows do."""

    table: str
    period: datetime
    dimensions: dict[str, str | None]
    measures: dict[str, tuple[Any, Any]]
    """By name: what the table (with what is pending) says, what the rows say."""


ENDS: Final = """
SELECT (SELECT id FROM request_logs ORDER BY id LIMIT 1),
       (SELECT id FROM error_logs ORDER BY id LIMIT 1),
       (SELECT id FROM request_logs ORDER BY id DESC LIMIT 1),
       (SELECT id FROM error_logs ORDER BY id DESC LIMIT 1),
       (SELECT min(hour) FROM usage_hours), (SELECT max(hour) FROM usage_hours)
"""
"""SQL of what `Span.of` takes, for both databases. No index has the rows' times in their order."""
EVENTS: Final = (
    ("requests", "request_logs", REQUEST_FACT),
    ("errors", "error_logs", ERROR_FACT),
)
"""What `ReadRows` reads: its field, the table and the columns."""
_EARLIER: Final = timedelta(days=1)
"""By how much a request may be older than its id, and still be looked at."""


@dataclass(slots=True, frozen=True)
class Span:
    """Whole UTC hours, from the first on that has rows or roll-ups; the end is exclusive."""

    start: datetime
    end: datetime
    oldest_row: datetime | None
    """The day of the oldest id: rows of before are gone, or there never were any."""

    @classmethod
    def of(cls, ids: Iterable[UUID | None], hours: Iterable[datetime | None]) -> "Span | None":
        """Return the hours from the first of these ids and hours to the last; some may be missing."""
        times = [time_of(one) for one in ids if one is not None]
        moments = [moment for moment in hours if moment is not None]
        moments += [end for one in times for end in (one - _EARLIER, one)]
        if not moments:
            return None
        first, last = (
            moment.replace(minute=0, second=0, microsecond=0)
            for moment in (min(moments), max(moments))
        )
        oldest = min(times).replace(hour=0, minute=0, second=0, microsecond=0) if times else None
        return cls(first, last + timedelta(hours=1), oldest)


class Rollup(Protocol):
    """One database's roll-ups. Each method raises only StoreErrors, and is one transaction."""

    async def merge(self) -> int:
        """Add some of what is pending to the levels; return how many batches. 0: nothing, or busy."""
        ...

    async def span(self) -> Span | None:
        """Return the hours there is anything of; None where there is nothing."""
        ...

    async def check_hour(self, hour: datetime) -> list[Difference]:
        """Compare an hour's groups with its rows."""
        ...

    async def rebuild_hour(self, hour: datetime) -> bool:
        """Make an hour's groups anew of its rows; return whether anything changed."""
        ...

    async def check_day(self, day: datetime) -> list[Difference]:
        """Compare what is coarser than a day's hours with them."""
        ...

    async def rebuild_day(self, day: datetime) -> bool:
        """Make what is coarser than a day's hours anew of them; return whether anything changed."""
        ...


class RowGroups:
    """The groups of rows, added up as they are read: the plain way."""

    def __init__(self) -> None:
        self.groups: Groups = {}

    def add_requests(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of request_logs with REQUEST_FACT's columns."""
        for _, *row in rows:
            self._of(row[: len(DIMENSIONS)]).add_request(row[len(DIMENSIONS) :])

    def add_errors(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of error_logs with ERROR_FACT's columns."""
        for _, model, error_type in rows:
            self._of([model, *[None] * (len(DIMENSIONS) - 1)]).add_error(error_type)

    def _of(self, values: Sequence[str | None]) -> Totals:
        return self.groups.setdefault(tuple(values), Totals())


def differences(level: Level, period: datetime, there: Groups, right: Groups) -> list[Difference]:
    """Return where groups differ; one that is missing is one of zeros."""
    found = [
        Difference(
            level.table.name,
            period,
            dict(zip(level.dimensions, values, strict=True)),
            {name: (getattr(one, name), getattr(other, name)) for name in names},
        )
        for values, one, other in _both(there, right)
        if (names := one.differs(other))
    ]
    return sorted(found, key=lambda one: repr(tuple(one.dimensions.values())))


def is_different(there: Groups, right: Groups) -> bool:
    """Tell whether any group differs."""
    return any(one.differs(other) for _, one, other in _both(there, right))


def _both(there: Groups, right: Groups) -> Iterator[tuple[Dimensions, Totals, Totals]]:
    for values in there.keys() | right.keys():
        yield values, there.get(values) or Totals(), right.get(values) or Totals()
