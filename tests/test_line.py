"""One event as one JSON line: whatever goes in comes out as an event, and what changed is noted."""

import json
import random
from collections.abc import Callable, Mapping
from datetime import UTC, timedelta, timezone
from decimal import Decimal, FloatOperation, localcontext
from enum import Enum
from http import HTTPStatus
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from spoolway.schema import (
    BadEvent,
    BadInput,
    Caps,
    ErrorEvent,
    Event,
    NotUuid7,
    RequestEvent,
    decode_line,
    decode_lines,
    encode_event,
    encode_line,
    repair_line,
)
from spoolway.schema.columns import COLUMNS
from spoolway.schema.events import EVENT_TYPES, OVERFLOW_COLUMN
from spoolway.schema.jsonable import MAX_DEPTH, encode_any
from spoolway.schema.line import _without_deep
from spoolway.schema.normalise import normalise
from tests.strategies import (
    DEEP,
    MOMENT,
    NAIVE,
    BadRepr,
    Colour,
    Identifier,
    Moment,
    Real,
    Text,
    UglyRepr,
    Whole,
    contents,
    error_fields,
    label,
    legal_fields,
    legal_json,
    legal_text,
    nested,
    notes,
    request_fields,
)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
ROOM = Caps(column_bytes=16 * 2**20, event_bytes=16 * 2**20)
"""So that nothing but depth is capped."""


def through(fields: Mapping[Any, Any]) -> Event:
    """Return what arrives at the worker."""
    return decode_line(encode_line(fields))


def request(**fields: Any) -> dict[str, Any]:
    """Return the fields of a request."""
    return {"type": "request", "id": ID, **fields}


def error(**fields: Any) -> dict[str, Any]:
    """Return the fields of an error."""
    return {"type": "error", "id": ID, **fields}


def is_one_printable_line(message: str) -> bool:
    """Tell whether a message can stand in a log and on a screen."""
    return len(message) <= 300 and message.isprintable()


def fault_of(read: Callable[[bytes], Event], line: bytes) -> str:
    """Return the message of the BadInput that a line is, or nothing if it is an event."""
    try:
        encode_event(read(line))
    except BadInput as fault:
        return str(fault)
    return ""


# --- Legal fields -----------------------------------------------------------------


@given(legal_fields())
def test_legal_fields_arrive_as_they_were(fields: dict[str, Any]) -> None:
    """A value that its column can hold is there, equal, and nothing is noted."""
    event = through(fields)
    assert isinstance(event, EVENT_TYPES[fields["type"]])
    expected = {name: value for name, value in fields.items() if value is not None}
    del expected["type"]
    # A float in a JSON column is compared by its digits.
    json_columns = [name for name in expected if COLUMNS[fields["type"]][name] == "json"]
    for name in json_columns:
        expected[name] = json.loads(json.dumps(expected[name]), parse_float=Decimal)
    found = contents(event)
    assert found == {name: value for name, value in expected.items() if value is not None}


@given(legal_fields())
def test_the_careful_way_says_the_same_as_the_fast_one(fields: dict[str, Any]) -> None:
    """Of a line that needs no repair, repair_line makes the event that decode_line makes."""
    line = encode_line(fields)
    assert contents(repair_line(line)) == contents(decode_line(line))


@given(legal_fields(), st.dictionaries(legal_text(), legal_json(), max_size=3))
def test_unknown_fields_are_kept_in_extra(fields: dict[str, Any], more: dict[str, Any]) -> None:
    """A field without a column never kills an event: it is in extra, under its own name."""
    names = {*COLUMNS["request"], *COLUMNS["error"], "type", "_altered", "_capped"}
    assume(not names & more.keys())
    overflow = OVERFLOW_COLUMN[fields["type"]]
    fields.pop(overflow, None)
    event = through({**fields, **more})
    kept = contents(event).pop(overflow, {})
    assert kept == json.loads(json.dumps(more), parse_float=Decimal)
    assert notes(event)[0] == []


def test_extra_may_hold_any_json() -> None:
    """It need not be an object, unless something has to be put beside it."""
    assert contents(through(request(extra=[1, 2])))["extra"] == [1, 2]
    assert contents(repair_line(encode_line(request(extra=5))))["extra"] == 5
    assert contents(through(request(extra=[1], stray=2)))["extra"] == {"extra": [1], "stray": 2}
    nul = contents(through(request(extra=["\0"])))["extra"]
    assert nul == {"extra": ["\ufffd"], "_altered": ["extra"]}


