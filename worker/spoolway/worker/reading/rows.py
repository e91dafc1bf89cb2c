"""Rows as they are handed out: ids and times as text, JSON as JSON, and no number that JSON lacks."""

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson
from sqlalchemy import JSON, Column, ColumnElement, Double, Row, Table, Text, cast

from spoolway.schema.tables import UtcTime, UuidText

Reading = Callable[[Any], Any]

_check_syntax: Final = msgspec.json.Decoder(msgspec.Raw).decode


def scalars(table: Table) -> list[Column[Any]]:
    """Return the columns that hold no JSON: what a listing has."""
    return [column for column in table.c if not isinstance(column.type, JSON)]


def selected(columns: Sequence[Column[Any]]) -> list[ColumnElement[Any]]:
    """Return the columns as they are selected: JSON as its text, which nobody need parse."""
    return [
        cast(column, Text()).label(column.name) if isinstance(column.type, JSON) else column
        for column in columns
    ]


class RowReader:
    """Makes dicts of rows of these columns.

    JSON is Python's own, or with `fragments` an `orjson.Fragment`: the text as it is stored, for
    orjson to put where it belongs, every digit of a number included.
    """

    def __init__(self, columns: Sequence[Column[Any]], *, fragments: bool = False) -> None:
        self._readers = [
            (str(column.name), _reader(column, fragments=fragments)) for column in columns
        ]

    def read(self, row: Row[Any]) -> dict[str, Any]:
        """Return one row, without what it has after these columns."""
        return {
            name: value if value is None or read is None else read(value)
            for (name, read), value in zip(self._readers, row, strict=False)
        }


def _reader(column: Column[Any], *, fragments: bool) -> Reading | None:
    match column.type:
        case JSON():
            return _fragment if fragments else parsed
        case UuidText():
            return str
        case UtcTime():
            return time_text
        case Double():
            return _finite
        case _:
            return None


def time_text(moment: datetime) -> str:
    """Return an aware time as RFC 3339 has it, in UTC: 2026-01-31T23:59:59.123456Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def parsed(text: str) -> Any:
    """Return JSON as Python has it. A number that no float holds is its text."""
    try:
        return json.loads(text, parse_float=_number, parse_constant=str)
    except (ValueError, RecursionError):
        return text  # no JSON: nobody but another program can have put it there


def _fragment(text: str) -> orjson.Fragment | str:
    try:
        _check_syntax(text)
    except (ValueError, RecursionError):
        return text
    return orjson.Fragment(text)


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
