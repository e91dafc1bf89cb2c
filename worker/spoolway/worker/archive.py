"""The archive: each batch that landed, also in a file of its day, as compressed JSON lines.

<folder>/2026-11-21.0.jsonl.zst is of the UTC day on which its events were stored; the number tells
the processes that write at the same time. A batch is one zstd frame, synced before its events are
acknowledged; frames one after another are a legal file: `zstdcat *.zst | jq` reads it. A batch that
comes twice is in it twice, and ids make it one row again.

It is a copy, and never in the way of the rows: what it cannot take is counted, and said aloud.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import zstandard

from spoolway.spool.disk import FILE_MODE, Disk, is_same_file, unlock, write_all
from spoolway.worker.config import Settings
from spoolway.worker.enrichment import Enricher
from spoolway.worker.outage import Outage
from spoolway.worker.stores import Item, Store, Written, open_store
from spoolway.worker.stores.prepared import PreparedStore
from spoolway.worker.stores.storable import json_line

log = logging.getLogger("spoolway.archive")

SUFFIX: Final = ".jsonl.zst"
_LEVEL: Final = 3
_BLOCK: Final = 3
_RLE, _RESERVED = 1, 3
_CHECKSUM: Final = 4
_HEADER: Final = 18
"""Bytes: the longest header that a zstd frame may have (RFC 8878)."""


def prepared_store(
    settings: Settings, prepare: Callable[[Store], Awaitable[None]]
) -> PreparedStore:
    """Return the settings' store, which fills in costs and archives what it stores if they say so."""
    store = open_store(settings)
    enricher = Enricher.of(settings)
    fill_in = enricher.enrich if enricher is not None else None
    if not settings.archive:
        return PreparedStore(store, prepare, fill_in)
    return ArchivedStore(store, prepare, Archive(settings.dir / "archive"), fill_in)


class Archive:
    """Appends to this process's own file of the day. Any number of processes share the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        disk: Disk | None = None,
    ) -> None:
        self._folder = folder
        self._now = now
        self._disk = disk or Disk()
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._one_writer = threading.Lock()
        self._day = ""
        self._path = folder
        self._descriptor: int | None = None
        self._size = 0

    def append(self, lines: Sequence[bytes]) -> None:
        """Return when the events are on disk. Raises OSError: then none of them is."""
        if not lines:
            return
        with self._one_writer:
            frame = self._compressor.compress(b"\n".join([*lines, b""]))
            descriptor = self._opened(f"{self._now():%Y-%m-%d}")
            try:
                write_all(self._disk, descriptor, frame)
                self._disk.sync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # else the next one to open it cuts it off
                    self._disk.truncate(descriptor, self._size)
                self._close()  # what a disk has failed to sync is not trusted further
                raise
            self._size += len(frame)

    def close(self) -> None:
        """Let go of the file."""
        with self._one_writer:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            unlock(self._descriptor)
            self._descriptor = None

    def _opened(self, day: str) -> int:
        if self._descriptor is not None:
            # Removed by who cleans up: what is written to it then would be nowhere.
            if day == self._day and is_same_file(self._descriptor, self._path):
                return self._descriptor
            self._close()
        self._disk.make_folder(self._folder)
        for number in count():
            path = self._folder / f"{day}.{number}{SUFFIX}"
            descriptor = _locked(path)
            if descriptor is None:
                continue
            try:
                self._size = self._end_of_frames(descriptor)
                self._disk.sync_folder(self._folder)
            except OSError:
                unlock(descriptor)
                raise
            self._day, self._path, self._descriptor = day, path, descriptor
            return descriptor
        raise AssertionError("count() ends")

    def _end_of_frames(self, descriptor: int) -> int:
        """Cut off what a crash left half written: what follows it could not be read."""
        end = 0
        for _, end in frames(descriptor):  # noqa: B007 - the last one's is what is wanted
            pass
        if end < os.fstat(descriptor).st_size:
            self._disk.truncate(descriptor, end)
        return end


def _locked(path: Path) -> int | None:
    """Open a file, or make it; None if another process writes it, or removes it just now."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    if is_same_file(descriptor, path):
        return descriptor
    unlock(descriptor)
    return None


def frames(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each whole zstd frame, in bytes, without unpacking any of them.

    Ends at the first byte that is no frame. Raises OSError.
    """
    size = os.fstat(descriptor).st_size
    start = 0
    while start < size:
        header = os.pread(descriptor, _HEADER, start)
        try:
            has_checksum = zstandard.get_frame_parameters(header).has_checksum
            end = start + zstandard.frame_header_size(header)
        except zstandard.ZstdError:
            return
        is_last = False
        while not is_last:
            block = int.from_bytes(os.pread(descriptor, _BLOCK, end), "little")
            is_last, kind, length = bool(block & 1), block >> 1 & 3, block >> 3
            end += _BLOCK + (1 if kind == _RLE else length)
            if kind == _RESERVED or end > size:
                return
        end += _CHECKSUM if has_checksum else 0
        if end > size:
            return
        yield start, end
        start = end


class ArchivedStore(PreparedStore):
    """A store that archives what it has stored; see `Store`."""

    def __init__(
        self,
        store: Store,
        prepare: Callable[[Store], Awaitable[None]],
        archive: Archive,
        fill_in: Callable[[Sequence[Item]], Sequence[Item]] | None = None,
    ) -> None:
        super().__init__(store, prepare, fill_in)
        self.missed = 0
        """Events that are in the database and not in the archive."""
        self._archive = archive
        self._outage = Outage("archive", time.monotonic)

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; return after they are archived, too.

        Killed in between, they come again, and are archived as duplicates.
        """
        written = await super().write(items)
        conflicts = {id(conflict.item) for conflict in written.conflicts}
        landed = [item for item in items if id(item) not in conflicts]
        try:
            await asyncio.to_thread(lambda: self._archive.append(list(map(json_line, landed))))
        except OSError as error:
            self.missed += len(landed)
            self._outage.failed(
                error,
                f"events are stored, but not archived: {self.missed} are missing there by now",
            )
        else:
            if self._outage.since is not None:
                log.error("%d events are in the database and not in the archive", self.missed)
            self._outage.worked()
        return written

    async def close(self) -> None:
        """Close every connection, and the file."""
        await super().close()
        await asyncio.to_thread(self._archive.close)