def test_a_stray_does_not_replace_what_extra_has() -> None:
    """Two values of one name are both kept."""
    event = through(request(extra={"team": 1, "_altered": 5}, team=2, _altered="mine", body="\0"))
    extra = contents(event)["extra"]
    assert extra["_altered"] == ["body", "extra"]
    assert (extra["team"], extra["team~3"]) == (1, 2)
    assert sorted(map(str, extra.values())) == sorted(["1", "2", "5", "mine", "['body', 'extra']"])


# --- Values that fit after all ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("http_status", "200", 200),
        ("http_status", 200.0, 200),
        ("http_status", Decimal("2E+2"), 200),
        ("http_status", HTTPStatus.OK, 200),
        ("http_status", Whole(200), 200),
        ("duration_ms", 5, 5.0),
        ("duration_ms", "1.5", 1.5),
        ("duration_ms", Decimal("1.5"), 1.5),
        ("duration_ms", Real(1.5), 1.5),
        ("model_name", 7, "7"),
        ("model_name", True, "true"),
        ("model_name", b"gpt", "gpt"),
        ("model_name", Colour.RED, "red"),
        ("model_name", Text("gpt"), "gpt"),
        ("user_id", ID, str(ID)),
        ("is_stream", 1, True),
        ("is_stream", "false", False),
        ("request_time", NAIVE, MOMENT),
        ("request_time", MOMENT.astimezone(timezone(timedelta(hours=-7, minutes=-30))), MOMENT),
        ("request_time", "2026-01-31T23:59:59.123456Z", MOMENT),
        ("request_time", "2026-01-31 23:59:59.123456", MOMENT),
        ("request_time", "2026-01-31T23:59:59.123456499Z", MOMENT),
        ("request_time", Moment(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC), MOMENT),
        ("outcome", "success", "success"),
        ("outcome", Text("error"), "error"),
    ],
    ids=label,
)
def test_what_fits_without_loss_is_converted(name: str, value: object, expected: object) -> None:
    """On either way, and without a note."""
    for fields in (request(**{name: value}), request(**{name: value}, body={"a": 10**30})):
        event = through(fields)
        assert contents(event)[name] == expected
        assert type(contents(event)[name]) is type(expected)
        assert notes(event) == ([], [])


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("http_status", "OK", "OK"),
        ("http_status", 200.5, Decimal("200.5")),
        ("http_status", True, True),
        ("prompt_tokens", 2**63, 2**63),
        ("prompt_tokens", Decimal("1E+999999"), "1.00000000000000000e+999999"),
        ("duration_ms", float("nan"), None),
        ("cost", Decimal("1E+400"), Decimal("1E+400")),
        ("model_name", ["a"], ["a"]),
        ("model_name", BadRepr(), "<tests.strategies.BadRepr>"),
        ("is_stream", "perhaps", "perhaps"),
        ("request_time", "yesterday", "yesterday"),
        ("request_time", 1_700_000_000, 1_700_000_000),
        ("request_time", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59-01:00"),
        ("outcome", "done", "done"),
    ],
    ids=label,
)
def test_what_does_not_fit_is_kept_in_extra(name: str, value: object, kept: object) -> None:
    """The column is NULL and noted, the value is in extra under the column's name."""
    event = normalise(request(**{name: value}), ROOM)
    assert name not in contents(event)
    assert contents(event)["extra"][name] == kept
    assert name in notes(event)[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Real("-inf")])
def test_no_number_is_noted(value: object) -> None:
    """In JSON it becomes null, as orjson would make of it without a word; a column is NULL."""
    event = through(request(body={"a": [1.5, value]}, cost=value, path="/"))
    assert contents(event)["body"] == {"a": [Decimal("1.5"), None]}
    assert "cost" not in contents(event)
    assert set(notes(event)[0]) == {"body", "cost", "extra"}


def test_a_text_column_is_repaired_in_place() -> None:
    """Text that no database takes stays in its column, noted."""
    event = through(request(model_name="a\0b", path="\ud800", query="\\u0000"))
    found = contents(event)
    assert (found["model_name"], found["path"], found["query"]) == ("a\ufffdb", "\ufffd", "\\u0000")
    assert notes(event)[0] == ["model_name", "path"]


