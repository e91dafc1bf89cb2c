"""Any Python value as JSON that both databases take; nothing legal is altered.

Two ways lead to the same bytes. orjson takes the common event in a microsecond, with `represent`
for the types it does not know. What orjson refuses, or what PostgreSQL would (NUL, lone surrogates,
NaN, other keys than strings, cycles, thousands of levels), goes through `encode_any`, which never
raises, never recurses and says whether it had to alter the value.
"""

import base64
import dataclasses
import json
import math
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import msgspec
import orjson

MAX_DEPTH: Final = 254
"""Levels of nesting kept: what orjson encodes. PostgreSQL's own limit is some thousands."""
_ENDLESS_LEVELS: Final = 10_000
_ENDLESS_VALUES: Final = 1_000_000
"""Where a structure is taken to be endless: an object that makes new children whenever it is asked,
or lists that hold one another many times. As many values never fit the default caps."""
_NUMERIC_DIGITS: Final = 131_072
_NUMERIC_SCALE: Final = 16_383
"""PostgreSQL's `numeric`, in which jsonb keeps numbers: digits before and after the point."""
_NUMERIC_BITS: Final = 435_412
"""Bits of the largest integer of as many digits. Python needs minutes to write a larger one."""


@dataclass(slots=True, frozen=True)
class Encoded:
    """JSON bytes of one value, whether they differ from it, and how deep it is nested."""

    json: bytes
    altered: bool
    depth: int


