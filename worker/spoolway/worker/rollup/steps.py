"""What is done to the roll-ups in one transaction, as generators that do no I/O themselves.

Each yields what it wants of its database, and is sent the answer: so both databases do the same, one
of them in an event loop and the other in a thread. A store's driver runs a generator between BEGIN
and COMMIT.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from spoolway.schema.usage import HOURS, LEVELS, UNREADABLE, Level
from spoolway.worker.rollup.groups import (
    UNREADABLE_ERRORS,
    Groups,
    Hours,
    Rows,
    add_facts,
    add_groups,
    by_key,
    key_of,
)
from spoolway.worker.rollup.rebuilding import (
    Difference,
    Kept,
    RowGroups,
    differences,
    is_different,
)
from spoolway.worker.rollup.totals import Totals

log = logging.getLogger("spoolway.rollup")

R = TypeVar("R")

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


@dataclass(slots=True, frozen=True)
class Lock:
    """Be the only one at this until the transaction ends. Answer: whether that is so."""

    wait: bool = False


@dataclass(slots=True, frozen=True)
class TakePending:
    """Delete so many rows of `usage_pending` (None: all there are), but what is UNREADABLE.

    Answer: [(kind, facts)].
    """

    most: int | None = None


@dataclass(slots=True, frozen=True)
class SetAside:
    """Keep these facts in `usage_pending` as UNREADABLE."""

    facts: Sequence[str]


@dataclass(slots=True, frozen=True)
class SeePending:
    """Answer: all of `usage_pending` but what is UNREADABLE, [(kind, facts)]."""


@dataclass(slots=True, frozen=True)
class TakeKeys:
    """Delete the rows of a level with these keys. Answer: [(period, key, *MEASURES)]."""

    level: Level
    keys: Sequence[tuple[datetime, UUID]]


@dataclass(slots=True, frozen=True)
class Insert:
    """Insert rows into a level: (period, key, *dimensions, *MEASURES)."""

    level: Level
    rows: Sequence[Sequence[Any]]


@dataclass(slots=True, frozen=True)
class Delete:
    """Delete a level's rows of [start, end)."""

    level: Level
    start: datetime
    end: datetime


@dataclass(slots=True, frozen=True)
class Read:
    """Answer: a level's rows of [start, end): [(period, *dimensions, *MEASURES)]."""

    level: Level
    start: datetime
    end: datetime


@dataclass(slots=True, frozen=True)
class SeeOldest:
    """Answer: the ids of the oldest request and the oldest error, None without any.

    To be asked before `ReadRows`: on PostgreSQL no partition can be dropped after it.
    """


@dataclass(slots=True, frozen=True)
class ReadRows:
    """Pass the events' rows of [start, end) on in pieces, as REQUEST_FACT and ERROR_FACT have them."""

    start: datetime
    end: datetime
    requests: Callable[[Iterable[Sequence[Any]]], None]
    errors: Callable[[Iterable[Sequence[Any]]], None]


Step = (
    Lock
    | TakePending
    | SetAside
    | SeePending
    | TakeKeys
    | Insert
    | Delete
    | Read
    | SeeOldest
    | ReadRows
)
Steps = Generator[Step, Any, R]


def merge(most: int | None) -> Steps[int]:
    """Add what is pending to the levels; return how many rows of it were."""
    if not (yield Lock()):
        return 0
    return (yield from _merge(most))


def _merge(most: int | None) -> Steps[int]:
    pending: list[tuple[str, str]] = yield TakePending(most)
    if not pending:
        return 0
    unreadable: list[_Pending] = []
    try:
        rows = _rows_of(pending)
    except UNREADABLE_ERRORS:
        unreadable = [one for one in pending if not _is_readable(one)]
        rows = _rows_of([one for one in pending if one not in unreadable])
    if unreadable:
        log.error(
            "%d rows of usage_pending cannot be read: they stay there as kind %s, and are not counted",
            len(unreadable),
            UNREADABLE,
        )
        yield SetAside([facts for _, facts in unreadable])
    for level in LEVELS:
        new = rows[level.table.name]
        # In the keys' order, as everything here is: the table's rows lie by it.
        keys = sorted(new, key=_order)
        for period, key, *measures in (yield TakeKeys(level, keys)):
            new[_aware(period), key][1].add(Totals.of_row(measures))
        yield Insert(level, [(*at, *new[at][0], *new[at][1].row()) for at in keys])
    return len(pending)