def test_a_callers_decimal_context_changes_nothing() -> None:
    """A proxy that traps floats in decimal arithmetic is no reason to fail."""
    with localcontext() as context:
        context.prec = 1
        context.traps[FloatOperation] = True
        event = through(request(http_status=200.0, body=[10**40 + 1, Decimal("0.12345")], x="\0"))
    assert contents(event)["body"] == [10**40 + 1, Decimal("0.12345")]
    assert contents(event).get("http_status", contents(event)["extra"].get("http_status")) == 200


# --- Anything ----------------------------------------------------------------------


@settings(max_examples=300, suppress_health_check=SLOW)
@given(request_fields() | error_fields())
def test_whatever_a_proxy_puts_in_arrives(fields: dict[Any, Any]) -> None:
    """Every field is in its column or in extra, and what was altered or capped is noted."""
    line = encode_line(fields)
    assert b"\n" not in line
    event = decode_line(line)
    assert (type(event), event.id) == (EVENT_TYPES[fields["type"]], fields["id"])
    overflow = OVERFLOW_COLUMN[fields["type"]]
    kinds = COLUMNS[fields["type"]]
    found = contents(event)
    altered, capped = notes(event)
    for name, value in fields.items():
        kind = kinds.get(name) if isinstance(name, str) else None
        if name in ("type", "id", overflow, "truncated") or value is None:
            continue
        encoded = encode_any(value)
        here = name if kind == "json" else overflow
        if kind == "json":
            assert name in found or encoded.json == b"null"
        elif kind is None or name not in found:
            assert (
                name in found[overflow]
                or overflow in capped
                or not isinstance(name, str)
                or (
                    any(key.startswith(f"{name}~") for key in found[overflow])
                    or overflow in altered
                )
            )
            assert kind is None or name in altered
        else:
            continue  # in its column, as it fitted
        if encoded.depth > MAX_DEPTH:
            assert here in capped
        elif encoded.altered:
            assert {here, name} & {*altered, *capped}


@settings(max_examples=200, suppress_health_check=SLOW)
@given(request_fields() | error_fields())
def test_a_repaired_event_needs_no_other_repair(fields: dict[Any, Any]) -> None:
    """What came out of one repair goes through the next, and the fast way, unchanged."""
    event = normalise(fields, ROOM)
    line = encode_event(event)
    assert contents(repair_line(line)) == contents(event)
    assert contents(decode_line(line)) == contents(event)


def test_notes_of_an_earlier_repair_stay() -> None:
    """The worker's repair goes on with the notes of the producer's, each column once."""
    line = encode_line(request(body="\0", headers="\0", response=nested(DEEP)))
    again = json.loads(line)
    event = repair_line(json.dumps({**again, "body": "\0", "path": "\0"}).encode())
    assert notes(event) == (["body", "path", "headers"], ["response"]) or notes(event) == (
        ["body", "headers", "path"],
        ["response"],
    )


def test_a_mock_is_no_endless_tree() -> None:
    """A proxy under test, whose objects are mocks, is not stopped by its log."""
    event = through(request(model_name=MagicMock(), body=MagicMock(), extra=MagicMock()))
    assert set(notes(event)[0]) == {"model_name", "body", "extra"}


def test_what_would_crash_orjson_is_kept_from_it() -> None:
    """Tuples in tuples are followed without end: the process dies, or writes past its buffer."""
    for value in (nested(DEEP, tuple), nested(200_000, tuple), [nested(DEEP, tuple)]):
        event = through(request(body=value))
        assert notes(event)[1] == ["body"]


def test_lists_that_multiply_do_not_fill_the_memory() -> None:
    """Thirty lists of ten lists of ten … are gigabytes of text, and one cycle is endless."""
    value: Any = "x"
    for _ in range(30):
        value = [value] * 10
    ring: dict[str, Any] = {}
    ring["again"] = [ring]
    event = through(request(body=value, route=ring))
    assert notes(event)[0] == ["body", "route"]


def test_a_line_has_no_line_end_even_from_a_fragment() -> None:
    """A Fragment is written by orjson as it is; with a line end in it, it would break the frame."""
    line = encode_line(request(body=orjson.Fragment(b'{\n  "a": 1.50\n}'), path="/"))
    assert b"\n" not in line
    assert contents(decode_line(line)) == contents(through(request(body={"a": 1.5}, path="/")))


def test_raw_json_goes_in_as_json() -> None:
    """msgspec.Raw, which proxies use to pass bodies on, is JSON and not text."""
    line = encode_line(request(body=msgspec.Raw(b'{"a":1}')))
    assert contents(decode_line(line))["body"] == {"a": 1}


# --- Type and id --------------------------------------------------------------------


