"""What is asked of the roll-ups, as SQL: each period from the smallest tables that can say it.

Of whole UTC days the rows of days are read, of the rest those of hours; always from the table with
the fewest dimensions that has those which are asked for.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    cast,
    func,
    not_,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.sql.selectable import CompoundSelect

from spoolway.schema.usage import COUNTS, EXTREMES, LEVELS, SUMS, TOKENS, Level
from spoolway.worker.reading.filters import Filters, is_any_of
from spoolway.worker.rollup import sums

Bucket = Literal["hour", "day"]
Statement = Select[Any] | CompoundSelect[Any]

NUMBERS: Final = (*COUNTS, *SUMS, *EXTREMES)
Values = tuple[str, tuple[str | None, ...]]
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The whole hours [start, end) that are asked for, and which rows of them."""

    start: datetime
    end: datetime
    filters: Filters


@dataclass(frozen=True, slots=True)
class Ask:
    """Groups that are asked for, and which of their measures; the others stay zero."""

    dimensions: tuple[str, ...] = ()
    bucket: Bucket | None = None
    numbers: bool = True
    """COUNTS, SUMS and EXTREMES: added up by the database."""
    maps: tuple[str, ...] = ()
    """Of MAPS. Every row's is read, and added up here: ask for them with few groups."""
    among: Values | None = None
    """If given: a dimension, and the values of it that are wanted."""
    beyond: Values | None = None
    """The same, with those that are not wanted."""
    only: tuple[str, ...] = NUMBERS
    """Which numbers. The fewer, the sooner."""

    @property
    def told(self) -> set[str]:
        """The dimensions that it needs to be told apart."""
        bounds = (self.among, self.beyond)
        return {*self.dimensions, *(values[0] for values in bounds if values is not None)}


def numbers_of(ask: Ask, span: Span, dialect: str) -> Statement:
    """Return the rows (period or NULL, *dimensions, *sums), of COUNTS, SUMS and EXTREMES.

    A group has a row for each of its periods and each table that is read.
    """
    parts = []
    for level, where in _read(ask, span):
        key = _key(ask, level)
        part = select(*key, *_sums(level, dialect, ask.only)).where(*where)
        parts.append(part.group_by(*key[0 if ask.bucket else 1 :]))
    return _union(parts)


def maps_of(ask: Ask, span: Span) -> Statement:
    """Return the rows (period or NULL, *dimensions, *maps), with each map as JSON text or NULL."""
    parts = []
    for level, where in _read(ask, span):
        columns = [level.table.c[name] for name in ask.maps]
        part = select(*_key(ask, level), *(cast(column, Text()) for column in columns))
        parts.append(part.where(*where, or_(*(column.is_not(None) for column in columns))))
    return _union(parts)


def tiles(
    start: datetime, end: datetime, bucket: Bucket | None
) -> dict[str, list[tuple[datetime, datetime]]]:
    """Cut whole hours [start, end) into those of whole days and the rest: {"day": …, "hour": …}."""
    first, last = midnight(start), midnight(end)
    if first < start:
        first += _DAY
    if bucket == "hour" or first >= last:
        return {"hour": [(start, end)]}
    rest = [part for part in ((start, first), (last, end)) if part[0] < part[1]]
    return {"day": [(first, last)], **({"hour": rest} if rest else {})}


def midnight(moment: datetime) -> datetime:
    """Return when the day of a moment in UTC begins."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _key(ask: Ask, level: Level) -> list[ColumnElement[Any]]:
    columns = level.table.c
    at: ColumnElement[Any] = columns[level.period] if ask.bucket else null()
    return [at, *(columns[name] for name in ask.dimensions)]


def _read(ask: Ask, span: Span) -> list[tuple[Level, list[ColumnElement[bool]]]]:
    """Return the tables to read, and the rows of each."""
    needed = ask.told.union(span.filters.given)
    found = []
    for period, parts in tiles(span.start, span.end, ask.bucket).items():
        level = _smallest(period, needed)
        at = level.table.c[period]
        where = [
            or_(*(and_(at >= start, at < end) for start, end in parts)),
            *span.filters.conditions(level.table),
        ]
        if ask.among is not None:
            where.append(_is_among(level, ask.among))
        if ask.beyond is not None:
            where.append(func.coalesce(not_(_is_among(level, ask.beyond)), true()))
        found.append((level, where))
    return found


def _is_among(level: Level, values: Values) -> ColumnElement[bool]:
    column, wanted = values
    return is_any_of(level.table.c[column], [value or "" for value in wanted])


@cache
def _sums(level: Level, dialect: str, only: tuple[str, ...]) -> list[ColumnElement[Any]]:
    """Return what adds up the numbers; kept, as making it takes as long as asking for it."""
    columns = level.table.c
    shortest, longest = EXTREMES
    found: dict[str, ColumnElement[Any]] = {
        # Of events there are never so many that they could not be added up.
        **{name: func.sum(columns[name]) for name in COUNTS},
        **{name: sums.whole(columns[name], dialect) for name in TOKENS},
        **{name: sums.fraction(columns[name], dialect) for name in SUMS},
        shortest: func.min(columns[shortest]),
        longest: func.max(columns[longest]),
    }
    return [found[name] for name in only]


def _smallest(period: str, needed: set[str]) -> Level:
    levels = [one for one in LEVELS if one.period == period and needed.issubset(one.dimensions)]
    return min(levels, key=lambda level: len(level.dimensions))


def _union(parts: list[Select[Any]]) -> Statement:
    return parts[0] if len(parts) == 1 else union_all(*parts)
