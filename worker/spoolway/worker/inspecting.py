"""Looking at a spool without locking or changing it: what it holds, and whether it is whole."""

import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from spoolway.spool import Damaged, Disk, Segment, SegmentFile, SpoolFolder
from spoolway.worker.batch import Window, assemble_chunk

_CHUNK_EVENTS = 1_000
_CHUNK_BYTES = 8 << 20


@dataclass(slots=True)
class Verified:
    """What a segment's checksums say."""

    file: SegmentFile
    events: int = 0
    """Whole ones."""
    damaged: list[Damaged] = field(default_factory=list)
    """Without their bytes: a spool may be larger than memory."""
    torn_bytes: int = 0
    """At the end of an open segment: a write that goes on just now, or that a crash interrupted."""
    error: str | None = None
    """Why the disk does not give it back."""

    @property
    def is_damaged(self) -> bool:
        """Whether anything in it is not what was written."""
        return bool(self.damaged) or self.error is not None


@dataclass(slots=True)
class Rehearsed:
    """What a replay would do, as far as can be told without a database."""

    segments: int = 0
    events: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    """Dead letters it would make, by reason."""
    torn_bytes: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """Names of segments that the disk does not give back, and why."""


def verify(folder: SpoolFolder) -> Iterator[Verified]:
    """Read every record of every segment. Raises OSError if the folder cannot be read."""
    # Again, because one that is sealed meanwhile has another name by the time it is its turn.
    seen: set[str] = set()
    read: set[str] = set()
    while files := [file for file in folder.segments() if file.path.name not in seen]:
        seen.update(file.path.name for file in files)
        for file in files:
            if _stem(file) in read:
                continue
            found = Verified(file)
            try:
                with _opened(file) as segment:
                    for chunk in segment.chunks(_CHUNK_EVENTS, _CHUNK_BYTES):
                        found.events += len(chunk.lines)
                        found.damaged += [Damaged(d.offset, b"", d.reason) for d in chunk.damaged]
                    found.torn_bytes = segment.torn_bytes
            except FileNotFoundError:
                continue  # sealed, or replayed, just now
            except OSError as error:
                found.error = error.strerror or str(error)
            read.add(_stem(file))
            yield found


def rehearse(folder: SpoolFolder, window: Window, limit: int | None) -> Rehearsed:
    """Read and decode as a replay does, and change nothing. Raises OSError."""
    found = Rehearsed()
    for file in folder.segments():
        if limit is not None and found.events >= limit:
            break
        try:
            with _opened(file) as segment:
                _rehearse(segment, file, window, limit, found)
        except FileNotFoundError:
            continue
        except OSError as error:
            found.unreadable[file.path.name] = error.strerror or str(error)
    return found


def _rehearse(
    segment: Segment, file: SegmentFile, window: Window, limit: int | None, found: Rehearsed
) -> None:
    found.segments += 1
    each = _CHUNK_EVENTS if limit is None else 1
    for chunk in segment.chunks(each, _CHUNK_BYTES):
        batch = assemble_chunk(chunk, file.path.name, window)
        found.events += batch.events
        found.dead.update(letter.reason for letter in batch.dead)
        if limit is not None and found.events >= limit:
            return
    found.torn_bytes += segment.torn_bytes


def is_in_use(file: SegmentFile) -> bool:
    """Tell whether somebody writes or replays it."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # Shared, and let go of at once: two that look do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _stem(file: SegmentFile) -> str:
    """Return what a segment is called before and after it is sealed."""
    return "-".join(file.path.name.removesuffix(".jsonl.open").split("-")[:2])


@contextmanager
def _opened(file: SegmentFile) -> Iterator[Segment]:
    """Open without the lock: nobody is kept from replaying it, and what is open stays readable."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    segment = Segment(file.path, Disk(), os.open(file.path, flags))
    try:
        yield segment
    finally:
        segment.release()
