"""One segment, locked for replay: what is read from it, and how it goes away.

Opening never fails for what is in it: a torn tail is cut, a damaged line is set aside with its
reason, the rest goes on. The lock is the kernel's (flock): it ends with the process.
"""

import errno
import fcntl
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from spoolway.schema.caps import MIB
from spoolway.spool import names
from spoolway.spool.disk import Disk, create_locked, is_same_file, unlock, write_all
from spoolway.spool.record import encode_records, event_of, salvage

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_LINE_BYTES: Final = 40 * MIB
"""A frame has at most 32 MiB; a longer line is damaged, and is set aside in pieces of this size."""


@dataclass(slots=True, frozen=True)
class Damaged:
    """Bytes of a segment that are not what was written."""

    offset: int
    raw: bytes
    reason: str


@dataclass(slots=True)
class Chunk:
    """What is replayed in one go."""

    end: int
    """Offset in the segment of what follows it."""
    lines: list[bytes] = field(default_factory=list)
    """The events' JSON, byte by byte as it was spooled."""
    damaged: list[Damaged] = field(default_factory=list)


class Segment:
    """A locked segment. Made by `SpoolFolder.take`; ends with `remove`, `cut` or `release`."""

    def __init__(self, path: Path, disk: Disk, descriptor: int) -> None:
        self.path: Final = path
        self.torn_bytes = 0
        """Cut at its end: the write that a crash interrupted, which nobody was told had succeeded."""
        self._disk = disk
        self._descriptor: int | None = descriptor
        # What is sealed was synced to its last byte before it got its name.
        self._may_be_torn = path.name.endswith(names.OPEN)

    @classmethod
    def take(cls, path: Path, disk: Disk) -> Self | None:
        """Open and lock; None if another process has it, or it is gone. Raises OSError."""
        try:
            # NONBLOCK: a FIFO of that name would otherwise hold us for ever.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(path, flags)
        except OSError as error:
            # The last two: a link or a socket has taken its place.
            if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
                return None
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # If not: who had the lock before us has replayed and removed it, or sealed it.
            if is_same_file(descriptor, path) and stat.S_ISREG(os.fstat(descriptor).st_mode):
                return cls(path, disk, descriptor)
        except BlockingIOError:
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def chunks(self, events: int, size: int) -> Iterator[Chunk]:
        """Yield what is in it, in order, about `events` events or `size` bytes at a time.

        Raises:
            OSError: the disk does not give it back.
        """
        return self._chunks(0, events, size)

    def remove(self) -> None:
        """Delete it: every event in it is safe elsewhere. Raises OSError."""
        try:
            if is_same_file(self._locked(), self.path):
                self._disk.remove(self.path)
                self._disk.sync_folder(self.path.parent)
        finally:
            self.release()

    def cut(self, offset: int) -> None:
        """Keep only what follows `offset`, the end of a chunk. Raises OSError.

        The rest is a sealed file of its own before this one goes: a crash in between leaves both,
        and what is in both is recognised when it comes again.
        """
        name = names.parse(self.path.name)
        if name is None:
            raise ValueError(f"{self.path.name} is no segment's name")
        if offset >= os.fstat(self._locked()).st_size:
            self.remove()
            return
        folder, disk = self.path.parent, self._disk
        _remove_leftovers(folder, disk)
        descriptor, temporary = create_locked(
            disk, folder, lambda: names.new_stem(name.began) + names.TEMPORARY
        )
        try:
            try:
                events = self._copy(offset, descriptor)
                disk.sync(descriptor)
                stem = temporary.name.removesuffix(names.TEMPORARY)
                disk.rename(temporary, folder / names.sealed(stem, events))
            except BaseException:
                with suppress(OSError):  # else nobody would ever remove it
                    disk.remove(temporary)
                raise
            disk.sync_folder(folder)
            self.remove()
        finally:
            unlock(descriptor)

    def release(self) -> None:
        """Let others have it, as it is. Not for a forked child: see `forget`."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            unlock(descriptor)

    def forget(self) -> None:
        """Let go of the parent's segment, in a forked child: `release` would unlock it for both."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _locked(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"segment {self.path.name} is released")
        return self._descriptor

    def _copy(self, offset: int, descriptor: int) -> int:
        """Copy what follows `offset`, but for a torn tail; return how many events that is."""
        events = 0
        for chunk in self._chunks(offset, sys.maxsize, MIB):
            spoiled = b"".join(damaged.raw + b"\n" for damaged in chunk.damaged)
            write_all(self._disk, descriptor, encode_records(chunk.lines) + spoiled)
            events += len(chunk.lines) + len(chunk.damaged)
        return events

    def _chunks(self, began: int, events: int, size: int) -> Iterator[Chunk]:
        self.torn_bytes = 0
        file = io.BufferedReader(_Content(self._locked), MIB)
        file.seek(began)
        chunk = Chunk(began)
        inside = False  # of a line whose beginning has been set aside
        while line := file.readline(MOST_LINE_BYTES):
            event = None if inside else event_of(line)
            if event is not None:
                chunk.lines.append(event)
                chunk.end += len(line)
            else:
                left = self._read_damaged(line, chunk, inside=inside)
                chunk.end += len(line) - left
                if left:
                    file.seek(chunk.end)
                inside = not left and not line.endswith(b"\n")
            if len(chunk.lines) >= events or chunk.end - began >= size:
                yield chunk
                began = chunk.end
                chunk = Chunk(began)
        if chunk.end > began:
            yield chunk

    def _read_damaged(self, line: bytes, chunk: Chunk, *, inside: bool) -> int:
        """Put what can be read of a line into the chunk, and what cannot; return bytes unread."""
        ended = line.endswith(b"\n")
        text = line[:-1] if ended else line
        events, left = ([], text) if inside else salvage(text, ended=ended)
        chunk.lines += events
        is_part = not ended and len(line) == MOST_LINE_BYTES
        if is_part and events:
            return len(left)  # the next record begins in it
        # Zeros are a hole: a block that the power cut kept from the disk.
        if self._may_be_torn and (not (ended or is_part) or not left.strip(b"\0")):
            self.torn_bytes += len(left)
        elif left:
            reason = "its checksum is wrong" if ended else "it has no end"
            chunk.damaged.append(Damaged(chunk.end + len(text) - len(left), left, reason))
        return 0


def _remove_leftovers(folder: Path, disk: Disk) -> None:
    """Remove what cuts that were killed have left behind; what is being made is locked."""
    for path in folder.iterdir():
        if names.is_temporary(path.name):
            with suppress(OSError):
                leftover = Segment.take(path, disk)
                if leftover is not None:
                    leftover.remove()


class _Content(io.RawIOBase):
    """A locked file from its start, at an offset of its own: two readers do not move each other."""

    def __init__(self, locked: Callable[[], int]) -> None:
        self._locked = locked
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            offset += os.fstat(self._locked()).st_size
        elif whence == os.SEEK_CUR:
            offset += self._offset
        self._offset = offset
        return offset

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        count = os.preadv(self._locked(), [buffer], self._offset)
        self._offset += count
        return count
