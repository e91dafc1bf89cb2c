"""What neither database may hold, told from the event itself; the rest of it stays as it is.

PostgreSQL refuses it: the events of a refused batch are looked through then, and the common batch
pays for its names alone. SQLite takes NUL, lone surrogates, bytes that are no UTF-8 and numbers of
any size without a word, and what reads them later fails: there each line is looked at before.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec

from spoolway.schema import BadInput, ErrorEvent, Event, repair_line
from spoolway.schema.caps import NAME_BYTES, NAMES
from spoolway.schema.columns import COLUMNS, Kind
from spoolway.schema.events import encode_event
from spoolway.schema.jsonable import is_storable_number
from spoolway.worker.stores.base import Item
from spoolway.worker.stores.rows import Several, several

# A surrogate pair is one character; of what else is escaped, only NUL and lone ones are no text.
_ESCAPE: Final = re.compile(
    rb"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u(0000|[dD][89a-fA-F]..)|\\.", re.DOTALL
)
_STRING_OR_NUMBER: Final = re.compile(
    rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?)', re.DOTALL
)
# Of what `_ESCAPE` finds: faster than to look for each, where there are many other escapes.
_find_odd_escape: Final = re.compile(rb"\\u(?:0000|[dD])").search
# Every digit as 0, so that a search for one string finds the numbers that may be too large; signs
# too, so that it is one string. What it finds is mostly another thing with signs in it: a UUID.
_SHAPES: Final = bytes.maketrans(b"123456789+-E", b"00000000000e")
_LONG_EXPONENT: Final = b"0e00000"
_is_long_exponent: Final = re.compile(rb"[0-9][eE][+-]?[0-9]{5}").match
_SOME_DIGITS: Final = b"0" * 64  # looked for first: the other search takes five times as long
_MANY_DIGITS: Final = b"0" * 6_000  # fewer, and an exponent of four digits, fit jsonb's numeric

_check_syntax: Final = msgspec.json.Decoder(msgspec.Raw).decode
"""Checks a line, and builds nothing of it."""

_SHORT: Final = NAME_BYTES // 4  # characters that fit whatever they are


def _values(event_type: str, kind: Kind) -> Several:
    return several([name for name, its in COLUMNS[event_type].items() if its == kind])


def _names(event_type: str) -> Several:
    return several([name for name in NAMES if name in COLUMNS[event_type]])


_REQUEST_NAMES: Final = _names("request")
_ERROR_NAMES: Final = _names("error")
_REQUEST: Final = _values("request", "text"), _values("request", "json")
_ERROR: Final = _values("error", "text"), _values("error", "json")


def with_fitting_names(item: Item) -> Item:
    """Return the item with names that fit their index: the same length on both databases.

    PostgreSQL itself refuses only what is over 2,704 bytes after compression.
    """
    return item if _names_fit(item.event) else repaired(item)


def storable(item: Item) -> Item:
    """Return the item, repaired if there is anything in it that neither database may hold."""
    return item if is_storable(item.event) else repaired(item)


def storable_line(item: Item) -> Item:
    """Return what `storable` does, at the price of a few searches when nothing is wrong."""
    if _is_plain(item.text) and _names_fit(item.event):
        return item
    return storable(item)


def repaired(item: Item) -> Item:
    """Return the item with the event that all of the repair's rules make of its line."""
    try:
        return Item(repair_line(item.text), item.text, item.day)
    except BadInput:
        return item  # as it is: the database has the last word


def json_line(item: Item) -> bytes:
    """Return what a file keeps of an item: its line, or, where that is no JSON, what was made of it.

    A file is read by people and by jq; another language's producer may have sent NaN.
    """
    line = item.line
    try:
        _check_syntax(line)
        if not line.isascii():
            line.decode()  # msgspec skips over what is no UTF-8
    except (ValueError, RecursionError):
        return encode_event(repaired(item).event)
    return line


def is_storable(event: Event) -> bool:
    """Tell whether both databases take the event, and take it for the same."""
    texts, json = _ERROR if isinstance(event, ErrorEvent) else _REQUEST
    return (
        _names_fit(event)
        and not any(text and "\0" in text for text in texts(event))
        and all(_is_plain(raw := bytes(value)) or _is_good_json(raw) for value in json(event))
    )


def _names_fit(event: Event) -> bool:
    names = (_ERROR_NAMES if isinstance(event, ErrorEvent) else _REQUEST_NAMES)(event)
    return sum(map(len, filter(None, names))) <= _SHORT or all(map(_fits, filter(None, names)))


def _fits(name: str) -> bool:
    return len(name) <= _SHORT or len(name.encode()) <= NAME_BYTES


def _is_plain(json: bytes) -> bool:
    """Tell quickly that nothing is wrong; what this does not clear is looked at closely."""
    if not (json.isascii() or _is_utf8(json)):
        return False
    if _find_odd_escape(json):
        return False
    shapes = json.translate(_SHAPES)
    at = shapes.find(_LONG_EXPONENT)
    while at >= 0:
        if _is_long_exponent(json, at):
            return False
        at = shapes.find(_LONG_EXPONENT, at + 1)
    return _SOME_DIGITS not in shapes or _MANY_DIGITS not in shapes


def _is_good_json(json: bytes) -> bool:
    return (
        _is_utf8(json)
        and not any(escape[1] for escape in _ESCAPE.finditer(json))
        and all(_is_numeric(token[1]) for token in _STRING_OR_NUMBER.finditer(json) if token[1])
    )


def _is_utf8(json: bytes) -> bool:
    try:
        json.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_numeric(number: bytes) -> bool:
    try:
        return is_storable_number(Decimal(number.decode()))
    except InvalidOperation:  # an exponent beyond Decimal's own
        return False