_Pending = tuple[str, str]


def _rows_of(pending: Iterable[_Pending]) -> Rows:
    hours: Hours = {}
    for kind, facts in pending:
        add_facts(hours, kind, facts)
    return by_key(hours)


def _is_readable(pending: _Pending) -> bool:
    try:
        _rows_of([pending])
    except UNREADABLE_ERRORS:
        return False
    return True


def check_hour(hour: datetime, kept: Kept) -> Steps[list[Difference]]:
    """Compare the groups of an hour, with what is pending of it, with the rows."""
    complete = kept.complete((yield SeeOldest()))
    right = RowGroups()
    yield ReadRows(hour, hour + _HOUR, right.add_requests, right.add_errors)
    there = yield from _groups(HOURS, hour, hour + _HOUR)
    pending: Hours = {}
    for kind, facts in filter(_is_readable, (yield SeePending())):
        add_facts(pending, kind, facts)
    groups = there.get(hour, {})
    add_groups(groups, pending.get(f"{hour:%Y-%m-%dT%H}", {}), HOURS.dimensions)
    right.groups = complete.with_what_is_gone(hour, right.groups, groups)
    return differences(HOURS, hour, groups, right.groups)


def rebuild_hour(hour: datetime, kept: Kept) -> Steps[bool]:
    """Make the groups of an hour anew of its rows; return whether that changed them."""
    yield Lock(wait=True)
    yield from _merge(None)  # it must not be added to them once more
    complete = kept.complete((yield SeeOldest()))
    rows = RowGroups()
    yield ReadRows(hour, hour + _HOUR, rows.add_requests, rows.add_errors)
    there = (yield from _groups(HOURS, hour, hour + _HOUR)).get(hour, {})
    right = complete.with_what_is_gone(hour, rows.groups, there)
    if not is_different(there, right):
        return False
    yield Delete(HOURS, hour, hour + _HOUR)
    yield Insert(HOURS, _rows(hour, right))
    return True


def check_day(day: datetime) -> Steps[list[Difference]]:
    """Compare what is coarser than the hours of a day with them."""
    found = []
    for level, periods, there in (yield from _summed_up(day)):
        for period in sorted(periods.keys() | there.keys()):
            found += differences(level, period, there.get(period, {}), periods.get(period, {}))
    return found


def rebuild_day(day: datetime) -> Steps[bool]:
    """Make what is coarser than the hours of a day anew of them; return whether that changed it."""
    yield Lock(wait=True)
    changed = False
    for level, periods, there in (yield from _summed_up(day)):
        if not any(
            is_different(there.get(period, {}), periods.get(period, {}))
            for period in periods.keys() | there.keys()
        ):
            continue
        changed = True
        yield Delete(level, day, day + _DAY)
        for period, groups in sorted(periods.items()):
            yield Insert(level, _rows(period, groups))
    return changed


_Periods = dict[datetime, Groups]


def _summed_up(day: datetime) -> Steps[list[tuple[Level, _Periods, _Periods]]]:
    """Return, of each coarser level, the day's groups as they should be and as they are."""
    hours = yield from _groups(HOURS, day, day + _DAY)
    both = []
    for level in LEVELS[1:]:
        right: _Periods = {}
        for hour, groups in hours.items():
            period = hour if level.period == "hour" else day
            add_groups(right.setdefault(period, {}), groups, level.dimensions)
        there = yield from _groups(level, day, day + _DAY)
        both.append((level, right, there))
    return both


def _groups(level: Level, start: datetime, end: datetime) -> Steps[_Periods]:
    periods: _Periods = {}
    after = 1 + len(level.dimensions)
    for row in (yield Read(level, start, end)):
        values = tuple(row[1:after])
        periods.setdefault(_aware(row[0]), {})[values] = Totals.of_row(tuple(row[after:]))
    return periods


def _rows(period: datetime, groups: Groups) -> list[tuple[Any, ...]]:
    return sorted(
        ((period, key_of(values), *values, *totals.row()) for values, totals in groups.items()),
        key=_order,
    )


def _aware(moment: datetime) -> datetime:
    """Return a time with its zone.

    asyncpg's has none at the beginning of the year 1: the zero time of producers written in Go.
    """
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _order(row: Sequence[Any]) -> tuple[datetime, int]:
    return row[0], row[1].int  # comparing UUIDs themselves takes ten times as long