class _Kind(Enum):
    REQUEST = "request"


@pytest.mark.parametrize(
    "event_id", [ID, str(ID), Identifier(int=ID.int), ID.hex, ID.urn], ids=label
)
@pytest.mark.parametrize("event_type", ["request", Text("request"), _Kind.REQUEST], ids=label)
@pytest.mark.parametrize("body", [{}, "\0"])
def test_type_and_id_may_be_spelled_in_any_way(event_id: Any, event_type: Any, body: Any) -> None:
    """What means a known type and a UUIDv7 is taken, on either way."""
    event = through({"type": event_type, "id": event_id, "body": body})
    assert isinstance(event, RequestEvent)
    assert event.id == ID


@pytest.mark.parametrize(
    "event_id",
    [
        None,
        "",
        "x\n" * 90,
        UUID(int=4 << 76),
        5,
        10**5000,
        BadRepr(),
        UglyRepr(),
        [["x" * 99] * 9] * 9,
    ],
    ids=label,
)
def test_an_event_without_a_uuid7_is_refused(event_id: Any) -> None:
    """The message says what an id must be."""
    with pytest.raises(NotUuid7, match="is not a UUIDv7: mint it with") as caught:
        encode_line({"type": "request", "id": event_id})
    assert is_one_printable_line(str(caught.value))


@pytest.mark.parametrize("read", [decode_line, repair_line])
@pytest.mark.parametrize("event_id", [f'"{UUID(int=(4 << 76) | (2 << 62))}"', "null", "5", '"x"'])
def test_a_line_without_a_uuid7_is_refused(read: Callable[[bytes], Event], event_id: str) -> None:
    """On either way: it would belong to no partition."""
    with pytest.raises(NotUuid7):
        read(f'{{"type":"request","id":{event_id}}}'.encode())


@pytest.mark.parametrize(
    "event_type",
    [None, "banana", ["request"], 10**5000, BadRepr(), UglyRepr(), "\n" * 99],
    ids=label,
)
def test_an_event_of_no_known_type_is_refused(event_type: Any) -> None:
    """The message says what a type must be."""
    with pytest.raises(BadEvent, match='"type" must be "request" or "error"') as caught:
        encode_line({"type": event_type, "id": ID})
    assert is_one_printable_line(str(caught.value))


def test_the_smallest_events() -> None:
    """Type and id are all that is needed."""
    assert decode_line(b'{"type":"request","id":"%s"}' % str(ID).encode()) == RequestEvent(id=ID)
    assert decode_line(b'{"id":"%s","type":"error"}' % str(ID).encode()) == ErrorEvent(id=ID)


# --- Lines from elsewhere -------------------------------------------------------------


def line_of(members: str) -> bytes:
    """Return a request's line with more members, as text."""
    return f'{{"type":"request","id":"{ID}",{members}}}'.encode()


@pytest.mark.parametrize(
    ("members", "column", "expected"),
    [
        ('"body":"\\u0000"', "body", "\0"),  # as it is: the database will say so
        ('"body":{"a":NaN}', "body", {"a": None}),
        ('"body":[Infinity,-Infinity]', "body", [None, None]),
        ('"body":"\\ud800"', "body", "\ufffd"),
        ('"body":"\\ud83d\\ude00"', "body", "😀"),
        ('"body":"a\tb\x01"', "body", "a\tb\x01"),
        ('"model_name":"a\tb"', "model_name", "a\tb"),
        ('"model_name":"\\ud800"', "model_name", "\ufffd"),
        ('"http_status":"200"', "http_status", 200),
        ('"http_status":2e2', "http_status", 200),
        ('"http_status":0e999999999', "extra", None),
        ('"http_status":1e999999999', "extra", None),
        ('"cost":1e400', "extra", None),
        ('"body":1,"body":2', "body", 2),
        ('"x":1,"x":2', "extra", {"x": 2}),
        ('"request_time":"2026-01-31 23:59:59.123456"', "request_time", MOMENT),
        ('"truncated":"body"', "truncated", "body"),
    ],
)
def test_what_breaks_the_contract_is_understood(members: str, column: str, expected: Any) -> None:
    """A line that is not quite as the contract says becomes the event that its author meant."""
    found = contents(decode_line(line_of(members)))
    assert column in found
    assert expected is None or found[column] == expected


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    """In text, in names and in JSON; the line is not lost for it."""
    line = line_of('"model_name":"a?","?":"?","body":"?"').replace(b"?", b"\xff")
    event = decode_line(line)
    found = contents(event)
    assert (found["model_name"], found["body"]) == ("a\ufffd", "\ufffd")
    assert found["extra"]["\ufffd"] == "\ufffd"
    assert set(notes(event)[0]) == {"model_name", "body", "extra"}


