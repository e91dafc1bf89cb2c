"""Reading the archive back: whole frames of whole days, a damaged one by itself.

Whatever is in a file is taken for hostile: a frame says how large it is before it is unpacked.
"""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import zstandard

from spoolway.schema.caps import MIB
from spoolway.spool import Chunk
from spoolway.worker.archive import frames
from spoolway.worker.plan import Destination, Done, Halt, Skip
from spoolway.worker.threads import in_thread

_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)\.\d+\.jsonl\.zst", re.ASCII)
_MOST_UNPACKED: Final = 256 * MIB
_CHUNK_EVENTS: Final = 4000


@dataclass(slots=True)
class ArchiveReport:
    """What became of what is in the archive."""

    files: int = 0
    done: Done = field(default_factory=Done)
    damaged: list[str] = field(default_factory=list)
    """Frames that cannot be read: the file, and where in it."""
    left: str | None = None
    """Why it ended early."""


def archive_files(folder: Path, first: date | None, last: date | None) -> list[Path]:
    """Return the files of these days, both included, oldest first. Raises OSError."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None or path.is_symlink():
            continue
        day = date.fromisoformat(match[1])
        if (first is None or first <= day) and (last is None or day <= last):
            found.append(path)
    return found


async def replay_archive(
    files: list[Path],
    destination: Destination,
    stop: asyncio.Event,
    progressed: Callable[[int], None],
) -> ArchiveReport:
    """Put every event of these files where they belong; those that are there are recognised."""
    report = ArchiveReport()
    for path in files:
        chunks = _chunks(path, report.damaged)
        try:
            while (chunk := await in_thread(partial(next, chunks, None))) is not None:
                if stop.is_set():
                    report.left = "interrupted: run the same command again"
                    return report
                done = await destination.put(chunk, path)
                report.done.add(done)
                progressed(done.events)
        except (Halt, Skip) as error:
            report.left = str(error)
            return report
        except OSError as error:
            report.damaged.append(f"{path.name}: {error.strerror or error}")
        report.files += 1
    return report


def _chunks(path: Path, damaged: list[str]) -> Iterator[Chunk]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        end = 0
        for start, end in frames(descriptor):
            try:
                lines = _lines(os.pread(descriptor, end - start, start))
            except (zstandard.ZstdError, MemoryError) as error:
                damaged.append(f"{path.name}, byte {start}: {error}")
                continue
            for first in range(0, len(lines), _CHUNK_EVENTS):
                yield Chunk(end, lines[first : first + _CHUNK_EVENTS])
        size = os.fstat(descriptor).st_size
        if end < size:
            damaged.append(f"{path.name}, byte {end}: {size - end} bytes that are no whole frame")
    finally:
        os.close(descriptor)


def _lines(frame: bytes) -> list[bytes]:
    size = zstandard.get_frame_parameters(frame).content_size
    if size > _MOST_UNPACKED:  # also where it does not say: then it is 2^64 - 1
        raise zstandard.ZstdError(f"it would be {size} bytes unpacked")
    return zstandard.ZstdDecompressor().decompress(frame).removesuffix(b"\n").split(b"\n")
