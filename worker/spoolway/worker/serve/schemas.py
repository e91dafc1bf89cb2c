"""JSON Schemas of what is answered, in short: records have all of their fields, and no others."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double

from spoolway.schema.tables import UtcTime, UuidText

Schema = Mapping[str, Any]

TEXT: Final[Schema] = {"type": "string"}
TRUTH: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
NUMBER: Final[Schema] = {"type": "number"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
ID: Final[Schema] = {"type": "string", "format": "uuid"}
ANYTHING: Final[Schema] = {}


def nullable(schema: Schema) -> Schema:
    """The same, or null."""
    if isinstance(schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def record(**fields: Schema) -> Schema:
    """An object of these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def list_of(schema: Schema) -> Schema:
    """Several in order."""
    return {"type": "array", "items": schema}


def any_keys(schema: Schema) -> Schema:
    """An object whose keys come from the data."""
    return {"type": "object", "additionalProperties": schema}


ERROR: Final = record(error=record(code=TEXT, message=TEXT))


def row_of(columns: Iterable[Column[Any]]) -> Schema:
    """A row of a table."""
    return record(**{column.name: _of_column(column) for column in columns})


def _of_column(column: Column[Any]) -> Schema:
    match column.type:
        case JSON():
            return ANYTHING
        case UuidText():
            schema = ID
        case UtcTime():
            schema = TIME
        case Boolean():
            schema = TRUTH
        case BigInteger():
            schema = {"type": "integer"}
        case Double():
            schema = NUMBER
        case _:
            schema = TEXT
    return nullable(schema) if column.nullable else schema
