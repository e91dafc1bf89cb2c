"""One dead letter: what it says, and how it is one line of JSON that a person and jq can read."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

UNREADABLE: Final = "unreadable"
"""The reason shown of a line that is no letter: torn by a kill, or damaged since."""
_BASE64: Final = "_base64"


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """One event (or one frame that cannot be read) that did not become a row."""

    reason: str
    """What kind of refusal: bad-frame, oversize, undecodable, not-uuid7, outside-window, refused,
    conflict, damaged."""
    message: str
    raw: bytes
    entry_id: str = ""
    sqlstate: str | None = None
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    """Of an entry that cannot be read: its fields besides `data`, which is `raw`."""


@dataclass(slots=True, frozen=True)
class KeptLetter:
    """One line of a file of dead letters."""

    digest: bytes
    """Of the line's bytes: the same as long as the line is there."""
    file: Path
    line: bytes
    """As it is in the file, without its newline."""
    letter: DeadLetter | None
    """None if the line is not a letter: a kill tore it, or the disk damaged it."""
    first_seen: str = ""

    @property
    def id(self) -> str:
        """What an operator calls it: the beginning of the digest, in hex."""
        return self.digest.hex()[:12]

    @property
    def reason(self) -> str:
        """Its reason; of what is no letter, `UNREADABLE`."""
        return self.letter.reason if self.letter else UNREADABLE


def encode_letter(letter: DeadLetter, now: datetime) -> bytes:
    """Return the line, newline included, of a letter that is first seen now."""
    fields: dict[str, object] = {
        "first_seen": now.isoformat(),
        "reason": letter.reason,
        "sqlstate": letter.sqlstate,
        "message": letter.message,
        "entry_id": letter.entry_id,
    }
    fields |= _readable("raw", letter.raw)
    if letter.fields:
        named = [(name.decode(errors="replace"), value) for name, value in letter.fields.items()]
        fields["fields"] = {
            key: text for name, value in named for key, text in _readable(name, value).items()
        }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _readable(name: str, value: bytes) -> dict[str, str]:
    """Return bytes as text under their name; what is no text, in base64 and named so."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {f"{name}{_BASE64}": base64.b64encode(value).decode()}


def digest_of(line: bytes) -> bytes:
    """Return what tells a line, without its newline, from every other one."""
    return blake2b(line, digest_size=16).digest()


def kept_letter(path: Path, line: bytes) -> KeptLetter:
    """Return what a line of a file, without its newline, is. Whatever its bytes are, it is one."""
    try:
        fields = orjson.loads(line)
        letter, first_seen = _letter(fields), _text(fields["first_seen"])
    except (ValueError, LookupError, TypeError):
        return KeptLetter(digest_of(line), path, line, None)
    return KeptLetter(digest_of(line), path, line, letter, first_seen)


def _letter(fields: Any) -> DeadLetter:
    """Return what `encode_letter` was made of. Raises ValueError, LookupError or TypeError."""
    sqlstate, others = fields["sqlstate"], fields.get("fields", {})
    if not isinstance(others, dict):
        raise TypeError("no fields")
    return DeadLetter(
        _text(fields["reason"]),
        _text(fields["message"]),
        _bytes(fields, "raw"),
        _text(fields["entry_id"]),
        None if sqlstate is None else _text(sqlstate),
        dict(_bytes_of(name, _text(value)) for name, value in others.items()),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _bytes(fields: dict[str, object], name: str) -> bytes:
    for key in (name, name + _BASE64):
        if key in fields:
            return _bytes_of(key, _text(fields[key]))[1]
    raise KeyError(name)


def _bytes_of(name: str, value: str) -> tuple[bytes, bytes]:
    """Return the name and the bytes that `_readable` was given."""
    if name.endswith(_BASE64):
        return name.removesuffix(_BASE64).encode(), base64.b64decode(value, validate=True)
    return name.encode(), value.encode()