class Parsed:
    """A value that a JSON parser has made: there is nothing in it but what JSON has.

    Nobody need walk over it to know that. Not a dataclass: orjson would write it as one.
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


def represent(value: object) -> object:
    """Return a JSON value for a type that JSON lacks and whose content it can hold in full.

    The `default` hook of orjson. Raises TypeError for every other type, as orjson asks.
    """
    match value:
        case Parsed():
            return value.value
        case datetime():
            return iso_time(value)
        case date() | time():
            return value.isoformat()
        case Decimal():
            if is_storable_number(value):
                return orjson.Fragment(Decimal.__str__(value).encode())
        case set() | frozenset() | deque() | tuple():
            return list(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode()
        case timedelta():
            return value.total_seconds()
        case UUID() | PurePath() | IPv4Address() | IPv6Address():
            return str(value)
        case Mapping():
            return dict(value)
        case msgspec.Raw():
            return orjson.Fragment(bytes(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if not name.startswith("_")}
    # Asked of the type: a mock has every attribute, and each call of one makes a new mock.
    if callable(dump := getattr(type(value), "model_dump", None)):
        return dump(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def iso_time(value: datetime) -> str:
    """Return the time as RFC 3339 text; a naive one is UTC."""
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


def is_storable_number(value: Decimal) -> bool:
    """Tell whether jsonb can hold the number: 1e200000 is legal JSON and SQLSTATE 22003."""
    if not value.is_finite():
        return False
    exponent = value.as_tuple().exponent
    return (
        value.adjusted() < _NUMERIC_DIGITS
        and isinstance(exponent, int)
        and -exponent <= _NUMERIC_SCALE
    )


def clean_text(text: str) -> str:
    """Return the text without what no database takes: NUL and lone surrogates become U+FFFD.

    Two surrogates that make a pair become the character they stand for.
    """
    text = str.__str__(text)  # msgspec takes no subclass of str, and one may not be what it says
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def free_name(name: str, taken: Collection[object]) -> str:
    """Return the name, with a suffix where it is taken, so that both values are kept."""
    while name in taken:
        name = f"{name}~{len(taken)}"
    return name


def parse_exact(text: str) -> Any:
    """Parse JSON and what people send for it: NaN, raw control characters, lone surrogates.

    Keeps every digit: a number is an int or, where a float would round what jsonb holds, a Decimal.

    Raises:
        ValueError: not JSON.
        RecursionError: nested deeper than Python's own parser goes.
    """
    return json.loads(text, strict=False, parse_int=_exact, parse_float=_exact)


def _exact(number: str) -> object:
    try:
        return int(number) if number.lstrip("-").isdigit() and len(number) < 20 else Decimal(number)
    except InvalidOperation:
        return math.inf  # an exponent beyond Decimal's own: as good as infinite


def encode_any(value: object) -> Encoded:
    """Encode whatever it is. Never raises, never recurses: the stack is a list."""
    writer = _Writer()
    writer.write(value)
    return Encoded("".join(writer.out).encode(), writer.altered, writer.depth)


def key_text(key: object) -> str:
    """Name a key as JSON would write the value; a compound one by its repr. Never raises."""
    try:
        match key:
            case Enum() if not isinstance(key, str):
                return clean_text(str(key.value))
            case str():
                return clean_text(key)
            case None | bool() | int() | float() | Decimal() | date() | time() | UUID():
                return encode_any(key).json.decode().strip('"')
            case bytes():
                return clean_text(key.decode(errors="replace"))
        return clean_text(repr(key))
    except Exception:  # noqa: BLE001 - the proxy's own object failed
        return f"<{clean_text(type(key).__name__)}>"


class _Writer:
    """Depth-first over the value, with one iterator per open container."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.altered = False
        self.depth = 0
        self._level = 0
        self._values = 0
        # Per open container: what is left of it, what closes it, and itself, so that its id stays
        # its own while it is on the path.
        self._open: list[tuple[Iterator[tuple[str, object]], str, object]] = []
        self._path: set[int] = set()

    def write(self, value: object) -> None:
        self._value(value)
        while self._open:
            members, closing, container = self._open[-1]
            try:
                prefix, child = next(members)
            except StopIteration:
                self._open.pop()
                self._path.discard(id(container))
                self._level -= len(closing)
                self.out.append(closing)
            else:
                self.out.append(prefix)
                self._value(child)

    def _value(self, value: object) -> None:
        self._values += 1
        try:
            scalar = self._scalar(value)
            if scalar is not None:
                self.out.append(scalar)
            elif id(value) in self._path:
                self._replaced("<cycle>")
            elif len(self._open) >= _ENDLESS_LEVELS or self._values >= _ENDLESS_VALUES:
                self._replaced("<endless>")
            else:
                self._enter(value)
        except Exception:  # noqa: BLE001 - the proxy's own object failed: __iter__, a property, ...
            self._replaced(f"<{type(value).__module__}.{type(value).__qualname__}>")

    def _replaced(self, by: str) -> None:
        self.altered = True
        self.out.append(encode_basestring(clean_text(by)))

    def _scalar(self, value: object) -> str | None:
        match value:
            case None:
                return "null"
            case bool():
                return "true" if value else "false"
            case Enum():
                return None
            case str():
                return self._text(value)
            case int():
                return self._whole(value)
            case float():
                return float.__repr__(value) if math.isfinite(value) else self._no_number()
            case Decimal():
                return self._decimal(value)
            case datetime():
                return self._text(iso_time(value))
            case date() | time():
                return self._text(value.isoformat())
        return None

    def _text(self, value: str) -> str:
        cleaned = clean_text(value)
        self.altered |= cleaned != value
        return encode_basestring(cleaned)

    def _whole(self, value: int) -> str:
        if -(2**63) <= value < 2**64:
            return int.__repr__(value)
        if value.bit_length() > _NUMERIC_BITS:
            self.altered = True
            return f'"<integer of {value.bit_length()} bits>"'
        return self._decimal(Decimal(value))  # str() of an int refuses more than 4,300 digits

    def _decimal(self, value: Decimal) -> str:
        if is_storable_number(value):
            return Decimal.__str__(value)
        if not value.is_finite():
            return self._no_number()
        self.altered = True
        return encode_basestring(f"{value:.17e}")  # too large to write out: its size, as text

    def _no_number(self) -> str:
        self.altered = True
        return "null"

    def _enter(self, value: object) -> None:
        opening, closing, members = self._members(value)
        self.out.append(opening)
        self._path.add(id(value))
        self._open.append((members, closing, value))
        self._level += len(opening)
        self.depth = max(self.depth, self._level)

    def _members(self, value: object) -> tuple[str, str, Iterator[tuple[str, object]]]:
        match value:
            case Mapping():
                return "{", "}", self._pairs(dict(value))
            case list() | tuple() | set() | frozenset() | deque():
                # A list first: another thread may change the container while it is walked.
                items = enumerate(list(value))
                return "[", "]", iter([("," if i else "", item) for i, item in items])
        # An object that stands for another value stays on the path while that one is written, so
        # that one whose representation holds itself is seen as the cycle it is.
        return "", "", iter((("", self._represent(value)),))

    def _represent(self, value: object) -> object:
        match value:
            case Enum():
                return value.value
            case bytes() | bytearray() | memoryview():
                raw = bytes(value)
                try:
                    return raw.decode()
                except UnicodeDecodeError:
                    self.altered = True
                    return {"_base64": base64.b64encode(raw).decode()}
            case orjson.Fragment() | msgspec.Raw():
                return parse_exact(orjson.dumps(value, default=represent).decode())
            case BaseException():
                self.altered = True
                return f"{type(value).__name__}: {value}"
        return represent(value)

    def _pairs(self, mapping: Mapping[object, object]) -> Iterator[tuple[str, object]]:
        used: set[str] = set()
        pairs: list[tuple[str, object]] = []
        for key, value in mapping.items():
            # 1 and "1" are two keys here and would be one there.
            name = free_name(key_text(key), used)
            self.altered |= not (isinstance(key, str) and name == key)
            used.add(name)
            pairs.append((f"{',' if pairs else ''}{encode_basestring(name)}:", value))
        return iter(pairs)
