"""Caps: what is too large keeps its size, its SHA-256 and its beginning; the event keeps its cap."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoolway.schema import Caps, decode_line, encode_event, encode_line, new_id, repair_line
from spoolway.schema.caps import KIB, MIB, NAME_BYTES, capped_json, capped_text
from spoolway.schema.columns import COLUMNS
from tests.strategies import contents, error_fields, nested, notes, request_fields

SMALL = Caps(column_bytes=2 * KIB, event_bytes=8 * KIB)
SLACK = 128 * KIB
"""What is left of every column when all are capped, at its worst: text of control characters."""


def request(**fields: Any) -> dict[str, Any]:
    """Return the fields of a request."""
    return {"type": "request", "id": new_id(), **fields}


def test_a_marker_tells_size_hash_and_beginning() -> None:
    """In bytes of the JSON that was there."""
    value = b'{"a":"' + b"x" * 1000 + b'"}'
    marker = json.loads(capped_json(value))
    assert marker == {
        "_truncated": True,
        "bytes": len(value),
        "sha256": hashlib.sha256(value).hexdigest(),
        "preview": value[:256].decode(),
    }


def test_a_preview_ends_between_characters() -> None:
    """Half a character is no text."""
    marker = json.loads(capped_json(b'"a' + "é".encode() * 1000 + b'"'))
    assert marker["preview"] == '"a' + "é" * 127


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=200), st.integers(200, 800))
def test_a_capped_text_keeps_its_limit(text: str, limit: int) -> None:
    """The beginning, then how large it was and its SHA-256, in no more bytes than allowed."""
    capped = capped_text(text, limit)
    digest = hashlib.sha256(text.encode()).hexdigest()
    beginning, _, note = capped.partition("… [truncated: ")
    assert note == f"{len(text.encode())} bytes, sha256 {digest}]"
    assert text.startswith(beginning)
    assert len(capped.encode()) <= limit


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_column_is_capped_above_its_cap_only(size: int) -> None:
    """A JSON value of exactly the cap stays; a byte more, and a marker stands for it."""
    value = "x" * (SMALL.column_bytes - 2 + size)
    event = decode_line(encode_line(request(body=value, path="/"), SMALL))
    found = contents(event)
    assert found["path"] == "/"
    if size <= 0:
        assert (found["body"], notes(event)) == (value, ([], []))
    else:
        assert found["body"]["bytes"] == SMALL.column_bytes + 1
        assert notes(event) == ([], ["body"])


OWN = Caps(
    column_bytes=8 * KIB,
    event_bytes=64 * KIB,
    body_bytes=2 * KIB,
    response_bytes=16 * KIB,
    stream_bytes=4 * KIB,
)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    ("column", "cap"),
    [
        ("body", OWN.body_bytes),
        ("response", OWN.response_bytes),
        ("stream_chunks", OWN.stream_bytes),
        ("route", OWN.column_bytes),
    ],
)
def test_body_response_and_stream_have_caps_of_their_own(column: str, cap: int, size: int) -> None:
    """Smaller or larger than the other columns', and no other column pays for it."""
    value = "x" * (cap - 2 + size)
    event = decode_line(encode_line(request(**{column: value}, extra={"a": 1}), OWN))
    found = contents(event)
    assert found["extra"] == {"a": 1}
    if size:
        assert found[column]["bytes"] == cap + 1
        assert notes(event) == ([], [column])
    else:
        assert (found[column], notes(event)) == (value, ([], []))


def test_a_streams_cap_is_a_quarter_unless_given() -> None:
    """Every stream in progress holds as much in memory; bodies go by the columns' cap."""
    caps = Caps(column_bytes=40 * KIB)
    assert caps.own == {"body": 40 * KIB, "response": 40 * KIB, "stream_chunks": 10 * KIB}
    assert Caps(column_bytes=KIB).of("stream_chunks") == KIB


@pytest.mark.parametrize("name", ["body_bytes", "response_bytes", "stream_bytes"])
@pytest.mark.parametrize("value", [0, 1023, 5 * MIB])
def test_own_caps_that_make_no_sense_are_refused(name: str, value: int) -> None:
    """The message names the cap."""
    with pytest.raises(ValueError, match=f"caps: 1024 <= {name} <= event_bytes"):
        Caps(**{name: value})


