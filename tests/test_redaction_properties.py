"""Whatever an event holds: it stays readable, nothing else changes, and no secret survives."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from spoolway.producer import Redaction
from spoolway.schema import Caps, decode_line, encode_line, new_id
from spoolway.schema.columns import COLUMNS
from tests.secrets_corpus import remains, secrets
from tests.strategies import error_fields, legal_fields, request_fields

RE2, RE = Redaction(engine="re2"), Redaction(engine="re")
SECRETS = secrets()
REDACTED = "[redacted]"


def fail(error: Exception) -> None:
    """There is nothing in here that may fail."""
    raise error


def line_of(redaction: Redaction, fields: Any, caps: Caps | None = None) -> bytes:
    """The line that would be pushed."""
    line = redaction.encoded(fields, caps or Caps(), fail)
    assert line is not None
    return line


@given(legal_fields() | request_fields() | error_fields())
def test_every_event_stays_an_event(fields: dict[Any, Any]) -> None:
    """It can be decoded, has its id, and looks the same to both engines and a second time."""
    line = line_of(RE2, fields)

    assert decode_line(line).id == fields["id"]
    assert RE2.line(line) == line
    assert RE.line(encode_line(fields)) == RE2.line(encode_line(fields))


def same_but_for_secrets(before: Any, after: Any) -> bool:
    """Whether two values differ only where one has been replaced, or cut before it."""
    if before == after:
        return True
    if isinstance(after, str) and REDACTED in after:
        return True
    if isinstance(before, dict) and isinstance(after, dict):
        if REDACTED in str(list(after)):  # in a key
            return True
        return before.keys() == after.keys() and all(
            same_but_for_secrets(before[key], after[key]) for key in before
        )
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(same_but_for_secrets, before, after))
    return isinstance(before, str) and isinstance(after, str) and before.startswith(after)


PIECES = [
    *("\"'\\{}[]:,=&?;@/ \n\t`<>_-.()"),
    *('\\"', "://", "%3D", "%20", "password", "token", "api_key", "apiKey", "secret", "cookie: "),
    *("credentials", "authorization", "Bearer ", "Basic ", "x", "123456", "hunter2", "abcdefgh"),
    *('"value":', "logprob", "id", "key", "code", "sk-", "eyJ", REDACTED, '"headers":{', "é", "😀"),
    *("\x01", "… [truncated: 5 bytes, sha256 " + "a" * 64 + "]", "max_", "must be", "\\u0041"),
    *('"type":"string"', "==", "-----BEGIN PRIVATE" + " KEY-----", *list(SECRETS.values())[::6]),
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
KEYS = st.sampled_from(["a", "password", "token", "headers", "logprob", "name", "value"]) | TEXT
TANGLED = st.recursive(
    TEXT | st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False),
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(inner, max_size=4)
        | inner.map(json.dumps)
        | inner.map(repr)
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(TANGLED)
def test_however_tangled_a_text_is_the_line_stays_json(value: Any) -> None:
    """Names, quotation marks, escapes and halves of secrets in any order: JSON, and done at once."""
    before = orjson.dumps({"type": "request", "value": value})
    after = RE2.line(before)

    assert same_but_for_secrets(orjson.loads(before), orjson.loads(after))
    assert RE2.line(after) == after
    assert RE.line(before) == after


@dataclass
class Object:
    """What a proxy may keep instead of a dict."""

    content: Any


WRAPPED: list[Callable[[Any], Any]] = [
    lambda value: {"key": value, "n": 1},
    lambda value: {str(value): 1} if isinstance(value, str) else {"k": value},
    lambda value: ["first", value],
    lambda value: (value, None),
    Object,
    json.dumps,
    repr,
    str,
    lambda value: [["x-header", value]],
    lambda value: {"headers": {"x-any": value}},
    lambda value: {"headers": [["x-any", value], ["host", "h"]]},
    lambda value: f"before {value} after",
    lambda value: f"ConnectError: https://host/v1?key={value}&x=1",
    lambda value: f"{{'password': '{value}', 'a': 1}}",
    lambda value: RuntimeError(f"no answer to {value}"),
]


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(SECRETS)),
    st.lists(st.sampled_from(range(len(WRAPPED))), max_size=4),
    st.sampled_from(["request", "error"]),
    st.data(),
)
def test_no_secret_survives_in_any_place(
    family: str, wrappings: list[int], event_type: str, data: st.DataObject
) -> None:
    """In any column, at any depth: as a key, in lists, JSON in strings, URLs, reprs, objects."""
    value: Any = SECRETS[family]
    for number in wrappings:
        if isinstance(value, (Object, RuntimeError, tuple)) and WRAPPED[number] is json.dumps:
            continue
        try:
            value = WRAPPED[number](value)
        except TypeError:  # no JSON
            continue
    columns = [name for name, kind in COLUMNS[event_type].items() if kind in ("json", "text")]
    column = data.draw(st.sampled_from([*columns, "extra", "extra_context", "unknown"]))
    line = line_of(RE2, {"type": event_type, "id": new_id(), column: value})

    assert orjson.loads(line)
    assert [part for part in remains(SECRETS[family]) if part in line] == []


@given(st.sampled_from(sorted(SECRETS)), st.integers(0, 300), st.sampled_from([1024, 2048]))
def test_no_secret_survives_in_what_is_capped(family: str, before: int, cap: int) -> None:
    """Wherever the beginning of a capped value ends."""
    text = "w " * (before // 2) + "." * (before % 2) + SECRETS[family] + " y" * cap
    fields = {
        "type": "request",
        "id": new_id(),
        "body": {"messages": [text]},
        "response": json.dumps({"a": text}),
        "path": "/" + "w " * ((cap - 200) // 2 - before) + SECRETS[family] + " y" * cap,
        "unknown": [text],
    }
    line = line_of(RE2, fields, Caps(column_bytes=cap))

    assert orjson.loads(line)
    assert [part for part in remains(SECRETS[family]) if part in line] == []
