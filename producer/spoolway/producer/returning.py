"""From the disk: what was spooled goes back to the stream, a chunk at a time.

First what is oldest, whoever wrote it: this process, or one that was killed (its lock is free).
A segment is removed when Redis has confirmed all of it; a crash in between makes duplicates, which
the worker recognises. Called by the background thread alone.
"""

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from spoolway.producer.rarely import Rarely
from spoolway.schema.caps import MIB
from spoolway.spool import (
    Chunk,
    Damaged,
    DeadLetter,
    DeadLetters,
    Segment,
    SegmentFile,
    SpoolFolder,
)

LOOK_EVERY_S: Final = 5.0
"""Seconds between looks at what others left behind; none while there is nothing to do at all."""
_AGAIN_AFTER_S: Final = 60.0
"""Seconds until a segment that cannot be read, or set aside from, is tried again."""
_CHUNK_EVENTS: Final = 400
_CHUNK_BYTES: Final = 2 * MIB
"""A few frames: what goes back between two pushes of live events."""

_log = logging.getLogger("spoolway.producer")


class Returning:
    """Reads one segment at a time, in the order of replay."""

    def __init__(
        self,
        folder: SpoolFolder,
        dead: DeadLetters,
        *,
        seal: Callable[[], None],
        own: set[str],
        lock: threading.Lock,
        rarely: Rarely,
    ) -> None:
        self._folder = folder
        self._dead = dead
        self._seal = seal
        self._own = own
        """Stems of the segments that this process has made."""
        self._lock = lock
        """Held while a file is being opened, locked or closed: see Spooling.hold."""
        self._own_waits = self._others_wait = False
        self._look_at = float("-inf")
        self._not_before: dict[str, float] = {}
        self._segment: Segment | None = None
        self._chunks: Iterator[Chunk] = iter(())
        self._chunk: Chunk | None = None
        self._confirmed_to = 0
        self._rarely = rarely
        self.events = 0
        """Taken from segments and confirmed by Redis."""
        self._events_told = 0

    @property
    def due_at(self) -> float | None:
        """When there may be something to return, by time.monotonic; None: not until told."""
        if self._segment is not None or self._own_waits:
            return float("-inf")
        return self._look_at if self._others_wait else None

    def expect_own(self) -> None:
        """Something of this process was spooled."""
        self._own_waits = True

    def chunk(self) -> list[bytes]:
        """Return the events that go back next, the same ones until `confirm`; none if there are none."""
        with self._lock:
            try:
                while self._chunk is None or not self._chunk.lines:
                    if (segment := self._segment or self._take_next()) is None:
                        return []
                    self._read_on(segment)
            except OSError as error:
                self._put_back(f"cannot be returned to the stream ({error.strerror or error})")
                return []
            return self._chunk.lines

    def confirm(self) -> None:
        """Redis has all events of the chunk."""
        if self._chunk is not None:
            self.events += len(self._chunk.lines)
            self._confirmed_to = self._chunk.end
            self._chunk = None

    def close(self) -> None:
        """Let others have what is left, without what Redis has already."""
        with self._lock:
            segment, self._segment, self._chunk = self._segment, None, None
            if segment is None:
                return
            try:
                if self._confirmed_to:
                    segment.cut(self._confirmed_to)
            except OSError:
                _log.debug("the whole of %s stays", segment.path, exc_info=True)
            finally:
                segment.release()

    def forget(self) -> None:
        """Close the parent's file in a forked child."""
        if self._segment is not None:
            self._segment.forget()

    def _take_next(self) -> Segment | None:
        """Lock the oldest segment that is nobody's, if it is time to look. Raises OSError."""
        now = time.monotonic()
        if not self._own_waits and now < self._look_at:
            return None
        self._look_at = now + LOOK_EVERY_S
        segment = self._take_first()
        if segment is None and self._own_waits:
            self._seal()
            segment = self._take_first()
        if segment is None:
            self._own_waits = False
            self._tell()
            return None
        self._segment, self._confirmed_to = segment, 0
        self._chunks = segment.chunks(_CHUNK_EVENTS, _CHUNK_BYTES)
        return segment

    def _take_first(self) -> Segment | None:
        now = time.monotonic()
        files = [
            file
            for file in self._folder.segments()
            if self._not_before.get(file.path.name, 0.0) <= now
        ]
        if not all(map(self._is_own, files)) and _has_worker(self._folder.path.parent):
            # What a worker spools waits for its database: on the stream it would come back to it,
            # and to the disk, for ever. And a worker that lives here replays what it finds.
            files = [file for file in files if self._is_own(file)]
        self._others_wait = not all(map(self._is_own, files))
        for file in files:
            try:
                segment = self._folder.take(file)
            except OSError as error:
                self._set_aside(file.path, f"cannot be opened ({error.strerror or error})")
                continue
            if segment is not None:
                return segment
        return None

    def _tell(self) -> None:
        if self.events > self._events_told:
            events = self.events - self._events_told
            self._events_told = self.events
            _log.info("%d events of %s are on the stream", events, self._folder.path)

    def _is_own(self, file: SegmentFile) -> bool:
        return _stem(file.path) in self._own

    def _read_on(self, segment: Segment) -> None:
        """Take the next chunk of the segment, or remove the segment at its end. Raises OSError."""
        chunk = next(self._chunks, None)
        if chunk is None:
            self._remove(segment)
        elif chunk.damaged:
            self._dead.keep([_dead_letter(segment, damaged) for damaged in chunk.damaged])
            _log.error(
                "%d damaged lines of %s are kept in %s",
                len(chunk.damaged),
                segment.path,
                self._dead.folder,
            )
        self._chunk = chunk

    def _remove(self, segment: Segment) -> None:
        self._segment, self._look_at = None, float("-inf")  # there may be another one
        path = segment.path
        try:
            segment.remove()
        except OSError as error:
            self._set_aside(
                path, f"was returned, and cannot be removed ({error.strerror or error})", 1e9
            )
        else:
            self._own.discard(_stem(path))

    def _put_back(self, message: str) -> None:
        """Give up on the segment in hand, or on the folder, for a while."""
        segment, self._segment, self._chunk = self._segment, None, None
        if segment is None:
            self._own_waits = False
            self._rarely("the spool in %s %s: look at this disk", self._folder.path, message)
        else:
            self._set_aside(segment.path, message)
            segment.release()
            self._look_at = float("-inf")  # for the one after it

    def _set_aside(self, path: Path, message: str, seconds: float = _AGAIN_AFTER_S) -> None:
        self._not_before[path.name] = time.monotonic() + seconds
        self._rarely("%s %s: look at this disk", path, message)


def _stem(path: Path) -> str:
    """Return what a segment's name begins with, sealed or not."""
    return "-".join(path.name.partition(".jsonl")[0].split("-")[:2])


def _dead_letter(segment: Segment, damaged: Damaged) -> DeadLetter:
    where = f"{segment.path.name}, offset {damaged.offset}"
    return DeadLetter("damaged", f"{where}: {damaged.reason}", damaged.raw)


def _has_worker(folder: Path) -> bool:
    """Tell whether a worker lives on this folder: each holds the lock of its slot."""
    for number in count():
        try:
            descriptor = os.open(folder / f"worker-{number}.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False  # slots are taken in order, and their files are never removed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
