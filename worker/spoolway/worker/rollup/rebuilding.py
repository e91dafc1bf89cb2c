"""What proves the roll-ups equal to the rows, and what makes them so: the same for both databases."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from spoolway.schema import time_of
from spoolway.schema.usage import DIMENSIONS, ERROR_FACT, REQUEST_FACT, Level
from spoolway.worker.rollup.groups import Dimensions, Groups
from spoolway.worker.rollup.totals import MEASURES, Totals


@dataclass(slots=True, frozen=True)
class Difference:
    """A group of which a table says something else than the rows do."""

    table: str
    period: datetime
    dimensions: dict[str, str | None]
    measures: dict[str, tuple[Any, Any]]
    """By name: what the table (with what is pending) says, what the rows say."""


OLDEST: Final = """
SELECT (SELECT id FROM request_logs ORDER BY id LIMIT 1),
       (SELECT id FROM error_logs ORDER BY id LIMIT 1)
"""
"""SQL of what `Kept.complete` takes, for both databases."""
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
_APART: Final = timedelta(days=1)
"""By how much a request may be older or newer than its id, and still be looked at: of one whose clock
was wrong by years, all hours until then would be."""
_OF_ERRORS: Final = frozenset({"errors", "error_types"})
"""The measures that errors have; requests have all others."""


@dataclass(slots=True, frozen=True)
class Complete:
    """From when on every request and every error that was counted has its row; None: none has.

    Each may be kept for a time of its own. Of what was before, the roll-ups are all that is known.
    """

    requests: datetime | None
    errors: datetime | None

    @property
    def first(self) -> datetime | None:
        """From when on there is anything to be compared; None without any row."""
        known = [moment for moment in (self.requests, self.errors) if moment is not None]
        return min(known, default=None)

    def with_what_is_gone(self, hour: datetime, right: Groups, there: Groups) -> Groups:
        """Return an hour's groups of its rows, with what is known of rows that may be gone."""
        requests = self.requests is None or hour < self.requests
        errors = self.errors is None or hour < self.errors
        names = [name for name in MEASURES if (errors if name in _OF_ERRORS else requests)]
        if not names:
            return right
        found = {values: right.get(values) or Totals() for values in right.keys() | there.keys()}
        for values, totals in found.items():
            known = there.get(values) or Totals()
            for name in names:
                setattr(totals, name, getattr(known, name))
        return {values: totals for values, totals in found.items() if totals != Totals()}


@dataclass(slots=True, frozen=True)
class Kept:
    """From when on retention leaves rows alone; None: always.

    A day before may lack rows where others are: they came late, or have not been removed yet.
    """

    requests: datetime | None = None
    errors: datetime | None = None

    def complete(self, oldest: Sequence[UUID | None]) -> Complete:
        """Return what there is every row of, by the ids of the oldest request and error."""
        requests, errors = oldest
        return Complete(_complete(requests, self.requests), _complete(errors, self.errors))


def _complete(oldest: UUID | None, kept: datetime | None) -> datetime | None:
    if oldest is None:
        return None
    day = time_of(oldest).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if kept is None else max(day, kept)


ALL_KEPT: Final = Kept()


@dataclass(slots=True, frozen=True)
class Span:
    """Whole UTC hours, from the first on that has rows or roll-ups; the end is exclusive."""

    start: datetime
    end: datetime
    oldest: tuple[UUID | None, UUID | None]
    """The ids of the oldest request and the oldest error."""

    @classmethod
    def of(cls, ids: Sequence[UUID | None], hours: Iterable[datetime | None]) -> "Span | None":
        """Return the hours from the first of ENDS's ids and hours to the last; some may be missing."""
        times = [time_of(one) for one in ids if one is not None]
        # The year 1 comes from asyncpg without a time zone.
        moments = [moment.replace(tzinfo=UTC) for moment in hours if moment is not None]
        moments += [end for one in times for end in (one - _APART, one)]
        if not moments:
            return None
        last = min(max(moments), max(times) + _APART) if times else max(moments)
        first, last = (
            moment.replace(minute=0, second=0, microsecond=0) for moment in (min(moments), last)
        )
        return cls(first, last + timedelta(hours=1), (ids[0], ids[1]))


class Rollup(Protocol):
    """One database's roll-ups. Each method raises only StoreErrors, and is one transaction."""

    async def merge(self, *, few: bool = False) -> int:
        """Add some of what is pending, or a few, to the levels; return how many batches.

        0: there is nothing, or somebody else is at it.
        """
        ...

    async def span(self) -> Span | None:
        """Return the hours there is anything of; None where there is nothing."""
        ...

    async def check_hour(self, hour: datetime, kept: Kept = ALL_KEPT) -> list[Difference]:
        """Compare an hour's groups with its rows."""
        ...

    async def rebuild_hour(self, hour: datetime, kept: Kept = ALL_KEPT) -> bool:
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
