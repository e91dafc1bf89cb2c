"""Events as rows: the columns a store fills, in the order of the event structs."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, Final

import msgspec

from spoolway.schema import ErrorEvent, RequestEvent, time_of
from spoolway.schema.columns import COLUMNS
from spoolway.schema.events import ABSENT, JSON_NULL
from spoolway.schema.usage import FOOTPRINT
from spoolway.worker.stores.base import Item
from spoolway.worker.stores.expired import GONE_WITH_IT, is_expired

Row = tuple[Any, ...]

ENRICHED: Final = "enriched"
"""The column of request_logs that says what the worker has filled in, and from where."""
FILLED_IN: Final = ("cost", *FOOTPRINT)
"""Columns that it fills in. Prices change: they are not compared when such an event comes again."""
Several = Callable[[Any], Row]
"""Returns the values of some attributes."""


class Rows:
    """How the events of one type become rows.

    `columns` are the names, in the order of the event's struct: the id is the first, its time the
    second.
    """

    def __init__(self, table: str, event_type: str) -> None:
        kinds = COLUMNS[event_type]
        self.table: Final = table
        self.columns: Final = list(kinds)
        self._json_at = [at for at, kind in enumerate(kinds.values()) if kind == "json"]
        self._expiring_at = frozenset(self.columns.index(n) for n in GONE_WITH_IT if n in kinds)
        self._truncated_at = self.columns.index("truncated") if "truncated" in kinds else None
        self._ids_at = [at for at, kind in enumerate(kinds.values()) if kind == "id"]
        self._filled_in_at = frozenset(self.columns.index(n) for n in FILLED_IN if n in kinds)

    def row(self, event: RequestEvent | ErrorEvent) -> Row:
        """Return the event's row: UUIDs, aware datetimes, and JSON as `msgspec.Raw`."""
        return tuple(self._values(event))

    def text_row(self, event: RequestEvent | ErrorEvent) -> Row:
        """Return the event's row in SQLite's types: text, integers and floats."""
        values: list[Any] = list(msgspec.structs.astuple(event))
        values[1] = sqlite_time(values[1] or time_of(event.id))
        for at in self._ids_at:
            if values[at] is not None:
                values[at] = msgspec.to_builtins(values[at])  # a quarter of str()'s time
        for at in self._json_at:
            raw = values[at]
            # As in `_values`.
            if raw is ABSENT or (len(raw) == 4 and raw == JSON_NULL):
                values[at] = None
            else:
                values[at] = str(raw, "utf-8")
        return tuple(values)

    def _values(self, event: RequestEvent | ErrorEvent) -> list[Any]:
        values = list(msgspec.structs.astuple(event))
        if values[1] is None:
            values[1] = time_of(event.id)
        for at in self._json_at:
            raw = values[at]
            # The length first: comparing two Raws costs more than all the rest of it.
            if raw is ABSENT or (len(raw) == 4 and raw == JSON_NULL):
                values[at] = None
        return values

    def same(self, row: Row, other: Row, *, is_filled_in: bool = False) -> bool:
        """Tell whether two rows hold the same: plain values as they are, JSON by its meaning.

        Of a `row` whose bodies have expired, what is left of it; of one that was `is_filled_in`,
        what the event itself had.
        """
        if row == other:
            return True
        gone = self._gone_from(row)
        if is_filled_in:
            gone |= self._filled_in_at
        return all(
            _same_json(one, another) if at in self._json_at else one == another
            for at, (one, another) in enumerate(zip(row, other, strict=True))
            if at not in gone
        )

    def _gone_from(self, row: Row) -> frozenset[int]:
        is_gone = self._truncated_at is not None and is_expired(row[self._truncated_at])
        return self._expiring_at if is_gone else frozenset()


def several(names: list[str]) -> Several:
    """Attrgetter that returns a tuple for one name, too."""
    if len(names) > 1:
        return attrgetter(*names)
    (name,) = names
    return lambda event: (getattr(event, name),)


def _same_json(one: Any, other: Any) -> bool:
    """Compare as jsonb does: 1.0 is 1, the order of keys and the spelling of a text are nothing."""
    if one == other or one is None or other is None:
        return bool(one == other)
    try:
        return bool(_parsed(one) == _parsed(other))
    except (ValueError, RecursionError, InvalidOperation):
        return False  # not to be read here: other bytes are other content


def _parsed(value: str | msgspec.Raw) -> Any:
    text = value if isinstance(value, str) else bytes(value)
    return json.loads(text, parse_int=_number, parse_float=_number)


def _number(digits: str) -> tuple[Decimal]:
    """Keep every digit, in a tuple: the number 1 must not equal true."""
    return (Decimal(digits),)


def sqlite_time(moment: datetime) -> str:
    """Return a time as `UtcTime` stores it in SQLite."""
    text: str = msgspec.to_builtins(moment)  # 2026-01-31T23:59:59.123456Z; isoformat takes longer
    if len(text) == 27 and text[26] == "Z":
        return f"{text[:10]} {text[11:26]}"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


REQUESTS: Final = Rows("request_logs", "request")
ERRORS: Final = Rows("error_logs", "error")


def split(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Split items by table: requests, errors."""
    requests: list[Item] = []
    errors: list[Item] = []
    for item in items:
        (requests if type(item.event) is RequestEvent else errors).append(item)
    return requests, errors
