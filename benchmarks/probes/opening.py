"""A long spool: how long until the first of its events is in hand, cached or read from the disk."""

import os
from collections.abc import Sequence
from typing import Final

from benchmarks.probes.base import Bound, Figure
from benchmarks.servers import Servers, now
from benchmarks.workload import with_new_id
from spoolway.schema import encode_line, new_id
from spoolway.spool import Limits, SpoolFolder, SpoolWriter

_EVENTS: Final = 1_000_000
_BOUND: Final = Bound(floor=1_000)
_EVENT_BYTES: Final = 200
"""Twenty times smaller than the others: a million of 4 KB would take a minute to write."""
_SEGMENT_EVENTS: Final = 4_000
"""Events of a segment, as of 4 KB: what counts is how many files there are to look at."""
_CHUNK_EVENTS: Final = 1_000
_BATCH_BYTES: Final = 8 << 20
_TIMES: Final = 5


class Opening:
    """Milliseconds until the first events of a spool of a million are read."""

    name = "opening"
    each_round = False

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Write a spool, and open it several times, as a replay does."""
        servers.clean()
        events = _EVENTS // 100 if quick else _EVENTS
        folder = _written(servers, events)
        what = f"first events of a spool of {events:,}"
        cold = [_opened(folder) for _ in range(_TIMES) if _forgotten(folder)]
        cached = [_opened(folder) for _ in range(_TIMES + 1)][1:]
        return [
            *(Figure(f"{what}, from disk", seconds * 1e3, "ms", _BOUND) for seconds in cold),
            *(Figure(f"{what}, from cache", seconds * 1e3, "ms", _BOUND) for seconds in cached),
        ]


def _written(servers: Servers, events: int) -> SpoolFolder:
    """Write a segment with each append."""
    writer = SpoolWriter(servers.spool, Limits(segment_bytes=1))
    event = _event()
    for start in range(0, events, _SEGMENT_EVENTS):
        writer.append([with_new_id(event) for _ in range(min(_SEGMENT_EVENTS, events - start))])
    writer.close()
    return writer.folder


def _event() -> bytes:
    fields = {"type": "request", "id": new_id(), "model_name": "gpt-4o"}
    text = "x" * (_EVENT_BYTES - len(encode_line(fields | {"path": ""})))
    return encode_line(fields | {"path": text})


def _forgotten(folder: SpoolFolder) -> bool:
    """Drop the files' pages, which are all synced, from the kernel's cache."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for file in folder.segments():
        descriptor = os.open(file.path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
    return True


def _opened(folder: SpoolFolder) -> float:
    """Return the seconds from the first look into the folder to the first chunk in memory."""
    began = now()
    first = folder.segments()[0]
    segment = folder.take(first)
    assert segment is not None, f"somebody else has {first.path}"
    try:
        chunk = next(segment.chunks(_CHUNK_EVENTS, _BATCH_BYTES))
        seconds = now() - began
    finally:
        segment.release()
    assert len(chunk.lines) == _CHUNK_EVENTS, f"{len(chunk.lines)} events in the first chunk"
    return seconds
