"""Clearing what a state folder keeps on disk: spool, dead letters, archive. Never the database.

Only whole files, only those that were listed before, and none that anybody has locked: a worker, a
proxy or a replay that has a file open keeps its lock (flock) as long.
"""

import fcntl
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from spoolway.spool import DeadLetters, Disk, SpoolFolder
from spoolway.spool.disk import is_same_file, unlock

_DAY: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?!\d)", re.ASCII)
"""What the name of a file that belongs to a UTC day begins with."""
_BLOCK: Final = 1 << 20


@dataclass(slots=True, frozen=True)
class Kept:
    """A file that may be cleared, as it was when it was listed."""

    path: Path
    day: date
    """UTC day of its first event."""
    size: int
    """Bytes."""
    events: int | None
    """Events, or dead letters; None where only unpacking would tell."""


@dataclass(slots=True)
class Cleared:
    """What became of the files of one kind."""

    files: int = 0
    events: int = 0
    bytes: int = 0
    in_use: int = 0
    """Files that stay: somebody has them open, or they have grown since they were listed."""

    def count(self, kept: Kept) -> None:
        """Count one file that is cleared."""
        self.files += 1
        self.events += kept.events or 0
        self.bytes += kept.size


def spooled(folder: Path) -> Iterator[Kept]:
    """Yield the segments of a state folder's spool. Raises OSError."""
    for file in SpoolFolder(folder / "spool").segments():
        try:
            events = file.count_events()
        except OSError:
            events = file.named_events or 0  # it is no more readable to a replay
        yield Kept(file.path, file.began.date(), file.size, events)


def dead(folder: Path) -> Iterator[Kept]:
    """Yield the files of dead letters. Raises OSError."""
    for path in DeadLetters(folder / "dead").files():
        yield from _of_a_day(path, _lines(path))


def archived(folder: Path) -> Iterator[Kept]:
    """Yield the files of the archive. Raises OSError."""
    try:
        paths = sorted((folder / "archive").iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        if path.name.endswith(".jsonl.zst"):
            yield from _of_a_day(path, None)


def clear(listed: Sequence[Kept], *, rehearse: bool = False) -> Cleared:
    """Delete files, or only count them; what is in use stays. Raises OSError."""
    cleared = Cleared()
    disk = Disk()
    for kept in listed:
        # Shared, where it is only a look: two that look do not see each other.
        descriptor = _locked(kept, fcntl.LOCK_SH if rehearse else fcntl.LOCK_EX)
        if descriptor is None:
            cleared.in_use += 1
            continue
        try:
            if not rehearse:
                disk.remove(kept.path)
            cleared.count(kept)
        finally:
            unlock(descriptor)
    for folder in set() if rehearse else {kept.path.parent for kept in listed}:
        disk.sync_folder(folder)
    return cleared


def _locked(kept: Kept, how: int) -> int | None:
    """Open and lock a file that is as it was listed; None if it is in use, has grown, or is gone."""
    try:
        # NONBLOCK: a FIFO of that name would otherwise hold us for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(kept.path, flags)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        if is_same_file(descriptor, kept.path) and os.fstat(descriptor).st_size == kept.size:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def _of_a_day(path: Path, events: int | None) -> Iterator[Kept]:
    """Yield a file if its name begins with a day; another one is not ours to delete."""
    day = _DAY.match(path.name)
    if day is None:
        return
    try:
        status = path.stat(follow_symlinks=False)
        began = date(*map(int, day.groups()))
    except (FileNotFoundError, ValueError):
        return
    if stat.S_ISREG(status.st_mode):
        yield Kept(path, began, status.st_size, events)


def _lines(path: Path) -> int:
    with path.open("rb", buffering=0) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))
