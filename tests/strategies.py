"""What a proxy can put into an event, as hypothesis strategies: legal JSON, and everything else."""

import enum
import math
import random
from collections import deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import msgspec
import orjson
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from spoolway.schema.columns import COLUMNS, Kind
from spoolway.schema.errors import shown
from spoolway.schema.events import OUTCOMES, OVERFLOW_COLUMN, Event
from spoolway.schema.ids import new_id
from spoolway.schema.jsonable import parse_exact

MOMENT = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
NAIVE = MOMENT.replace(tzinfo=None)
FROM_1970 = NAIVE.replace(1970, 1, 1, 0, 0, 0, 0)
TO_2200 = NAIVE.replace(2200)
DEEP = 5_000

# --- Legal JSON -----------------------------------------------------------------


@cache
def legal_text() -> SearchStrategy[str]:
    """Text that both databases take: no NUL, no lone surrogate; NUL's escape is legal as text."""
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    odd = ["\\u0000", "\\", '"', "null", "\\ud800", "\x7f\x1f", "NaN", "\u2028", "𝄞", "\n\r\t"]
    return st.text(characters, max_size=20) | st.sampled_from(odd)


@cache
def legal_scalars() -> SearchStrategy[Any]:
    """JSON's scalars, with integers within and beyond 64 bits, up to hundreds of digits."""
    edges = [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**300, -(10**300)]
    return (
        st.none()
        | st.booleans()
        | st.integers()
        | st.sampled_from(edges)
        | st.integers(-(10**300), 10**300)
        | st.floats(allow_nan=False, allow_infinity=False)
        | legal_text()
    )


@cache
def legal_json() -> SearchStrategy[Any]:
    """Whatever JSON can say and both databases take."""
    return st.recursive(
        legal_scalars(),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(legal_text(), inner, max_size=4)
        ),
        max_leaves=12,
    )


# --- What Python has besides -----------------------------------------------------


class Colour(enum.Enum):
    """An enumeration of strings that are no str."""

    RED = "red"


class Level(enum.IntEnum):
    """An enumeration of integers."""

    HIGH = 3


class Mode(enum.StrEnum):
    """An enumeration of strings."""

    FAST = "fast"


class Odd(enum.Enum):
    """An enumeration whose values are no JSON."""

    NOT_A_NUMBER = math.nan
    NUL = "\0"
    MAP = {1: 2}  # noqa: RUF012 - the value of a member


@dataclass
class Usage:
    """A dataclass with what is not its content: a private field, and an attribute added later."""

    tokens: Any = 1
    inner: Any = None
    _secret: str = "hidden"

    def __post_init__(self) -> None:
        self.added = "later"


@dataclass(slots=True)
class Slotted:
    """A dataclass without __dict__."""

    items: list[Any] = field(default_factory=list)


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - as untyped code has it


class Model:
    """What pydantic's models look like from outside."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def model_dump(self) -> dict[str, Any]:
        """Return the content."""
        return {"content": self.content}


class Chain:
    """A model that has a new child whenever it is asked."""

    def model_dump(self) -> dict[str, Any]:
        """Return a child."""
        return {"child": Chain()}


class Tree:
    """A model that has two new children whenever it is asked."""

    def model_dump(self) -> list[Any]:
        """Return children."""
        return [Tree(), Tree()]


class Itself:
    """A model that stands for itself."""

    def model_dump(self) -> object:
        """Return itself."""
        return self


class BadRepr:
    """An object that cannot say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class UglyRepr:
    """An object that draws on the terminal."""

    def __repr__(self) -> str:
        return "\x1b[31m\n\ud800" * 100


class BadDump:
    """A model that fails."""

    def model_dump(self) -> object:
        """Fail."""
        raise KeyError("no dump")


class BadList(list[int]):
    """A list that cannot be walked."""

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("no iteration")


class BadMapping(Mapping[str, int]):
    """A mapping that loses its keys."""

    def __iter__(self) -> Iterator[str]:
        return iter(["gone"])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: str) -> int:
        raise ConnectionError("no value")


class BadZone(tzinfo):
    """A time zone that fails."""

    def utcoffset(self, _moment: datetime | None) -> timedelta:
        """Fail."""
        raise RuntimeError("no offset")

    dst = utcoffset

    def tzname(self, _moment: datetime | None) -> str:
        """Fail."""
        raise RuntimeError("no name")


class BadText(str):
    """A str that says it is another."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\0\ud800"

    def __contains__(self, part: object) -> bool:
        return False


class BadEquality:
    """An object that cannot be compared, for instance an array."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth of an array is ambiguous")


class Text(str):
    """A subclass of str."""

    __slots__ = ()


class Whole(int):
    """A subclass of int."""


class Real(float):
    """A subclass of float, as numpy.float64 is."""

    __slots__ = ()


