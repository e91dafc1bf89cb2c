"""Dead letters: what could not be stored, with its raw bytes and the reason, on disk.

One JSON line each in SPOOLWAY_DIR/dead/<UTC date>.jsonl, fsynced before the entry it came from is
acknowledged. `jq .` reads it.
"""

import asyncio
import base64
import errno
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """One event (or one frame that cannot be read) that did not become a row."""

    reason: str
    """What kind of refusal: bad-frame, undecodable, not-uuid7, outside-window, refused, conflict."""
    message: str
    raw: bytes
    entry_id: str = ""
    sqlstate: str | None = None
    fields: Mapping[bytes, bytes] = field(default_factory=dict)
    """Of an entry that cannot be read: its fields besides `data`, which is `raw`."""


class DeadLetters:
    """The folder of dead letters."""

    def __init__(
        self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._folder = folder
        self._now = now

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return when the letters are on disk. Raises OSError: then they must not be acked."""
        if letters:
            await asyncio.to_thread(self._append, letters)

    def _append(self, letters: Sequence[DeadLetter]) -> None:
        now = self._now()
        lines = b"".join(_line(letter, now) for letter in letters)
        if not self._folder.exists():
            self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _sync_folder(self._folder.parent)
        path = self._folder / f"{now:%Y-%m-%d}.jsonl"
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, FILE_MODE)
        try:
            # Workers may share the folder: one after the other, and let go of by the kernel.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            lines = _closing_of_torn_line(descriptor) + lines
            written = os.write(descriptor, lines)
            if written < len(lines):
                full = os.strerror(errno.ENOSPC)
                raise OSError(
                    errno.ENOSPC, f"{full}: {written} of {len(lines)} bytes written", str(path)
                )
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            _sync_folder(self._folder)


def _closing_of_torn_line(descriptor: int) -> bytes:
    """Return the newline that a full disk, or a kill in the middle of a write, left out."""
    size = os.fstat(descriptor).st_size
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


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut: fsync of the file alone keeps its bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
