"""The JSON of any value: legal values stay as they are, others are told in full or marked."""

import contextlib
import inspect
import json
import math
import re
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoolway.schema.jsonable import (
    MAX_DEPTH,
    clean_text,
    encode_any,
    free_name,
    parse_exact,
    represent,
)
from spoolway.schema.line import _is_plain
from tests.strategies import (
    NAIVE,
    BadDump,
    BadRepr,
    BadText,
    Chain,
    Colour,
    Itself,
    Level,
    Mode,
    Pair,
    Slotted,
    Tree,
    Usage,
    anything,
    label,
    legal_json,
    legal_text,
    nested,
    represented,
)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def strings_in(value: Any) -> list[str]:
    """Return every string and key in a parsed JSON value."""
    found: list[str] = []
    pending = [value]
    for item in pending:  # which grows while it is walked
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
    return found


def is_beyond_double(number: str) -> bool:
    """Tell whether a JSON number has no double: orjson refuses those, both databases do not."""
    return math.isinf(float(number))


# --- What is legal stays --------------------------------------------------------


@given(legal_json())
def test_legal_json_arrives_exactly_as_it_was(value: Any) -> None:
    """Numbers of any size, floats, text and the order of keys come back; nothing is marked."""
    encoded = encode_any(value)
    assert repr(json.loads(encoded.json)) == repr(value)
    assert not encoded.altered


@given(legal_json())
def test_depth_is_the_number_of_nested_containers(value: Any) -> None:
    """The depth is what a parser has to go down."""

    def depth(item: Any) -> int:
        if isinstance(item, (list, dict)):
            children = item.values() if isinstance(item, dict) else item
            return 1 + max(map(depth, children), default=0)
        return 0

    assert encode_any(value).depth == depth(value)


@given(legal_text())
def test_legal_text_is_not_cleaned(text: str) -> None:
    """A backslash, a u and four zeros are text like any other."""
    assert clean_text(text) == text


@given(st.text(st.characters() | st.sampled_from(["\0", "\ud83d", "\ude00", "\ud800"])))
def test_text_is_cleaned_character_by_character(text: str) -> None:
    """NUL and lone surrogates become U+FFFD, pairs of surrogates their character, nothing else."""
    units = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    assert clean_text(text) == re.sub("[\0\ud800-\udfff]", "\ufffd", units)


# --- Two ways, one value ----------------------------------------------------------


@settings(max_examples=300)
@given(represented())
def test_both_ways_give_the_same_value(value: Any) -> None:
    """What encode_line leaves to orjson, encode_any writes alike; and it marks none of this."""
    encoded = encode_any(value)
    assert not encoded.altered
    if not _is_plain({"value": value}, 1000):
        return
    with contextlib.suppress(TypeError):  # an integer over 64 bits, which orjson refuses
        fast = orjson.dumps(value, default=represent, option=orjson.OPT_NAIVE_UTC)
        assert parse_exact(encoded.json.decode()) == parse_exact(fast.decode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), '"2026-01-31T12:00:00+00:00"'),
        (NAIVE, '"2026-01-31T23:59:59.123456+00:00"'),
        (date(2026, 1, 31), '"2026-01-31"'),
        (time(1, 2, 3, tzinfo=UTC), '"01:02:03+00:00"'),
        (timedelta(milliseconds=1500), "1.5"),
        (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+400"), "1E+400"),
        (10**5000, "1" + "0" * 5000),
        (b"caf\xc3\xa9", '"café"'),
        ({1}, "[1]"),
        (Pair(1, 2), "[1,2]"),
        (PurePosixPath("/v1"), '"/v1"'),
        (Colour.RED, '"red"'),
        (Mode.FAST, '"fast"'),
        (Level.HIGH, "3"),
        (Usage(tokens=5), '{"tokens":5,"inner":null}'),
        (Slotted([1]), '{"items":[1]}'),
    ],
    ids=label,
)
def test_types_that_json_lacks_are_told_in_full(value: object, expected: str) -> None:
    """A value that a JSON value can hold in full is written as one, and not marked."""
    encoded = encode_any(value)
    assert (encoded.json.decode(), encoded.altered) == (expected, False)


@dataclass
class _Cached:
    tokens: int = 1

    @cached_property
    def doubled(self) -> int:
        return 2 * self.tokens


def test_a_dataclass_is_its_fields() -> None:
    """A cached property is no field, whether it was asked before or not."""
    value = _Cached()
    assert value.doubled == 2
    assert encode_any(value).json == b'{"tokens":1}'


# --- What had to be altered says so -------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "null"),
        (-math.inf, "null"),
        (Decimal("sNaN"), "null"),
        (Decimal("Infinity"), "null"),
        (Decimal("1E+200000"), '"1.00000000000000000e+200000"'),
        (Decimal("1E-20000"), '"1.00000000000000000e-20000"'),
        (1 << 500_000, '"<integer of 500001 bits>"'),
        ("a\0b", '"a\ufffdb"'),
        ("\ud800", '"\ufffd"'),
        ("\ud83d\ude00", '"😀"'),
        (BadText("a\0b"), '"a\ufffdb"'),
        (b"\xff\x00", '{"_base64":"/wA="}'),
        ({1: "a"}, '{"1":"a"}'),
        ({None: 1, True: 2, 1.5: 3, (1, 2): 4}, '{"null":1,"true":2,"1.5":3,"(1, 2)":4}'),
        ({10**5000: 1}, '{"1' + "0" * 5000 + '":1}'),
        ({1: "a", "1": "b"}, '{"1":"a","1~1":"b"}'),
        ({"1~1": 0, 1: "a", "1": "b"}, '{"1~1":0,"1":"a","1~2":"b"}'),
        ({"a\0": 1}, '{"a\ufffd":1}'),
        ({Colour.RED: 1, b"k": 2, BadRepr(): 3}, '{"red":1,"k":2,"<BadRepr>":3}'),
        ([BadDump(), 1], '["<tests.strategies.BadDump>",1]'),
        (ValueError("it broke"), '"ValueError: it broke"'),
        (MagicMock(), '"<unittest.mock.MagicMock>"'),
        (int, '"<builtins.type>"'),
    ],
    ids=label,
)
def test_what_is_altered_is_marked(value: object, expected: str) -> None:
    """What JSON or a database cannot hold is written as near as can be, and marked."""
    encoded = encode_any(value)
    assert (encoded.json.decode(), encoded.altered) == (expected, True)


