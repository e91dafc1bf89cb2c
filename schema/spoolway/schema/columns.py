"""The kind of each column, read from the event structs, and values made to fit it."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Final, Literal, get_args, get_type_hints
from uuid import UUID

import msgspec

from spoolway.schema.events import EVENT_TYPES, OUTCOMES, ErrorEvent, RequestEvent
from spoolway.schema.jsonable import clean_text, encode_any

Kind = Literal["text", "whole", "real", "flag", "time", "id", "outcome", "json"]

_INT64_DIGITS: Final = 19
UNFIT: Final = object()
"""What `fit` returns for a value that has no place in its column."""


def _kind(hint: object) -> Kind:
    if hint is msgspec.Raw:
        return "json"
    kinds: dict[object, Kind] = {
        bool: "flag",
        int: "whole",
        float: "real",
        str: "text",
        datetime: "time",
        UUID: "id",
    }
    if hint in kinds:
        return kinds[hint]
    for part in get_args(hint):
        if part in OUTCOMES:
            return "outcome"
        if part is not type(None):
            return _kind(part)
    raise TypeError(f"no column kind for {hint!r}")


def _columns(struct: type[RequestEvent] | type[ErrorEvent]) -> dict[str, Kind]:
    hints = get_type_hints(struct)
    return {name: _kind(hints[name]) for name in struct.__struct_fields__}


COLUMNS: Final[dict[str, dict[str, Kind]]] = {
    event_type: _columns(struct) for event_type, struct in EVENT_TYPES.items()
}
"""Per event type: its columns and their kinds, in the structs' order."""


def fit(kind: Kind, value: object) -> object:
    """Return the value as its column holds it, or UNFIT.

    What a column can hold without loss is converted ("200" is 200, 7 is "7", a naive time is UTC);
    whatever else has no place there, the caller keeps elsewhere.
    """
    try:
        return _FIT[kind](value.value if isinstance(value, Enum) else value)
    except Exception:  # noqa: BLE001 - no number or time in the text, or a proxy's own object failed
        return UNFIT


def _text(value: object) -> object:
    if isinstance(value, str):
        return clean_text(value)
    encoded = encode_any(value)
    if encoded.altered or encoded.depth:
        return UNFIT
    scalar = encoded.json.decode()
    return json.loads(scalar) if scalar.startswith('"') else scalar


def _whole(value: object) -> object:
    match value:
        case bool():
            return UNFIT
        case str() | float() | Decimal():
            exact = Decimal(value)
            # 1e999999999 is one token on the wire and a gigabyte as an int.
            small = exact.is_finite() and exact.adjusted() < _INT64_DIGITS
            whole = int(exact) if small and exact == exact.to_integral_value() else None
        case int():
            whole = int(value)
        case _:
            return UNFIT
    return whole if whole is not None and -(2**63) <= whole < 2**63 else UNFIT


def _real(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        return UNFIT
    real = float(value)
    return real if math.isfinite(real) else UNFIT


def _flag(value: object) -> object:
    match value:
        case bool():
            return value
        case int() | float() | Decimal() | str() if value in (0, 1, "true", "false"):
            return value in (1, "true")
    return UNFIT


def _time(value: object) -> object:
    match value:
        case datetime():
            moment = value
        case str():
            moment = _parsed_time(value)
        case _:
            return UNFIT
    utc = (moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment).astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), UTC)  # msgspec takes no subclass of datetime


def _parsed_time(text: str) -> datetime:
    try:
        return msgspec.convert(text, datetime)  # as decode_line reads it: nanoseconds are rounded
    except msgspec.ValidationError:
        return datetime.fromisoformat(text)


def _id(value: object) -> object:
    match value:
        case UUID():
            return value
        case str():
            return UUID(value)
    # uuid_utils, for one, has a class of its own.
    return UUID(str(value)) if type(value).__name__ == "UUID" else UNFIT


def _outcome(value: object) -> object:
    return clean_text(value) if isinstance(value, str) and value in OUTCOMES else UNFIT


_FIT: Final[dict[Kind, Callable[[object], object]]] = {
    "text": _text,
    "whole": _whole,
    "real": _real,
    "flag": _flag,
    "time": _time,
    "id": _id,
    "outcome": _outcome,
}
