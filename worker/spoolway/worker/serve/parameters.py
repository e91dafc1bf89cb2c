"""What may be asked: every parameter with its type, for reading a URL and for the OpenAPI document."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from spoolway.worker.config.options import nearest
from spoolway.worker.reading.failures import BadQuery

MOST_PARAMETERS: Final = 100
"""In one URL, repeated ones counted each."""
LONGEST_TEXT: Final = 512
"""Characters."""
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_PLAIN: Final = r"^[^\u0000]*$"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """Of a single value, as JSON Schema."""
    read: Callable[[str], Any]
    """Return the value of a text. Raises ValueError: what it must be."""
    default: Any = None
    is_repeatable: bool = False
    """Then its value is a tuple, empty without any."""


def text(
    name: str, description: str, *, longest: int = LONGEST_TEXT, is_repeatable: bool = False
) -> Parameter:
    """Any text without the character NUL, which no database stores."""

    def read(value: str) -> str:
        if len(value) > longest:
            raise ValueError(f"is longer than {longest} characters")
        if "\0" in value:
            raise ValueError("has the character NUL in it")
        return value

    schema = {"type": "string", "maxLength": longest, "pattern": _PLAIN}
    return Parameter(name, description, schema, read, is_repeatable=is_repeatable)


def integer(name: str, description: str, least: int, most: int, default: int | None) -> Parameter:
    """A whole number."""

    def read(value: str) -> int:
        number = int(value) if _INTEGER.fullmatch(value) else None
        if number is None or not least <= number <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return number

    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    if default is not None:
        schema["default"] = default
    return Parameter(name, description, schema, read, default)


def number(name: str, description: str) -> Parameter:
    """A number that is not negative."""

    def read(value: str) -> float:
        if not _NUMBER.fullmatch(value):
            raise ValueError("must be a number, 0 or more")
        return float(value)

    return Parameter(name, description, {"type": "number", "minimum": 0}, read)


def identifier(name: str, description: str) -> Parameter:
    """A UUID in its 36 characters."""

    def read(value: str) -> UUID:
        if not _UUID.fullmatch(value):
            raise ValueError("must be a UUID: 8-4-4-4-12 hexadecimal digits")
        return UUID(value)

    return Parameter(name, description, {"type": "string", "format": "uuid"}, read)


def choice(
    name: str,
    description: str,
    values: Sequence[str],
    default: str | None = None,
    *,
    is_repeatable: bool = False,
) -> Parameter:
    """One of a few words."""

    def read(value: str) -> str:
        if value not in values:
            known = [each for each in values if each]
            raise ValueError(f"must be one of {', '.join(known)}{nearest(value, known)}")
        return value

    schema: dict[str, Any] = {"type": "string", "enum": list(values)}
    if default is not None:
        schema["default"] = default
    return Parameter(name, description, schema, read, default, is_repeatable)


def flag(name: str, description: str, default: bool | None = None) -> Parameter:
    """Yes or no."""

    def read(value: str) -> bool:
        if value not in _FLAGS:
            raise ValueError("must be true or false")
        return _FLAGS[value]

    schema: dict[str, Any] = {"type": "string", "enum": list(_FLAGS)}
    if default is not None:
        schema["default"] = str(default).lower()
    return Parameter(name, description, schema, read, default)


def read_query(query: bytes, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the value of every parameter, its default where it is not given.

    Raises:
        BadQuery: a parameter that is not known, given twice, or not what it must be.
    """
    known = {parameter.name: parameter for parameter in parameters}
    found: dict[str, Any] = {
        name: () if parameter.is_repeatable else parameter.default
        for name, parameter in known.items()
    }
    given: set[str] = set()
    for name, value in _pairs(query):
        parameter = known.get(name)
        if parameter is None:
            raise BadQuery(
                f"there is no parameter {_shown(name)} here{nearest(name, known)}; there are: "
                f"{', '.join(known) or 'none'}"
            )
        try:
            read = parameter.read(value)
        except ValueError as error:
            raise BadQuery(f"{name} {error}") from None
        if parameter.is_repeatable:
            found[name] += (read,)
        elif name in given:
            raise BadQuery(f"{name} is given twice")
        else:
            found[name] = read
        given.add(name)
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_PARAMETERS,
        )
    except UnicodeError:
        raise BadQuery("the URL's query is no percent-encoded UTF-8") from None
    except ValueError:
        raise BadQuery(f"the URL has more than {MOST_PARAMETERS} parameters") from None


def _shown(name: str) -> str:
    """Return a name as somebody typed it, if it is one."""
    return name if re.fullmatch(r"[\w.\[\]-]{1,40}", name) else "of that name"
