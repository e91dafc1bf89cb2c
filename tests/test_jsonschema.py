"""The published wire contract: generated from the structs, valid, and true of what is sent."""

import json
import re
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings

from spoolway.schema import FrameEncoder, decode_frame, encode_line, new_id
from spoolway.schema.columns import COLUMNS
from spoolway.schema.events import EVENT_TYPES
from spoolway.schema.frame import MAX_FRAME_EVENTS
from spoolway.schema.jsonschema import FOLDER, rendered, schemas, write
from tests.strategies import MOMENT, legal_fields

VALIDATORS = {
    name.removesuffix(".json"): jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    for name, schema in schemas().items()
}


def as_redis_gives_it(fields: dict[str, Any]) -> dict[str, str]:
    """Return an entry's fields as text, as a Redis client with decoding on returns them."""
    return {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in fields.items()
    }


def test_the_files_are_what_the_structs_say() -> None:
    """The contract in the repository is the one in the code."""
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    generated = {name: rendered(schema) for name, schema in schemas().items()}
    assert files == generated, "run `python -m spoolway.schema.jsonschema`"


def test_the_files_can_be_written_anew(tmp_path: Any) -> None:
    """What `python -m spoolway.schema.jsonschema` does."""
    write(tmp_path / "json")
    assert sorted(path.name for path in (tmp_path / "json").iterdir()) == sorted(schemas())


@pytest.mark.parametrize("name", schemas())
def test_a_schema_is_valid_json_schema(name: str) -> None:
    """By the meta-schema of the dialect that it names."""
    schema = schemas()[name]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"]
    assert schema["description"]


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_a_schema_names_every_column(kind: str) -> None:
    """And no field that has no column."""
    schema = schemas()[f"{kind}.json"]
    assert set(schema["properties"]) == {"type", *COLUMNS[kind]}
    assert sorted(schema["required"]) == ["id", "type"]


@settings(max_examples=60)
@given(legal_fields())
def test_what_the_producer_sends_is_valid(fields: dict[str, Any]) -> None:
    """A line from legal fields, and the frame around it, keep the contract."""
    line = encode_line(fields)
    VALIDATORS[fields["type"]].validate(json.loads(line))
    entry = as_redis_gives_it(FrameEncoder("json").encode([line], 1))
    VALIDATORS["frame"].validate(entry)


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_the_smallest_event_is_valid(kind: str) -> None:
    """Type and id; and null is as good as absent."""
    smallest = {"type": kind, "id": str(new_id())}
    VALIDATORS[kind].validate(smallest)
    nothing = {name: None for name in COLUMNS[kind] if name != "id"}
    VALIDATORS[kind].validate({**smallest, **nothing})
    VALIDATORS[kind].validate({**smallest, "unknown": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"type": "error"},
        {"type": None},
        {"id": None},
        {"id": 5},
        {"id": "not a uuid"},
        {"http_status": "200"},
        {"http_status": 200.5},
        {"http_status": 2**63},
        {"model_name": 5},
        {"is_stream": 1},
        {"duration_ms": "fast"},
        {"outcome": "done"},
        {"request_time": 1_700_000_000},
    ],
    ids=repr,
)
def test_a_wrong_type_is_not_valid(change: dict[str, Any]) -> None:
    """What a worker has to repair or refuse, an author finds by the schema."""
    right = {"type": "request", "id": str(new_id()), "request_time": MOMENT.isoformat()}
    VALIDATORS["request"].validate(right)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATORS["request"].validate({**right, **change})


@pytest.mark.parametrize(
    "change",
    [{"v": "2"}, {"codec": "gzip"}, {"n": "0"}, {"n": "03"}, {"n": "three"}, {"data": None}],
    ids=repr,
)
def test_a_frame_is_valid_when_the_worker_takes_it(change: dict[str, Any]) -> None:
    """The smallest frame is valid and is read; a broken one is neither."""
    right = {"v": "1", "codec": "json", "n": "1", "data": "{}"}
    VALIDATORS["frame"].validate(right)
    assert decode_frame({name.encode(): value.encode() for name, value in right.items()})
    broken = {name: value for name, value in {**right, **change}.items() if value is not None}
    with pytest.raises(jsonschema.ValidationError):
        VALIDATORS["frame"].validate(broken)
    with pytest.raises(ValueError, match=re.escape(next(iter(change)))):
        decode_frame({name.encode(): value.encode() for name, value in broken.items()})


def test_the_frames_schema_tells_the_limit() -> None:
    """A pattern cannot count; the description does."""
    assert str(MAX_FRAME_EVENTS) in schemas()["frame.json"]["properties"]["n"]["description"]


def test_a_file_ends_with_a_line_end() -> None:
    """So that it is a text file."""
    assert rendered({"a": 1}) == orjson.dumps({"a": 1}, option=orjson.OPT_INDENT_2) + b"\n"
