"""What a scrape has to ask for: the stream, the folder's disk, the dead letters, the database.

Each is asked beside the others and for itself: what is away is missing from the answer, and the
rest is there.
"""

import asyncio
import fcntl
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from redis.exceptions import ResponseError

from spoolway.spool import UNREADABLE, DeadLetters, SpoolFolder
from spoolway.worker.backlog import Backlog, backlogs, on_servers
from spoolway.worker.config import Settings
from spoolway.worker.redis_client import client_for

_ANSWER_SECONDS: Final = 5.0
_BLOCK: Final = 1 << 20
_LONGEST_LINE: Final = 64 << 20
"""A longer one is counted as unreadable: its reason is not worth the memory."""


@dataclass(slots=True, frozen=True)
class Queue:
    """The streams, and the memory of their Redis; in a Cluster, of the node that is fullest."""

    streams: dict[str, Backlog]
    memory: tuple[int, int] | None
    """Bytes used and allowed (0: without limit); None where this user may not ask."""


@dataclass(slots=True, frozen=True)
class Disk:
    """The state folder's spool, and what is free on its disk, in bytes."""

    segments: int
    bytes: int
    oldest_seconds: float
    """Age of the oldest event in the spool; 0 without any."""
    free_bytes: int


async def ask_redis(settings: Settings) -> Queue:
    """Ask for every stream's backlog. Raises redis-py's exceptions, and OSError."""
    found = await backlogs(settings)
    memories = [await _memory(settings.redis_url, names[0]) for names in on_servers(settings)]
    known = [memory for memory in memories if memory is not None]
    return Queue(found, max(known, key=_fullness, default=None))


async def _memory(url: str, stream: str) -> tuple[int, int] | None:
    redis = client_for(url, stream, socket_timeout=_ANSWER_SECONDS)
    try:
        found = await redis.info("memory")
        return int(found["used_memory"]), int(found["maxmemory"])
    except (ResponseError, KeyError):
        return None  # INFO is among the commands that an ACL may leave out
    finally:
        await redis.aclose()


def _fullness(memory: tuple[int, int]) -> tuple[float, int]:
    used, allowed = memory
    return (used / allowed if allowed else 0.0), used


async def ask_disk(folder: Path) -> Disk:
    """List the spool, and ask how full its disk is. Raises OSError."""
    return await asyncio.to_thread(_disk, folder)


def _disk(folder: Path) -> Disk:
    files = SpoolFolder(folder / "spool").segments()
    began = min((file.began.timestamp() for file in files), default=None)
    return Disk(
        len(files),
        sum(file.size for file in files),
        0.0 if began is None else max(0.0, time.time() - began),
        shutil.disk_usage(folder).free,
    )


class _Reason(msgspec.Struct):
    reason: str


@dataclass(slots=True)
class _Counted:
    """How far a file of dead letters was read, and what was in it so far."""

    inode: int
    offset: int
    reasons: Counter[str]


class DeadLetterCounts:
    """Dead letters in a folder, by reason. What was read once is not read again."""

    def __init__(self, folder: Path) -> None:
        self._letters = DeadLetters(folder)
        self._counted: dict[Path, _Counted] = {}
        self._decode: Callable[[bytes], _Reason] = msgspec.json.Decoder(_Reason).decode

    async def ask(self) -> Counter[str]:
        """Count. Raises OSError."""
        return await asyncio.to_thread(self._count)

    def _count(self) -> Counter[str]:
        files = self._letters.files()
        self._counted = {path: self._of_file(path) for path in files}
        total: Counter[str] = Counter()
        for counted in self._counted.values():
            total += counted.reasons
        return total

    def _of_file(self, path: Path) -> _Counted:
        known = self._counted.get(path)
        with _opened(path) as descriptor:
            if descriptor is None:
                return _Counted(0, 0, Counter())
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # between writes: one may be taken back
            status = os.fstat(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            # Letters go away by the file being made anew: then nothing that was counted holds.
            if known is None or known.inode != status.st_ino or known.offset > status.st_size:
                known = _Counted(status.st_ino, 0, Counter())
            for line in _lines(descriptor, status.st_size, known):
                known.reasons[self._reason(line)] += 1
        return known

    def _reason(self, line: bytes) -> str:
        try:
            return self._decode(line).reason
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return UNREADABLE


def _lines(descriptor: int, end: int, counted: _Counted) -> Iterator[bytes]:
    """Yield whole lines from where it was left; one without an end is looked at again next time."""
    waiting = bytearray()
    at = counted.offset
    while block := os.pread(descriptor, min(_BLOCK, end - at), at):
        at += len(block)
        *lines, rest = block.split(b"\n")
        for line in lines:
            yield bytes(waiting) + line
            waiting.clear()
        if lines:
            counted.offset = at - len(rest)
        if len(waiting) < _LONGEST_LINE:
            waiting += rest


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    # NONBLOCK: a FIFO of that name would otherwise hold us for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