@pytest.mark.parametrize("digits", ["1234567", "123456789", "1", "123", "0000005", "9999999"])
def test_both_ways_read_a_time_alike(digits: str) -> None:
    """Go and Rust write nanoseconds: both ways round them to the same microsecond."""
    line = line_of(f'"request_time":"2026-01-31T12:00:00.{digits}Z"')
    assert contents(repair_line(line)) == contents(decode_line(line))


@pytest.mark.parametrize("end", [b"\r", b" ", b"\t\r"])
def test_space_around_a_line_is_no_fault(end: bytes) -> None:
    """CRLF line ends, too."""
    assert decode_line(end + line_of('"path":"/"') + end) == RequestEvent(id=ID, path="/")


HUGE = {
    "100,000 open brackets": b"[" * 100_000,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "an open string of a million escapes": b'{"a":"' + b'\\"' * 1_000_000,
    "an open object of 100,000 levels": b'{"a":' * 100_000,
    "a million quotation marks": b'"' * 1_000_000,
    "a million closed brackets": line_of('"a":0') + b"}" * 1_000_000,
    "a million commas": b"{" + b"," * 1_000_000,
    "a million names": b"{" + b'"a":1,' * 1_000_000 + b"}",
    "an endless number": line_of('"body":' + "9" * 1_000_000),
    "an endless exponent": line_of('"body":1e' + "9" * 1_000_000),
    "an endless name": line_of(f'"{"x" * 1_000_000}":1'),
    "an endless type": line_of(f'"type":{"9" * 100_000}'),
    "an endless id": line_of(f'"id":"{"x" * 100_000}"'),
    "UTF-16": '{"type":"request"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + line_of('"a":1'),
    "nothing": b"",
    "null": b"null",
    "zeros": b"\0" * 1000,
    "control characters": b'{"type":"\x1b[31m\x07"}',
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("line", HUGE.values(), ids=HUGE.keys())
def test_a_hostile_line_is_judged_quickly(line: bytes) -> None:
    """It becomes an event, or BadInput with a message for one line of a log."""
    assert is_one_printable_line(fault_of(decode_line, line))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "number",
    ["9" * 200_000, "-" + "9" * 5_000, "1e999999999", "1e" + "9" * 30, "1e-20000", "-0"],
    ids=label,
)
def test_a_number_beyond_every_type_is_kept_or_noted(number: str) -> None:
    """No number makes a gigabyte, or a minute; what jsonb cannot hold is told by its size."""
    event = repair_line(line_of(f'"body":{number},"cost":{number},"prompt_tokens":{number}'))
    body = contents(event).get("body")
    if number in ("-0", "-" + "9" * 5_000):
        assert body == Decimal(number)
    else:
        assert isinstance(body, str) or body is None
        assert "body" in notes(event)[0]


VALID = encode_line(request(model_name="gpt", body={"a": [1, "\\", None]}, stray=1.5, cost=0.1))

LEGAL = encode_line(request(model_name="gpt", body={"a": [1, "\\", None]}, cost=0.1))
"""As the producer sends it: nothing in it is to be repaired."""


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(max_size=60).map(lambda t: t.encode(errors="replace")))
def test_any_bytes_are_an_event_or_bad_input(line: bytes) -> None:
    """Nothing else is raised."""
    assert is_one_printable_line(fault_of(decode_line, line))
    assert is_one_printable_line(fault_of(repair_line, line))


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_a_damaged_line_is_an_event_or_bad_input(seed: int, times: int) -> None:
    """Cut, doubled, with bytes changed or put in: nothing but BadInput is raised."""
    line = _damaged(VALID, random.Random(seed), times)
    assert is_one_printable_line(fault_of(decode_line, line))
    assert is_one_printable_line(fault_of(repair_line, line))


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(0, 2))
def test_many_lines_at_once_are_what_each_of_them_is(seed: int, times: int) -> None:
    """Read together they are the same events; None only if one needs a repair, or is refused."""
    lines = [LEGAL, _damaged(LEGAL, random.Random(seed), times), LEGAL + b"\n"]
    together = decode_lines(lines)
    try:
        each = [decode_line(line) for line in lines]
    except BadInput:
        assert together is None
    else:
        assert together in (None, each)
    assert times or together is not None