@pytest.mark.parametrize("size", [0, 1])
def test_a_text_column_is_capped_above_its_cap_only(size: int) -> None:
    """In bytes of UTF-8."""
    value = "é" * (SMALL.column_bytes // 2) + "x" * size
    event = decode_line(encode_line(request(path=value, body="\0"), SMALL))
    path = contents(event)["path"]
    assert len(path.encode()) <= SMALL.column_bytes
    assert (path == value) == (size == 0)
    assert notes(event)[1] == ["path"][:size]


@pytest.mark.parametrize("event_type", ["request", "error"])
def test_a_text_that_is_indexed_is_capped_early(event_type: str) -> None:
    """PostgreSQL refuses an index entry of over 2,704 bytes: a repair makes it small enough."""
    line = encode_line({"type": event_type, "id": new_id(), "model_name": "x" * 5_000})
    event = repair_line(line)
    assert len(contents(event)["model_name"].encode()) <= NAME_BYTES
    assert notes(event)[1] == ["model_name"]


def test_too_many_levels_are_capped() -> None:
    """Their hash is that of the whole value, whose JSON was written without recursion."""
    value = nested(5_000)
    whole = b"[" * 5_000 + b'"bottom"' + b"]" * 5_000
    event = decode_line(encode_line(request(body=value)))
    body = contents(event)["body"]
    assert (body["bytes"], body["sha256"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert notes(event) == ([], ["body"])


def test_an_error_notes_what_was_capped_in_its_context() -> None:
    """It has no column for it."""
    fields = {"type": "error", "id": new_id(), "extra_context": {"a": 1}}
    event = decode_line(encode_line({**fields, "error_message": "x" * 5_000}, SMALL))
    assert contents(event)["extra_context"] == {"a": 1, "_capped": ["error_message"]}


def test_the_largest_columns_are_capped_first() -> None:
    """Of columns that are all within their own cap, until the event is within its own."""
    sizes = {"headers": 1990, "body": 2000, "route": 1500, "errors": 1980, "response": 1970}
    fields = {name: "x" * size for name, size in sizes.items()}
    event = decode_line(encode_line(request(**fields, path="/"), SMALL))
    assert notes(event)[1] == ["body"]
    assert contents(event)["body"]["bytes"] == 2002
    assert contents(event)["headers"] == fields["headers"]
    assert len(encode_event(event)) <= SMALL.event_bytes + KIB


def test_a_text_is_capped_once_from_what_it_was() -> None:
    """Over its column's cap and then over the event's: size and hash are still the original's."""
    text = "x" * 100_000
    fields = dict.fromkeys(("headers", "body", "route", "errors"), "y" * 1900)
    event = decode_line(encode_line(request(path=text, **fields), SMALL))
    path = contents(event)["path"]
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert path.endswith(f"… [truncated: 100000 bytes, sha256 {digest}]")
    assert path.count("truncated") == 1


def test_what_is_in_extra_counts() -> None:
    """Extra is capped like any other column, and keeps the notes."""
    event = decode_line(encode_line(request(stray="x" * 5_000, body="\0"), SMALL))
    extra = contents(event)["extra"]
    assert (extra["_truncated"], extra["_altered"]) == (True, ["body"])
    assert notes(event) == (["body"], ["extra"])
    columns = dict.fromkeys(("headers", "body", "route", "errors"), "x" * 1_900)
    event = decode_line(encode_line(request(stray="x" * 1_950, **columns), SMALL))
    assert notes(event)[1] == ["extra"]


@pytest.mark.parametrize("event_type", ["request", "error"])
@pytest.mark.parametrize(
    "value", ["x" * 3_000, "\x01" * 3_000, '"' * 3_000, "é" * 3_000], ids=ascii
)
def test_an_event_full_of_medium_columns_keeps_its_cap(event_type: str, value: str) -> None:
    """Every column that can hold it has 3 KB: more than the event may have, less than a column."""
    columns = COLUMNS[event_type]
    names = [name for name, kind in columns.items() if kind in ("text", "json")]
    caps = Caps(column_bytes=20 * KIB, event_bytes=24 * KIB)
    fields = {"type": event_type, "id": new_id(), **dict.fromkeys(names, value)}
    event = decode_line(encode_line(fields, caps))
    assert len(encode_event(event)) <= caps.event_bytes + SLACK
    assert contents(event).keys() >= {*names} - {"truncated"}


def test_the_events_cap_is_one_of_json() -> None:
    """What six bytes stand for in the line counts six times."""
    caps = Caps(column_bytes=1 * MIB, event_bytes=1 * MIB)
    names = ("path", "query", "route", "user_id")
    event = decode_line(encode_line(request(**dict.fromkeys(names, "\x01" * 200_000)), caps))
    assert len(encode_event(event)) <= caps.event_bytes + SLACK


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(request_fields() | error_fields(), st.integers(1, 20))
def test_whatever_it_is_it_keeps_the_events_cap(fields: dict[Any, Any], times: int) -> None:
    """The encoded event is never larger than its cap and what the markers take."""
    fields = {name: [value] * times for name, value in fields.items() if name not in ("type", "id")}
    event_type = "error" if times % 2 else "request"
    line = encode_line({"type": event_type, "id": new_id(), **fields}, SMALL)
    assert len(line) <= SMALL.event_bytes + SLACK
    assert contents(repair_line(line, SMALL)) == contents(decode_line(line))


def test_a_repair_does_not_cut_what_the_producer_sent() -> None:
    """A producer with larger caps than the default, and an unknown field: nothing is capped."""
    caps = Caps(column_bytes=8 * MIB, event_bytes=16 * MIB)
    line = encode_line(request(body="x" * (6 * MIB), stray=1), caps)
    assert notes(decode_line(line)) == ([], [])


@pytest.mark.parametrize(
    ("column_bytes", "event_bytes"), [(0, 4096), (1023, 4096), (8192, 4096), (4096, 17 * MIB)]
)
def test_caps_that_make_no_sense_are_refused(column_bytes: int, event_bytes: int) -> None:
    """The message names the caps."""
    with pytest.raises(ValueError, match="caps: "):
        Caps(column_bytes, event_bytes)
