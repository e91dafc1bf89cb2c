"""Dead letters: what could not be stored, with its raw bytes and the reason, on disk.

One JSON line each in <folder>/<UTC date>.jsonl, fsynced before what it came from is acknowledged or
deleted. `jq .` reads it. A letter goes away by its file being made anew without it, never in place.
"""

import fcntl
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import IO, Final

from spoolway.schema.caps import MIB
from spoolway.spool.disk import FILE_MODE, Disk, create_locked, is_same_file, write_all
from spoolway.spool.letter import DeadLetter, KeptLetter, digest_of, encode_letter, kept_letter

_MOST_LINE_BYTES: Final = 256 * MIB
"""A frame of 32 MiB takes six times as much when each of its bytes is escaped."""
_TEMPORARY: Final = ".tmp"


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
        lines = b"".join(encode_letter(letter, now) for letter in letters)
        self._disk.make_folder(self.folder)
        descriptor = _open_locked(self.folder / f"{now:%Y-%m-%d}.jsonl")
        try:
            size = os.fstat(descriptor).st_size
            lines = _closing_of_torn_line(descriptor, size) + lines
            try:
                write_all(self._disk, descriptor, lines)
                self._disk.sync(descriptor)
                # Also where the file was there: whoever made it, or put it in another's place, may
                # have been killed before its name was synced.
                self._disk.sync_folder(self.folder)
            except OSError:
                self._disk.truncate(descriptor, size)  # it is tried again: not twice
                raise
        finally:
            os.close(descriptor)

    def files(self) -> list[Path]:
        """Return the files, oldest first; none if there is no folder. Raises OSError."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(
                    Path(entry.path)
                    for entry in entries
                    if entry.name.endswith(".jsonl") and entry.is_file(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def letters(self) -> Iterator[KeptLetter]:
        """Yield every letter, oldest file first, one in memory at a time. Raises OSError."""
        return chain.from_iterable(map(self.letters_of, self.files()))

    def letters_of(self, path: Path) -> Iterator[KeptLetter]:
        """Yield what is in one file by now; what is appended meanwhile is not. Raises OSError."""
        try:
            file = _open_to_read(path)
        except FileNotFoundError:
            return
        with file:
            left = _size_between_writes(file)
            while left > 0 and (line := file.readline(min(left, _MOST_LINE_BYTES))):
                left -= len(line)
                yield kept_letter(path, line.removesuffix(b"\n"))

    def remove(self, path: Path, digests: Collection[bytes]) -> int:
        """Take letters out of a file; return how many lines that were.

        The file is made anew beside, synced, and takes the name in one step: a crash leaves one or
        the other. Raises OSError: then the letters are there, or not, but the others always are.
        """
        self._sweep()
        removed = 0
        with _existing_locked(path) as descriptor:
            if descriptor is None:
                return removed
            # Locked, and so for until its name is synced: what is appended to it at once would
            # otherwise go with the name if the power went.
            copy, temporary = create_locked(self._disk, path.parent, lambda: _temporary_name(path))
            try:
                removed, kept = self._copy(descriptor, copy, digests)
                if removed and kept:
                    self._disk.sync(copy)
                    self._disk.rename(temporary, path)
                else:
                    self._disk.remove(temporary)
                    if removed:
                        self._disk.remove(path)
                self._disk.sync_folder(path.parent)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                os.close(copy)
        return removed

    def _copy(self, source: int, target: int, digests: Collection[bytes]) -> tuple[int, int]:
        """Append what stays; return how many lines go and how many stay."""
        ours, theirs = os.fstat(target), os.fstat(source)
        if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
            os.fchown(target, theirs.st_uid, theirs.st_gid)  # by root: its owner goes on writing
        removed = kept = 0
        waiting = bytearray()
        with os.fdopen(os.dup(source), "rb", MIB) as file:
            file.seek(0)
            while line := file.readline(_MOST_LINE_BYTES):
                if digest_of(line.removesuffix(b"\n")) in digests:
                    removed += 1
                    continue
                kept += 1
                waiting += line
                if len(waiting) >= MIB:
                    write_all(self._disk, target, bytes(waiting))
                    waiting.clear()
            write_all(self._disk, target, bytes(waiting))
        return removed, kept

    def _sweep(self) -> None:
        """Remove the half of a copy that a crash left behind: nobody holds its lock any more."""
        for path in self.folder.glob(f".*{_TEMPORARY}"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_same_file(descriptor, path):
                    self._disk.remove(path)
            except BlockingIOError:
                pass
            finally:
                os.close(descriptor)


def _open_locked(path: Path) -> int:
    """Open the file to append to; writers take turns, and nobody writes to one that was replaced."""
    while True:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)


@contextmanager
def _existing_locked(path: Path) -> Iterator[int | None]:
    """Open as `_open_locked` does, but make no file: None if there is none."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            yield None
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_same_file(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _open_to_read(path: Path) -> IO[bytes]:
    # NONBLOCK: a FIFO of that name would otherwise hold us for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.fdopen(os.open(path, flags), "rb", MIB)


def _size_between_writes(file: IO[bytes]) -> int:
    """Return how long the file is while nobody appends: a line after it may be taken back."""
    fcntl.flock(file.fileno(), fcntl.LOCK_SH)
    try:
        return os.fstat(file.fileno()).st_size
    finally:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def _temporary_name(path: Path) -> str:
    return f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}"


def _closing_of_torn_line(descriptor: int, size: int) -> bytes:
    """Return the newline that a kill in the middle of a write left out."""
    torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    return b"\n" if torn else b""