def test_a_cycle_ends_where_it_closes() -> None:
    """The way back to a container that is open is replaced; the rest is there."""
    ring: list[Any] = [1]
    ring += [ring, {"again": ring}]
    encoded = encode_any(ring)
    assert json.loads(encoded.json) == [1, "<cycle>", {"again": "<cycle>"}]
    assert encoded.altered


def test_an_object_that_stands_for_itself_is_a_cycle() -> None:
    """So is a representation that leads back to its object."""
    assert encode_any(Itself()).json == b'"<cycle>"'
    usage = Usage()
    usage.inner = [usage]
    assert json.loads(encode_any(usage).json)["inner"] == ["<cycle>"]


def test_the_same_value_twice_is_no_cycle() -> None:
    """Only a container inside itself is one."""
    shared = {"a": 1}
    encoded = encode_any([shared, shared, {"b": shared}])
    assert json.loads(encoded.json) == [shared, shared, {"b": shared}]
    assert not encoded.altered


# --- It never fails -----------------------------------------------------------------


@settings(max_examples=300, suppress_health_check=SLOW)
@given(anything())
def test_anything_becomes_json_that_databases_take(value: Any) -> None:
    """Valid UTF-8, valid JSON, no NUL and no lone surrogate in it, and it never raises."""
    encoded = encode_any(value)
    text = encoded.json.decode()
    if encoded.depth > MAX_DEPTH:  # it will be capped, and no parser goes as deep
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
        assert (bare.count("["), bare.count("{")) == (bare.count("]"), bare.count("}"))
        return
    numbers: list[str] = []
    parsed = json.loads(text, parse_int=numbers.append, parse_float=numbers.append)
    for found in strings_in(parsed):
        assert clean_text(found) == found
    if not any(map(is_beyond_double, numbers)):
        orjson.loads(encoded.json)


@pytest.mark.parametrize("kind", [list, tuple, dict])
@pytest.mark.parametrize("levels", [MAX_DEPTH, 5_000, 9_000])
def test_levels_cost_no_stack(kind: Any, levels: int) -> None:
    """Thousands of levels are encoded within 60 frames of stack, and counted."""
    value = nested(levels, kind)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        encoded = encode_any(value)
    finally:
        sys.setrecursionlimit(before)
    assert (encoded.depth, encoded.altered) == (levels, False)
    opening = b'{"level":' if kind is dict else b"["
    assert (
        encoded.json == opening * levels + b'"bottom"' + (b"}" if kind is dict else b"]") * levels
    )


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [Chain, Tree])
def test_what_never_ends_is_ended(kind: type) -> None:
    """A model with new children whenever it is asked is cut off, in bounded time and memory."""
    encoded = encode_any(kind())
    assert encoded.altered
    assert b"<endless>" in encoded.json
    assert len(encoded.json) < 50_000_000


@pytest.mark.timeout(60)
def test_lists_that_multiply_are_ended() -> None:
    """Ten lists of ten lists of ten … are a few objects, and would be gigabytes of text."""
    value: Any = "x"
    for _ in range(30):
        value = [value] * 10
    assert b"<endless>" in encode_any(value).json


@pytest.mark.timeout(20)
def test_many_keys_of_one_name_are_told_apart_quickly() -> None:
    """Ten thousand keys with the same text keep ten thousand values."""

    class Same:
        def __repr__(self) -> str:
            return "same"

    encoded = encode_any({Same(): number for number in range(10_000)})
    assert sorted(json.loads(encoded.json).values()) == list(range(10_000))


def test_a_container_that_another_thread_changes_is_encoded() -> None:
    """A dict or set that grows meanwhile is written as it was at one moment."""
    shared: dict[str, Any] = {"inner": {}, "set": set()}
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            number = (number + 1) % 1000
            shared["inner"][str(number)] = shared["set"].add(number)
            if number == 0:
                shared["inner"].clear()
                shared["set"].clear()

    thread = threading.Thread(target=change, name="changes")
    thread.start()
    try:
        for _ in range(200):
            assert not encode_any(shared).altered
    finally:
        stop.set()
        thread.join()


def test_parse_exact_keeps_every_digit() -> None:
    """Numbers that a float would round come back digit for digit."""
    text = "[0.1234567890123456789012345,1E+400,100000000000000000000000001,1.50]"
    assert encode_any(parse_exact(text)).json.decode() == text


def test_a_taken_name_gets_a_suffix() -> None:
    """Until it is free."""
    assert free_name("a", []) == "a"
    assert free_name("a", ["a", "a~2"]) == "a~2~2"
