"""One segment, locked for replay: what is read from it, and how it goes away.

Opening never fails for what is in it: a torn tail is cut, a damaged line is set aside with its
reason, the rest goes on. The lock is the kernel's (flock): it ends with the process.
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Self

from spoolway.schema.caps import MIB
from spoolway.spool import names
from spoolway.spool.disk import Disk, create_locked, is_same_file, write_all
from spoolway.spool.record import event_of, salvage

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
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        if not is_same_file(descriptor, path):
            # Whoever had the lock before us has replayed and removed it, or sealed it.
            os.close(descriptor)
            return None
        return cls(path, disk, descriptor)

    def chunks(self, events: int, size: int) -> Iterator[Chunk]:
        """Yield what is in it, in order, about `events` events or `size` bytes at a time.

        Raises:
            OSError: the disk does not give it back.
        """
        with self._reader() as file:
            chunk, began = Chunk(0), 0
            while line := file.readline(MOST_LINE_BYTES):
                self._read(line, chunk)
                if len(chunk.lines) >= events or chunk.end - began >= size:
                    yield chunk
                    began = chunk.end
                    chunk = Chunk(began)
            if chunk.end > began:
                yield chunk

    def _read(self, line: bytes, chunk: Chunk) -> None:
        offset = chunk.end
        chunk.end += len(line)
        whole = line.endswith(b"\n")
        text = line[:-1] if whole else line
        event = event_of(text)
        if event is not None:
            chunk.lines.append(event)
            return
        events, left = salvage(text)
        chunk.lines += events
        if not left:
            return
        # Zeros are a hole: a block that the power cut kept from the disk.
        if self._may_be_torn and (not whole or not left.strip(b"\0")):
            self.torn_bytes += len(left)
            return
        reason = "its checksum is wrong" if whole else "it has no end"
        chunk.damaged.append(Damaged(offset + len(text) - len(left), left, reason))

    def remove(self) -> None:
        """Delete it: every event in it is safe elsewhere. Raises OSError."""
        try:
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
        folder, disk = self.path.parent, self._disk
        descriptor, temporary = create_locked(
            disk, folder, lambda: names.new_stem(name.began) + names.TEMPORARY
        )
        try:
            events = 0
            with self._reader() as file:
                file.seek(offset)
                while line := file.readline(MOST_LINE_BYTES):
                    if line.endswith(b"\n") or not self._may_be_torn:
                        write_all(disk, descriptor, line)
                        events += 1
            disk.sync(descriptor)
            stem = temporary.name.removesuffix(names.TEMPORARY)
            if events:
                disk.rename(temporary, folder / names.sealed(stem, events))
            else:
                disk.remove(temporary)
            disk.sync_folder(folder)
            self.remove()
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Let others have it, as it is."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _reader(self) -> BinaryIO:
        if self._descriptor is None:
            raise ValueError(f"segment {self.path.name} is released")
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return os.fdopen(self._descriptor, "rb", MIB, closefd=False)
