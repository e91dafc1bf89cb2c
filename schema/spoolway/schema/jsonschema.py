"""The wire contract as JSON Schema (2020-12), generated from the structs.

`python -m spoolway.schema.jsonschema` writes the files in `json/`; a test compares them with what
the structs say now.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from spoolway.schema.events import EVENT_TYPES
from spoolway.schema.frame import MAX_FRAME_EVENTS

FOLDER: Final = Path(__file__).parent / "json"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """Return file name → JSON Schema: one line of each event type, and the frame around them."""
    events = {f"{kind}.json": _event(kind) for kind in EVENT_TYPES}
    return {**events, "frame.json": _frame()}


def _event(kind: str) -> dict[str, Any]:
    struct = EVENT_TYPES[kind]
    # msgspec writes no schema for Raw: the same struct, with "any JSON" in its place.
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(struct):
        hint = Any if field.type is msgspec.Raw else field.type
        fields.append((field.name, hint) if field.required else (field.name, hint, None))
    mirror = msgspec.defstruct(struct.__name__, fields, tag_field="type", tag=kind, kw_only=True)
    (_,), components = msgspec.json.schema_components([mirror])
    schema = components[struct.__name__]
    return {
        "$schema": _DIALECT,
        "title": struct.__name__,
        "description": (struct.__doc__ or "").strip(),
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
        # Unknown fields never kill an event: they land in extra (extra_context of an error).
        "additionalProperties": True,
    }


def _frame() -> dict[str, Any]:
    return {
        "$schema": _DIALECT,
        "title": "Frame",
        "description": "The fields of one stream entry. Redis carries each as a string of bytes.",
        "type": "object",
        "properties": {
            "v": {"const": "1", "description": "version of the frame"},
            "codec": {"enum": ["json", "zstd"], "description": "how data is packed"},
            "n": {
                "type": "string",
                "pattern": "^[1-9][0-9]*$",
                "description": f"number of events in data, at most {MAX_FRAME_EVENTS}",
            },
            "data": {
                "type": "string",
                "contentMediaType": "application/jsonl",
                "description": "JSON lines, each an event (request.json or error.json)",
            },
        },
        "required": ["v", "codec", "n", "data"],
    }


def write(folder: Path = FOLDER) -> None:
    """Write the files."""
    folder.mkdir(exist_ok=True)
    for name, schema in schemas().items():
        (folder / name).write_bytes(rendered(schema))


def rendered(schema: dict[str, Any]) -> bytes:
    """Return a schema as it stands in its file."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    write()
