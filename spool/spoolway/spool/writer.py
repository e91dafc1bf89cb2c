"""Appending: events are in a synced file, or `NotSpooled` is raised. There is nothing in between.

A batch is one write and one fsync. Of what is acknowledged to the caller nothing depends on a write
that comes later: a segment is never opened again once its writer has let go of it.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from spoolway.schema.caps import MIB
from spoolway.spool import names
from spoolway.spool.disk import Disk, create_locked, is_same_file, unlock, write_all
from spoolway.spool.errors import NotSpooled
from spoolway.spool.folder import SpoolFolder
from spoolway.spool.record import encode_records

_log = logging.getLogger("spoolway.spool")

_LOOK_EVERY: Final = 1.0
"""Seconds for which the folder's size is taken as known, but for what is added here."""
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}


@dataclass(slots=True, frozen=True)
class Limits:
    """How much of a disk the spool may take, in bytes."""

    max_bytes: int = 10 * 1024 * MIB
    """Of all segments in the folder, whoever wrote them."""
    min_free_bytes: int = 100 * MIB
    """What is left free on the disk for everybody else."""
    segment_bytes: int = 16 * MIB
    """A segment is sealed at this size: what is replayed and deleted in one piece."""


@dataclass(slots=True)
class _Open:
    """The segment that is written to."""

    descriptor: int
    path: Path
    stem: str
    began: float
    synced: int = 0
    """Bytes that are on disk for sure."""
    events: int = 0
    needs_sync: bool = False
    """Whether something was cut from it since."""