@pytest.mark.parametrize("event_id", ["0198c0f0-0000-4000-8000-000000000000", "no-id"])
def test_many_lines_with_an_id_of_another_kind_are_not_read_together(event_id: str) -> None:
    """The id's version is looked at here, too: its time decides the partition."""
    other = b'{"type":"request","id":"%s"}' % event_id.encode()
    assert decode_lines([LEGAL, other]) is None
    assert decode_lines([LEGAL, LEGAL]) == [decode_line(LEGAL)] * 2


def _damaged(line: bytes, chance: random.Random, times: int) -> bytes:
    pieces = [*b'{}[]",:\\ \n\t\r', *b"0e-.", 0, 0xFF, 0xC3, 0xED]
    for _ in range(times):
        at = chance.randrange(len(line))
        match chance.randrange(4):
            case 0:
                line = line[:at]
            case 1:
                line = line[:at] + bytes([chance.choice(pieces)]) + line[at + 1 :]
            case 2:
                line = line[:at] + bytes([chance.choice(pieces)]) + line[at:]
            case _:
                line = line[:at] + line[at // 2 :]
        line = line or b"{"
    return line


# --- Depth ---------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, DEEP, 100_000])
@pytest.mark.parametrize("column", ["body", "extra", "path", "stray"])
def test_only_the_member_that_is_too_deep_is_capped(column: str, levels: int) -> None:
    """The other columns of the line are as they were, and so are its own brackets and quotes."""
    deep = '[{"a":' * (levels // 2) + '"]}\\"["' + "}]" * (levels // 2) + ""
    deep = f"[{deep}]"
    line = line_of(f'"headers":{{"x":"}}{{\\"["}},"{column}" : {deep} ,"response":[[1],{{"y":[]}}]')
    event = repair_line(line)
    found = contents(event)
    assert (found["headers"], found["response"]) == ({"x": '}{"['}, [[1], {"y": []}])
    marker = found["body"] if column == "body" else found["extra"]
    marker = marker[column] if column in ("path", "stray") else marker
    assert (marker["_truncated"], marker["bytes"]) == (True, len(deep))
    assert deep.startswith(marker["preview"])
    assert notes(event)[1] == [column if column in ("body", "extra") else "extra"]


def test_what_is_just_deep_enough_is_kept() -> None:
    """As many levels as the producer's careful way keeps."""
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    event = repair_line(line_of(f'"body":{deep},"headers":[{deep}]'))
    assert contents(event)["body"] == json.loads(deep)
    assert notes(event) == ([], ["headers"])


@pytest.mark.parametrize("column", ["type", "id", "truncated"])
def test_a_type_an_id_or_notes_too_deep_are_no_crash(column: str) -> None:
    """A member that is read, not only kept, is judged like any other value."""
    line = line_of(f'"{column}":{"[" * 300 + "]" * 300}')
    if column == "truncated":
        assert contents(decode_line(line))["truncated"]
    else:
        with pytest.raises(BadInput):
            decode_line(line)


def test_brackets_in_strings_are_no_levels() -> None:
    """Text full of brackets is not deep."""
    text = json.dumps({"a": "[{" * 300, "b\\": '"[' * 300, "c": [["[" * 300]]})
    assert _without_deep(text) == (text, {})
    wide = json.dumps({"a": [[]] * 300})
    assert _without_deep(wide) == (wide, {})


@settings(max_examples=200)
@given(legal_json(), st.integers(0, 2**32), st.integers(0, 2), st.sampled_from([0, 300]))
@example(value={}, seed=0, times=0, levels=300)
def test_what_is_json_is_decided_by_the_parser(
    value: Any, seed: int, times: int, levels: int
) -> None:
    """A line is read as an object if, and only if, the standard library reads it so."""
    fields = {"deep": nested(levels), "value": value, "deeper": nested(levels, dict)}
    text = json.dumps({"type": "request", "id": str(ID), **fields})
    line = _damaged(text.encode(), random.Random(seed), times) if times else text.encode()
    assume(line.count(b"deep") == 2)
    try:
        expected = isinstance(json.loads(line.decode(errors="replace"), strict=False), dict)
    except ValueError:
        expected = False
    # An object of no known type, or without an id, was read as an object too.
    accepted = not fault_of(repair_line, line).startswith("not ")
    if levels == 0 or not times:
        assert accepted == expected
    else:  # what is inside a member that will be capped is not parsed
        assert accepted or not expected
