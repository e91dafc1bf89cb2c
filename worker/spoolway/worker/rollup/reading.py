"""What the roll-ups say of a period: the levels and what is pending, as they were at one moment.

So a merge between two looks can neither lose nor double anything, and an answer has every event that
is in the tables.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Row, select

from spoolway.schema.usage import COUNTS, DIMENSIONS, MAPS, UNREADABLE, usage_pending
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import Unavailable
from spoolway.worker.reading.filters import Filters
from spoolway.worker.rollup.asking import Ask, Bucket, Span, maps_of, midnight, numbers_of
from spoolway.worker.rollup.groups import UNREADABLE_ERRORS, Hours, add_facts, begin_of
from spoolway.worker.rollup.totals import Totals
from spoolway.worker.threads import in_thread

__all__ = ["MOST_PENDING", "Ask", "Bucket", "Found", "read", "read_groups"]

Found = dict[tuple[Any, ...], Totals]
"""Totals by (beginning of the hour or day or None, *values of the dimensions). An empty value is
None, as in a filter: nobody could tell them apart."""

MOST_PENDING: Final = 2_000
"""Batches. A worker that merges leaves some dozens; of all there might be, one answer would take the
memory of the machine."""
_BEHIND: Final = "the roll-ups are far behind: see that a spoolway worker is running, and its log; then ask again"
_PENDING: Final = (
    select(usage_pending.c.kind, usage_pending.c.facts)
    .where(usage_pending.c.kind != UNREADABLE)
    .order_by(usage_pending.c.id)
    .limit(MOST_PENDING + 1)
)
_COUNTS: Final = frozenset(COUNTS)
_decode: Final = {
    name: msgspec.json.Decoder(
        dict[int, int] if name.endswith("_histogram") else dict[str, int]
    ).decode
    for name in MAPS
}


async def read(
    database: ReadDatabase, asks: Sequence[Ask], start: datetime, end: datetime, filters: Filters
) -> list[Found]:
    """Return the groups of each ask in the whole hours [start, end), all of one moment.

    Raises:
        Unavailable, TooSlow, BadQuery: as `ReadDatabase.fetch`; Unavailable also when nothing has
            been merged for long.
    """
    span = Span(start, end, filters)
    numbers = [ask for ask in asks if ask.numbers]
    maps = [ask for ask in asks if ask.maps]
    *answers, pending = await database.fetch_together(
        *(numbers_of(ask, span, database.dialect) for ask in numbers),
        *(maps_of(ask, span) for ask in maps),
        _PENDING,
    )
    if len(pending) > MOST_PENDING:
        raise Unavailable(_BEHIND)

    def add_up() -> list[Found]:
        asked = {name for ask in asks for name in ask.told}
        told = [name for name in DIMENSIONS if name in asked]
        groups = _pending(pending, span, told)
        found: list[Found] = []
        of_numbers, of_maps = iter(answers[: len(numbers)]), iter(answers[len(numbers) :])
        for ask in asks:
            one = _Adding(ask, told)
            if ask.numbers:
                one.add_numbers(next(of_numbers))
            if ask.maps:
                one.add_maps(next(of_maps))
            one.add_pending(groups)
            found.append(one.found)
        return found

    # In a thread: of many batches it is a second of work, and others are being answered.
    return await in_thread(add_up)


async def read_groups(
    database: ReadDatabase,
    dimensions: Sequence[str],
    start: datetime,
    end: datetime,
    filters: Filters,
    *,
    bucket: Bucket | None = None,
) -> Found:
    """Return the groups by some dimensions, with all measures. See `read`."""
    [found] = await read(database, [Ask(tuple(dimensions), bucket, maps=MAPS)], start, end, filters)
    return found


_Group = tuple[datetime, Sequence[str | None], Totals]


def _pending(rows: Iterable[Row[Any]], span: Span, told: Sequence[str]) -> list[_Group]:
    """Return the groups of what is pending by hour and these dimensions."""
    hours: Hours = {}
    for row in rows:
        # The next merge sets it aside, and says so.
        with suppress(*UNREADABLE_ERRORS):
            add_facts(hours, row.kind, row.facts)
    places = [DIMENSIONS.index(name) for name in told]
    found: dict[tuple[datetime, tuple[str | None, ...]], Totals] = {}
    for hour, groups in hours.items():
        begins = begin_of(hour)
        if not span.start <= begins < span.end:
            continue
        for values, totals in groups.items():
            if span.filters.matches(dict(zip(DIMENSIONS, values, strict=True))):
                key = begins, tuple([values[place] for place in places])
                if (there := found.get(key)) is None:
                    found[key] = totals
                else:
                    there.add(totals)
    return [(begins, values, totals) for (begins, values), totals in found.items()]


class _Adding:
    """The groups of one ask, to which more and more is added."""

    def __init__(self, ask: Ask, told: Sequence[str]) -> None:
        self.found: Found = {}
        self._ask = ask
        self._told = told
        """The dimensions of `add_pending`'s groups."""
        given = ((True, ask.among), (False, ask.beyond))
        self._bounds = [(is_in, values) for is_in, values in given if values is not None]
        self._after = 1 + len(ask.dimensions)

    def add_numbers(self, rows: Iterable[Row[Any]]) -> None:
        """Add the rows of `numbers_of`."""
        for row in rows:
            if row[self._after] is None:  # the sum of no rows
                continue
            numbers: dict[str, Any] = dict(zip(self._ask.only, row[self._after :], strict=True))
            for name in numbers.keys() & _COUNTS:
                numbers[name] = int(numbers[name])  # a decimal or a float: see `sums`
            totals = Totals(**numbers)
            key = self._key(row[0], row[1 : self._after])
            there = self.found.get(key)
            if there is None:
                self.found[key] = totals
            else:
                there.add(totals)

    def add_maps(self, rows: Iterable[Row[Any]]) -> None:
        """Add the rows of `maps_of`."""
        names = self._ask.maps
        for row in rows:
            totals = self._group(row[0], row[1 : self._after])
            for name, text in zip(names, row[self._after :], strict=True):
                if text:
                    counts: Any = _decode[name](text)
                    _add_counts(getattr(totals, name), counts)

    def add_pending(self, groups: Iterable[_Group]) -> None:
        """Add groups of what is pending: of their measures those that are asked for."""
        ask = self._ask
        names = (*(ask.only if ask.numbers else ()), *ask.maps)
        places = [self._told.index(name) for name in ask.dimensions]
        for begins, values, totals in groups:
            if all(
                ((values[self._told.index(column)] or None) in {one or None for one in some})
                is is_in
                for is_in, (column, some) in self._bounds
            ):
                asked = Totals(**{name: getattr(totals, name) for name in names})
                self._group(begins, [values[place] for place in places]).add(asked)

    def _group(self, moment: datetime | None, values: Sequence[str | None]) -> Totals:
        key = self._key(moment, values)
        totals = self.found.get(key)
        if totals is None:
            totals = self.found[key] = Totals()
        return totals

    def _key(self, moment: datetime | None, values: Sequence[str | None]) -> tuple[Any, ...]:
        if self._ask.bucket is None:
            moment = None
        elif moment is not None:
            moment = moment.astimezone(UTC)
            if self._ask.bucket == "day":
                moment = midnight(moment)
        return (moment, *[value or None for value in values])


def _add_counts(counts: dict[Any, int], others: Mapping[Any, int]) -> None:
    get = counts.get
    for name, count in others.items():
        counts[name] = get(name, 0) + count
