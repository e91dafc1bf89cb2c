"""What a row says, whichever database it is read from: the bytes that a checksum is made of.

Two databases hold the same JSON in other words (jsonb orders keys, writes 1e2 as 100 and drops all
spaces), the same time in other types, and a flag as a number. A digest is of the meaning alone.
"""

import json
from datetime import UTC, datetime
from decimal import MAX_PREC, Context, InvalidOperation
from hashlib import blake2b
from typing import Any, Final

import orjson

from spoolway.schema.columns import COLUMNS
from spoolway.worker.stores.rows import sqlite_time

_EXACT: Final = Context(prec=MAX_PREC, Emax=10**9, Emin=-(10**9))
_DIGITS: Final = 20
"""Of the largest whole number that orjson writes."""
BITS: Final = 128
MODULUS: Final = 1 << BITS
"""Digests are added up modulo this: the sum is the same in any order of the rows."""


class Digests:
    """Digests of the rows of one event type, whose values are in the order of its struct."""

    def __init__(self, event_type: str) -> None:
        kinds = list(COLUMNS[event_type].values())
        self._at = {
            kind: [at for at, one in enumerate(kinds) if one == kind]
            for kind in ("id", "time", "json", "flag", "real")
        }

    def of(self, row: tuple[Any, ...]) -> int:
        """Return the digest of a row."""
        values: list[Any] = list(row)
        at = self._at
        for index in at["id"]:
            if values[index] is not None:
                values[index] = str(values[index])
        for index in at["time"]:
            values[index] = time_text(values[index])
        for index in at["json"]:
            values[index] = _canonical(values[index])
        for index in at["flag"]:
            if values[index] is not None:
                values[index] = bool(values[index])
        for index in at["real"]:
            if values[index] is not None:
                values[index] = float(values[index]) + 0.0  # -0.0 is 0.0
        return _digest(_row(values))


def stored_digest(digest: int, stored_at: str | None) -> int:
    """Return the digest of a row and of when it was stored."""
    return _digest(b"%x %s" % (digest, (stored_at or "").encode()))


def _digest(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=BITS // 8).digest())


def time_text(value: Any) -> str | None:
    """Return a time as SQLite's text of it, in UTC and microseconds; what is no time, as text."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        text = str(value)
        if len(text) == 26 and text[10] == " ":  # as Spoolway wrote it
            return text
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            return text
    return sqlite_time(value if value.tzinfo else value.replace(tzinfo=UTC))


def _canonical(value: Any) -> Any:
    """Return JSON that says the same in one way: keys in order, numbers without their spelling."""
    text = value if isinstance(value, str) else bytes(value) if value is not None else b""
    if not text or text in ("null", b"null"):
        return None
    try:
        return orjson.Fragment(_encoded(json.loads(text, parse_float=_number)))
    except (TypeError, ValueError, RecursionError, InvalidOperation):
        pass
    try:  # a whole number of more than 64 bits
        parsed = json.loads(text, parse_float=_number, parse_int=_number)
        return orjson.Fragment(_encoded(parsed))
    except (TypeError, ValueError, RecursionError, InvalidOperation):
        return text if isinstance(text, str) else text.decode(errors="replace")


def _number(digits: str) -> Any:
    """Return every digit of a number, in one spelling: 1.50, 15e-1 and 1.5 are one."""
    number = _EXACT.normalize(_EXACT.create_decimal(digits))
    if not number:
        return 0
    sign, shown, exponent = number.as_tuple()
    if isinstance(exponent, int) and exponent >= 0 and number.adjusted() < _DIGITS:
        whole = int(number)
        if -(2**63) <= whole < 2**64:
            return whole  # as the first attempt has it, which leaves whole numbers to orjson
    return orjson.Fragment(f"{'-' if sign else ''}{''.join(map(str, shown))}e{exponent}")


def _encoded(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _row(values: list[Any]) -> bytes:
    try:
        return _encoded(values)
    except TypeError:  # an SQLite file may hold what no database may: lone surrogates, bytes
        return _encoded([ascii(value) for value in values])
