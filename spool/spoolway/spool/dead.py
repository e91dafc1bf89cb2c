"""Dead letters: what could not be stored, with its raw bytes and the reason, on disk.

One JSON line each in <folder>/<UTC date>.jsonl, fsynced before what it came from is acknowledged or
deleted. `jq .` reads it.
"""

import base64
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson

from spoolway.spool.disk import FILE_MODE, Disk, is_same_file, write_all


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


class DeadLetters:
    """The folder of dead letters. Any number of processes may share it."""

    def __init__(
        self,
        folder: Path,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self._now = now
        self._disk = disk or Disk()

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return when the letters are on disk. Raises OSError: then none of them is."""
        if not letters:
            return
        now = self._now()
        lines = b"".join(_line(letter, now) for letter in letters)
        self._disk.make_folder(self.folder)
        path = self.folder / f"{now:%Y-%m-%d}.jsonl"
        is_new = not path.exists()
        descriptor = _open_locked(path)
        try:
            size = os.fstat(descriptor).st_size
            lines = _closing_of_torn_line(descriptor, size) + lines
            try:
                write_all(self._disk, descriptor, lines)
                self._disk.sync(descriptor)
            except OSError:
                self._disk.truncate(descriptor, size)  # it is tried again: not twice
                raise
        finally:
            os.close(descriptor)
        if is_new:
            self._disk.sync_folder(self.folder)


def _open_locked(path: Path) -> int:
    """Open the file to append to; writers take turns, and nobody writes to one that was replaced."""
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


def _closing_of_torn_line(descriptor: int, size: int) -> bytes:
    """Return the newline that a kill in the middle of a write left out."""
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    return b"\n" if torn else b""


def _line(letter: DeadLetter, now: datetime) -> bytes:
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
        return {f"{name}_base64": base64.b64encode(value).decode()}