class Moment(datetime):
    """A subclass of datetime, as pendulum's and freezegun's are."""


class Identifier(UUID):
    """A subclass of UUID, as asyncpg's is."""


BadError = type("Bad\nError", (Exception,), {"__module__": "no\ud800where"})


@cache
def representable() -> SearchStrategy[Any]:
    """What JSON lacks, and what `represent` says in full: both ways must say the same."""
    whole_minutes = st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))
    return (
        st.datetimes()
        | st.datetimes(timezones=whole_minutes | st.just(UTC))
        | st.dates()
        | st.times()
        | st.times(timezones=st.just(UTC))
        | st.timedeltas()
        | st.uuids()
        | st.decimals(allow_nan=False, allow_infinity=False)
        | st.sampled_from(
            [Decimal("1E+400"), Decimal("-0"), Decimal("1E+131071"), Decimal("1E-99")]
        )
        | legal_text().map(str.encode)
        | legal_text().map(lambda text: bytearray(text.encode()))
        | legal_text().map(lambda text: memoryview(text.encode()))
        | st.frozensets(legal_text() | st.integers(), max_size=3)
        | st.sampled_from([Colour.RED, Level.HIGH, Mode.FAST, PurePosixPath("/v1/models")])
        | st.sampled_from([IPv4Address("10.0.0.1"), IPv6Address("::1"), MappingProxyType({"a": 1})])
        | st.sampled_from([Text("x"), Whole(5), Real(1.5), Identifier(int=5), Moment(2026, 1, 1)])
        | st.sampled_from([orjson.Fragment(b'{"a": 1e400}'), msgspec.Raw(b'["\\u00e9"]')])
    )


@cache
def represented() -> SearchStrategy[Any]:
    """What `represent` says in full, and JSON, inside one another."""
    return st.recursive(
        representable() | legal_scalars(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(legal_text(), inner, max_size=3)
            | st.tuples(inner, inner)
            | st.tuples(inner, inner).map(lambda both: Pair(*both))
            | st.lists(inner, max_size=3).map(deque)
            | st.builds(Usage, inner, inner)
            | st.lists(inner, max_size=2).map(Slotted)
            | inner.map(Model)
        ),
        max_leaves=8,
    )


def nested(levels: int, kind: type[list[Any] | tuple[Any, ...] | dict[str, Any]] = list) -> Any:
    """Return as many levels of containers, made by hand: no recursion."""
    value: Any = "bottom"
    for _ in range(levels):
        value = {"level": value} if kind is dict else kind([value])
    return value


def _made(*makers: Callable[[], Any]) -> SearchStrategy[Any]:
    """Return what one of them makes: anew each time, and named in reports without its own repr."""
    return st.sampled_from(makers).map(lambda make: make())


def _ring() -> list[Any]:
    ring: list[Any] = [1]
    ring.append(ring)
    return ring


def _round_trip() -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    mapping["a"] = {"b": [mapping]}
    return mapping


def _usage_of_itself() -> Usage:
    usage = Usage()
    usage.inner = [usage]
    return usage


@cache
def hostile_scalars() -> SearchStrategy[Any]:
    """What no database takes, or what fails when it is looked at."""
    surrogates = st.text(
        st.characters(categories=["Cs"]) | st.sampled_from(["\0", "a", "😀"]), max_size=6
    )
    decimals = ["NaN", "sNaN", "Infinity", "-Infinity", "1E+999999999", "1E-20000", "1E+131072"]
    return (
        surrogates
        | st.binary(max_size=8)
        | st.sampled_from([math.nan, math.inf, -math.inf, 2**65, Real("nan")])
        | st.sampled_from([Decimal(number) for number in decimals])
        | _made(lambda: 10**5_000, lambda: -(10**5_000), lambda: 1 << 500_000)
        | st.sampled_from([Odd.NOT_A_NUMBER, Odd.NUL, Odd.MAP, b"\0", b"\xff\xfe"])
        | _made(lambda: BadText("x"), lambda: Text("\0"), lambda: Text("\ud83d\ude00"))
        | st.sampled_from(["\ud83d\ude00", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))])
        | _made(lambda: datetime(2026, 1, 1, tzinfo=BadZone()), lambda: time(1, tzinfo=BadZone()))
        | _made(lambda: orjson.Fragment(b'{\n"a":1}'), lambda: orjson.Fragment(b"nonsense\n"))
        | _made(lambda: msgspec.Raw(b'{"a":\n"\\ud800"}'), object, lambda: iter([1]))
        | _made(lambda: ValueError("\0"), lambda: BadError("x"), lambda: KeyError(BadRepr()))
        | st.sampled_from([print, dict, Ellipsis, 1j, range(3)])
    )