class SpoolWriter:
    """Appends to segments of its own in a folder that any number of writers share. Thread-safe."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        *,
        disk: Disk | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Touch nothing yet: the folder is made with the first event."""
        self.folder: Final = SpoolFolder(folder, disk=disk)
        self._limits = limits or Limits()
        self._disk = disk or Disk()
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._known_size = 0
        self._known_at = float("-inf")
        self._last_began = datetime.min.replace(tzinfo=UTC)
        self._has_begun = False

    def append(self, lines: Sequence[bytes]) -> None:
        """Return when these events (JSON, without newlines) are on disk.

        Raises:
            NotSpooled: the disk or the spool is full, or the disk fails. None of them is spooled.
            ValueError: one has a newline.
        """
        if not lines:
            return
        data = encode_records(lines)
        if data.count(b"\n") != len(lines):
            raise ValueError("an event with a newline would be read back as something else")
        with self._lock:
            try:
                self._make_room(len(data))
                self._append(data, len(lines))
            except OSError as error:
                self._known_at = float("-inf")
                raise NotSpooled(
                    f"the spool in {self.folder.path} cannot be written ({error.strerror or error})"
                    ": look at this disk"
                ) from error

    def seal(self, older_than: float = 0.0) -> None:
        """Let others replay what was written so far, if its first event is so many seconds old."""
        with self._lock:
            if self._open is not None and self._clock() - self._open.began >= older_than:
                self._seal(self._open)

    def close(self) -> None:
        """Seal. What is appended afterwards begins a new segment."""
        self.seal()

    def forget(self) -> None:
        """Let go of the parent's segment, in a forked child: the lock is the parent's, too."""
        if self._open is not None:
            os.close(self._open.descriptor)  # not unlocked: that would be for the parent, too
            self._open = None
        self._lock = threading.Lock()

    def _make_room(self, size: int) -> None:
        """Raise NotSpooled if there is none."""
        self._disk.make_folder(self.folder.path)
        now = self._clock()
        if now - self._known_at >= _LOOK_EVERY:
            # From the disk, not from a ledger: others write here, and replay.
            self._known_size = sum(file.size for file in self.folder.segments())
            self._known_at = now
        if self._known_size + size > self._limits.max_bytes:
            raise NotSpooled(
                f"the spool in {self.folder.path} is full ({self._known_size} of "
                f"{self._limits.max_bytes} bytes): bring back what it waits for, run spoolway "
                "replay, or let it be larger"
            )
        free = self._disk.free_bytes(self.folder.path)
        if free - size < self._limits.min_free_bytes:
            raise NotSpooled(
                f"the disk of the spool in {self.folder.path} is full ({free} bytes free, "
                f"{self._limits.min_free_bytes} of them are kept free): make room on it"
            )

    def _append(self, data: bytes, events: int) -> None:
        segment = self._usable() or self._begin()
        try:
            write_all(self._disk, segment.descriptor, data)
        except OSError as error:
            self._take_back(segment)
            if error.errno in _NO_ROOM:
                raise
            # This file may be as large as a file can be (EFBIG), or lie on a bad block: another one
            # may take what this one does not.
            fresh = not segment.events
            self._seal(segment)
            if fresh:
                raise
            self._append(data, events)
            return
        try:
            self._disk.sync(segment.descriptor)
        except OSError as error:
            segment = self._rewrite(segment, data, error)
        segment.needs_sync = False
        segment.synced += len(data)
        segment.events += events
        self._known_size += len(data)
        if segment.synced >= self._limits.segment_bytes:
            self._seal(segment)

    def _usable(self) -> _Open | None:
        """Return the open segment, if what is in it is what was acknowledged, and it is found.

        An append that was interrupted (KeyboardInterrupt, a truncate that failed) leaves a rest,
        and the next record would become a part of that line. Or somebody has emptied the folder, or
        mounted another disk there.
        """
        segment = self._open
        if segment is None:
            return None
        with suppress(OSError):
            size = os.fstat(segment.descriptor).st_size
            if size == segment.synced and is_same_file(segment.descriptor, segment.path):
                return segment
        self._abandon(segment)
        return None

    def _begin(self) -> _Open:
        if not self._has_begun:
            # Another process may have made the folder just now, and not have come to sync its name.
            # Not everybody may read the folder above, to sync it; who made this one could.
            with suppress(PermissionError):
                self._disk.sync_folder(self.folder.path.parent)
        # No earlier than the last one, whatever the clock does: names sort in the order of writing.
        self._last_began = max(self._now(), self._last_began + timedelta(milliseconds=1))
        stem = ""

        def new_name() -> str:
            nonlocal stem
            stem = names.new_stem(self._last_began)
            return stem + names.OPEN

        descriptor, path = create_locked(self._disk, self.folder.path, new_name)
        segment = _Open(descriptor, path, stem, self._clock())
        try:
            self._disk.sync_folder(self.folder.path)
        except BaseException:
            self._abandon(segment)
            raise
        self._has_begun = True
        self._open = segment
        return segment

    def _take_back(self, segment: _Open) -> None:
        """Remove the half of a write that the disk took before it failed."""
        segment.needs_sync = True
        # If it fails, then `_usable` finds it too large.
        with suppress(OSError):
            self._disk.truncate(segment.descriptor, segment.synced)

    def _rewrite(self, failed: _Open, data: bytes, error: OSError) -> _Open:
        """Write all of a segment anew elsewhere after its fsync has failed.

        The kernel reports a lost page once, and then calls it clean: another fsync of this file
        would say that all is well (PostgreSQL's "fsyncgate").
        """
        _log.error(
            "fsync of %s failed (%s): its events are written anew to another file; look at this "
            "disk",
            failed.path,
            error.strerror,
        )
        self._open = None  # from here on nothing is appended to it, whatever fails next
        try:
            earlier = _synced_bytes(failed)
            segment = self._begin()
            segment.began = failed.began
            try:
                write_all(self._disk, segment.descriptor, earlier + data)
                self._disk.sync(segment.descriptor)
            except BaseException:
                self._abandon(segment)
                raise
        except BaseException:
            # What was synced before stays where it is, to be replayed from there.
            self._take_back(failed)
            self._abandon(failed)
            raise
        segment.synced, segment.events = len(earlier), failed.events
        try:
            self._disk.remove(failed.path)
        except OSError:
            _log.warning("%s cannot be removed: its events come again, as duplicates", failed.path)
        finally:
            unlock(failed.descriptor)
        return segment

    def _seal(self, segment: _Open) -> None:
        self._open = None
        try:
            if not segment.events:
                self._disk.remove(segment.path)
            elif os.fstat(segment.descriptor).st_size == segment.synced:
                if segment.needs_sync:
                    # Else a power cut could bring back what was cut, in a file that has no torn end.
                    self._disk.sync(segment.descriptor)
                name = names.sealed(segment.stem, segment.events)
                self._disk.rename(segment.path, segment.path.with_name(name))
            self._disk.sync_folder(self.folder.path)
        except OSError as error:
            # Its events are synced: under either name they are found.
            _log.warning("%s cannot be sealed (%s)", segment.path, error.strerror)
        finally:
            unlock(segment.descriptor)

    def _abandon(self, segment: _Open) -> None:
        """Leave a segment to whoever replays it; one without an event is of no use to anybody."""
        if self._open is segment:
            self._open = None
        try:
            if not segment.synced:
                with suppress(OSError):
                    self._disk.remove(segment.path)
        finally:
            unlock(segment.descriptor)


def _synced_bytes(segment: _Open) -> bytes:
    data = os.pread(segment.descriptor, segment.synced, 0)
    if len(data) != segment.synced:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return data
