"""One event as one JSON line: written in the producer, read in the worker.

Each direction has a fast way that pays for nothing it does not need, and falls back to
`normalise` for whatever the fast way refuses.
"""

import re
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import orjson

from spoolway.schema.caps import MIB, Caps
from spoolway.schema.errors import BadEvent, NotUuid7, shown
from spoolway.schema.events import Event
from spoolway.schema.ids import is_uuid7
from spoolway.schema.jsonable import MAX_DEPTH, Parsed, clean_text, parse_exact, represent
from spoolway.schema.normalise import TooDeep, identity, normalise, normalised_line

DEFAULT_CAPS: Final = Caps()
REPAIR_CAPS: Final = Caps(16 * MIB, 16 * MIB, stream_bytes=16 * MIB)
"""A repair must not cut what the producer was allowed to send: the largest caps there are."""


def encode_line(fields: Mapping[str, object], caps: Caps = DEFAULT_CAPS) -> bytes:
    """Encode the fields of one event, whatever their values are, to one JSON line.

    `type` and `id` must be there and right; every other value may be anything. The line has no
    newline in it and none at its end.

    Raises:
        BadInput: `type` or `id` is wrong; the message says what is expected.
    """
    identity(fields)
    if not _is_plain(fields, caps.column_bytes // 2):
        return normalised_line(fields, caps)
    try:
        line = orjson.dumps(fields, default=represent, option=orjson.OPT_NAIVE_UTC)
    except TypeError:  # orjson.JSONEncodeError: a lone surrogate, 65 bits, a key that is no string
        return normalised_line(fields, caps)
    # An escaped NUL, or the legal text \\u0000, which stays as it is. From its end, because CPython
    # needs half the time for that.
    if line.rfind(_NUL) >= 0 or (len(line) > caps.least and _is_too_large(fields, line, caps)):
        return normalised_line(fields, caps)
    return line


def _is_too_large(fields: Mapping[str, object], line: bytes, caps: Caps) -> bool:
    """Tell whether the whole line, or a column that has a smaller cap of its own, is over it."""
    return len(line) > caps.column_bytes or any(
        len(line) > limit
        and fields.get(column) is not None
        and len(orjson.dumps(fields[column], default=represent)) > limit
        for column, limit in caps.own.items()
    )


_NUL: Final = rb"\u0000"
# Not `time`: orjson 3.13.0 writes time(0, 0, 0, 10_000), a hundredth of a second, as a tenth.
# Nor dataclasses: it writes cached properties and other attributes, too.
_PLAIN: Final = frozenset(
    {str, int, bool, type(None), bytes, Decimal, datetime, date, UUID, Parsed}
)
_MAPPINGS: Final = frozenset({dict, defaultdict, OrderedDict})


def _is_plain(fields: Mapping[str, object], most: int) -> bool:
    """Tell whether orjson can be trusted with the values: at most so many, of types it knows.

    It writes NaN as null and does not tell. It follows tuples in tuples to any depth (3.12, 3.13:
    after 2,000 levels it writes past its buffer, and the process dies), and a list of lists of the
    same list until the memory is full.
    """
    values: list[Any] = [*fields.values()]
    for value in values:  # which grows while it is walked
        kind = type(value)
        if kind is str or kind is int or kind in _PLAIN:  # most are one of the first two
            continue
        if kind is float:
            if isfinite(value):
                continue
            return False
        # `+=` copies in one step: another thread may change the container.
        if kind is dict or kind in _MAPPINGS:
            values += value.values()
        elif kind is list or (kind is tuple and tuple not in map(type, value)):
            values += value
        elif not issubclass(kind, (str, int)):
            return False
        if len(values) > most:
            return False
    return True


_decode: Final = msgspec.json.Decoder(Event).decode
_NOT_DECODED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_lines(lines: Sequence[bytes]) -> list[Event] | None:
    """Read many events at once; None if there is one that `decode_line` would repair, or refuse."""
    try:
        events: list[Event] = list(map(_decode, lines))
    except _NOT_DECODED:
        return None
    return events if all(map(is_uuid7, [event.id for event in events])) else None


def decode_line(line: bytes) -> Event:
    """Read one event; what breaks the contract but can be understood is repaired and marked.

    Raises:
        BadInput: not JSON, no known type, or no UUIDv7; the message tells the author what to fix.
    """
    try:
        event: Event = _decode(line)
    except _NOT_DECODED:
        return repair_line(line)
    if not is_uuid7(event.id):
        raise NotUuid7(event.id)
    return event


def repair_line(line: bytes, caps: Caps = REPAIR_CAPS) -> Event:
    """Read one event by the rules of `normalise`, value by value; raises as `decode_line` does."""
    # Bytes that are no UTF-8 become lone surrogates, so that the repair of the value sees them.
    text, deep = _without_deep(line.decode(errors="surrogateescape"))
    try:
        members = parse_exact(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent(_not_json(error, text)) from error
    if not isinstance(members, dict):
        raise BadEvent(
            f"not a JSON object but {_JSON_NAMES.get(type(members), 'a number')}: {shown(text)}; "
            f"{_EXPECTED}"
        )
    if deep:
        members = {
            name: deep.get(value, value) if isinstance(value, str) else value
            for name, value in members.items()
        }
    return normalise(members, caps)


_EXPECTED: Final = 'each line is one event, such as {"type":"request","id":"<a UUIDv7>"}'
_JSON_NAMES: Final[dict[type, str]] = {
    list: "an array",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


def _not_json(error: Exception, text: str) -> str:
    """Say what a line is that cannot be parsed, and where that begins."""
    if not text.strip():
        return f"an empty line: {_EXPECTED}"
    at = getattr(error, "pos", 0)  # a RecursionError has none
    return f"not JSON: {error}, near {shown(text[max(at - 28, 0) : at + 28])}; {_EXPECTED}"


_ESCAPED: Final = re.compile(r"\\.", re.DOTALL)
_STRING_OR_BRACKET: Final = re.compile(r'"[^"]*"?|[\[{]|[\]}]')


def _without_deep(text: str) -> tuple[str, dict[str, TooDeep]]:
    """Take out the members that are nested deeper than is kept: no parser may recurse into them.

    In their place is a string that stands for them.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return text, {}
    deep: dict[str, TooDeep] = {}
    kept = []
    depth = deepest = start = end = 0
    # Escapes are two characters here and there: the positions stay.
    for token in _STRING_OR_BRACKET.finditer(_ESCAPED.sub("__", text)):
        symbol = token[0]
        if symbol in "[{":
            depth += 1
            if depth == 2:
                start, deepest = token.start(), 2
            deepest = max(deepest, depth)
        elif symbol in "]}":
            depth -= 1
            if depth == 1 and deepest > MAX_DEPTH + 1:
                placeholder = str(uuid4())
                deep[placeholder] = TooDeep(clean_text(text[start : token.end()]).encode())
                kept += [text[end:start], f'"{placeholder}"']
                end, deepest = token.end(), 0
    return "".join([*kept, text[end:]]), deep
