"""Facts into groups: the totals of each hour by dimensions, and of what is coarser."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

from spoolway.schema.usage import DIMENSIONS, HOURS, LEVELS, Level
from spoolway.worker.rollup.facts import ERROR, REQUEST
from spoolway.worker.rollup.totals import Totals

Dimensions = tuple[str | None, ...]
Groups = dict[Dimensions, Totals]
"""Totals by the values of some dimensions."""
Hours = dict[str, Groups]
"""Groups by DIMENSIONS, by the hour in UTC: 2026-01-31T23."""

_NO_DIMENSION: Final = (None,) * (len(DIMENSIONS) - 1)
_MEASURES_AT: Final = 1 + len(DIMENSIONS)
_Text = str | None
_Whole = int | None
_Real = float | None
_decode_requests: Final = msgspec.json.Decoder(
    list[tuple[str, *[_Text] * 7, *[_Whole] * 5, *[_Real] * 7, _Text]]  # type: ignore[misc]  # mypy reads no stars in a subscript; REQUEST_FACT's
).decode
_decode_errors: Final = msgspec.json.Decoder(list[tuple[str, _Text, _Text]]).decode
_encode: Final = msgspec.json.Encoder().encode


UNREADABLE_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError)
"""What adding facts raises of such as no version of Spoolway has written."""


def add_facts(hours: Hours, kind: str, facts: str) -> None:
    """Add a row of `usage_pending`."""
    if kind == ERROR:
        for moment, model, error_type in _decode_errors(facts):
            _group(hours, moment, (model, *_NO_DIMENSION)).add_error(error_type)
        return
    count = int(kind == REQUEST)
    decoded: list[tuple[Any, ...]] = _decode_requests(facts)
    last, groups = "", Groups()
    for fact in decoded:
        if (hour := _hour(fact[0])) != last:
            last, groups = hour, hours.setdefault(hour, {})
        values = fact[1:_MEASURES_AT]
        totals = groups.get(values)
        if totals is None:
            totals = groups[values] = Totals()
        totals.add_request(fact[_MEASURES_AT:], count)


def add_groups(to: Groups, groups: Mapping[Dimensions, Totals], dimensions: Sequence[str]) -> None:
    """Add groups by DIMENSIONS to groups by some of these."""
    places = [DIMENSIONS.index(name) for name in dimensions]
    for values, totals in groups.items():
        narrowed = tuple([values[place] for place in places])
        there = to.get(narrowed)
        if there is None:
            to[narrowed] = totals.copy()
        else:
            there.add(totals)


def of_level(hours: Hours, level: Level) -> dict[datetime, Groups]:
    """Return the groups of a level, by the time at which their period begins; HOURS are these."""
    periods: dict[datetime, Groups] = {}
    for hour, groups in hours.items():
        begins = begin_of(hour)
        if level.period == "day":
            begins = begins.replace(hour=0)
        if level is HOURS:
            periods[begins] = groups
        else:
            add_groups(periods.setdefault(begins, {}), groups, level.dimensions)
    return periods


Rows = dict[str, dict[tuple[datetime, UUID], tuple[Dimensions, Totals]]]
"""Groups by the name of their level's table, and their key in it."""


def by_key(hours: Hours) -> Rows:
    """Return the rows that are to be added to each level's table."""
    key = cache(key_of)
    return {
        level.table.name: {
            (begins, key(values)): (values, totals)
            for begins, groups in of_level(hours, level).items()
            for values, totals in groups.items()
        }
        for level in LEVELS
    }


def key_of(values: Dimensions) -> UUID:
    """Return the key of a level's row: a digest of its dimensions' values."""
    return UUID(bytes=blake2b(_encode(values), digest_size=16).digest())


def begin_of(hour: str) -> datetime:
    """Return the time at which an hour begins."""
    return datetime.fromisoformat(f"{hour}:00:00+00:00")


def _group(hours: Hours, moment: str, values: Dimensions) -> Totals:
    groups = hours.setdefault(_hour(moment), {})
    found = groups.get(values)
    if found is None:
        found = groups[values] = Totals()
    return found


def _hour(moment: str) -> str:
    if moment.endswith("Z"):
        return moment[:13]
    return msgspec.convert(moment, datetime).astimezone(UTC).isoformat()[:13]