@cache
def hostile_objects() -> SearchStrategy[Any]:
    """Objects that fail, that hold themselves, or that have thousands of levels or no end."""
    return _made(
        lambda: nested(DEEP),
        lambda: nested(DEEP, tuple),
        lambda: nested(DEEP, dict),
        _ring,
        _round_trip,
        _usage_of_itself,
        Itself,
        BadRepr,
        BadDump,
        BadMapping,
        BadEquality,
        lambda: BadList([1]),
        MagicMock,
        Chain,
    )


@cache
def keys() -> SearchStrategy[Any]:
    """What can be a key in Python."""
    return (
        legal_text()
        | st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.dates()
        | st.uuids()
        | st.binary(max_size=4)
        | st.tuples(st.integers(), st.text(max_size=2))
        | st.sampled_from([*Colour, *Mode, *Level, "\0", "\ud800"])
        | _made(lambda: 10**5_000, BadRepr, lambda: Text("a"))
        | st.sampled_from(["_altered", "_capped", b"_altered", "extra", "~", "1", 1, "1~1"])
    )


@cache
def anything() -> SearchStrategy[Any]:
    """Whatever a proxy can put into an event."""
    return st.recursive(
        legal_scalars() | representable() | hostile_scalars() | hostile_objects(),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(keys(), inner, max_size=4)
            | st.tuples(inner, inner)
            | st.builds(Usage, inner, inner)
            | inner.map(Model)
            | st.sets(keys(), max_size=3)
        ),
        max_leaves=10,
    )


# --- Fields of events -------------------------------------------------------------


@cache
def legal_value(kind: Kind) -> SearchStrategy[Any]:
    """What a column of this kind holds as it is."""
    by_kind: dict[Kind, SearchStrategy[Any]] = {
        "text": legal_text(),
        "whole": st.integers(-(2**63), 2**63 - 1),
        "real": st.floats(allow_nan=False, allow_infinity=False),
        "flag": st.booleans(),
        "time": st.datetimes(FROM_1970, TO_2200, timezones=st.just(UTC)),
        "id": st.uuids(),
        "outcome": st.sampled_from(OUTCOMES),
        "json": legal_json(),
    }
    return by_kind[kind]


@st.composite
def _legal_fields(draw: st.DrawFn, event_type: str) -> dict[str, Any]:
    columns = {name: kind for name, kind in COLUMNS[event_type].items() if name != "id"}
    fields: dict[str, Any] = {"type": event_type, "id": new_id()}
    for name in draw(st.lists(st.sampled_from(list(columns)), unique=True, max_size=6)):
        if name == "truncated":
            names = st.lists(st.sampled_from(list(columns)), unique=True, min_size=1, max_size=3)
            fields[name] = draw(names)
        else:
            fields[name] = draw(legal_value(columns[name]))
    return fields


@st.composite
def _wild_fields(draw: st.DrawFn, event_type: str) -> dict[Any, Any]:
    columns = [name for name in COLUMNS[event_type] if name != "id"]
    overflow = OVERFLOW_COLUMN[event_type]
    fields: dict[Any, Any] = {"type": event_type, "id": new_id()}
    names = st.sampled_from(columns) | st.sampled_from([overflow, "truncated"]) | keys()
    for name in draw(st.lists(names, max_size=6)):
        if name not in ("type", "id"):
            fields[name] = draw(anything())
    items = list(fields.items())
    random.Random(draw(st.integers(0, 9))).shuffle(items)
    return dict(items)


def legal_fields() -> SearchStrategy[dict[str, Any]]:
    """The fields of an event, each with a value that its column holds as it is."""
    return _legal_fields("request") | _legal_fields("error")


def request_fields() -> SearchStrategy[dict[Any, Any]]:
    """The fields of a request, any subset of columns and unknown ones, with anything in them."""
    return _wild_fields("request")


def error_fields() -> SearchStrategy[dict[Any, Any]]:
    """The fields of an error, any subset of columns and unknown ones, with anything in them."""
    return _wild_fields("error")


# --- Reading back -----------------------------------------------------------------


def contents(event: Event) -> dict[str, Any]:
    """Return an event's columns that are not NULL, with JSON parsed to the last digit."""
    found: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if isinstance(value, msgspec.Raw):
            json = bytes(value)
            value = parse_exact(json.decode()) if json else None
        if value is not None:
            found[name] = value
    return found


def notes(event: Event) -> tuple[list[str], list[str]]:
    """Return the columns noted as altered, and those noted as capped."""
    found = contents(event)
    extra = found.get("extra", found.get("extra_context"))
    own: dict[str, Any] = extra if isinstance(extra, dict) else {}
    return own.get("_altered", []), found.get("truncated", own.get("_capped", []))


_NAMED = (str, int, float, Decimal, bytes, datetime, UUID, type(None))


def label(value: object) -> str:
    """Return a parameter's part of a test id: whatever it is, the same in every process."""
    return shown(value) if isinstance(value, _NAMED) else type(value).__name__
