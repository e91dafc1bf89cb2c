"""One kind of events, in every form that a contestant starts from."""

import gc
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice, repeat
from typing import Any, Final, Literal, cast
from uuid import UUID

import orjson

from benchmarks import rows
from benchmarks.events import KIB, Events, Fields
from benchmarks.mixed import Mixed
from benchmarks.rows import Batch
from benchmarks.servers import Stored
from spoolway.producer.frames import cut
from spoolway.schema import FrameEncoder, encode_line, new_id

FRAME_EVENTS: Final = 100
"""Events of a frame, at most: what the producer packs by default."""
_FRAME_BYTES: Final = 1 << 20
"""As above."""
MOST_BYTES: Final = 600_000_000
"""Most bytes of lines that are kept, and given to anybody: as rows they are there twice."""

_SAMPLE: Final = 2_000
"""Events of which a size is taken."""
_BEFORE_ID: Final = len(b'{"type":"request","id":"')
_AFTER_ID: Final = _BEFORE_ID + len("00000000-0000-7000-8000-000000000000")

Frame = dict[str, str | bytes | int]
Size = int | Literal["mixed"]
SIZES: Final[Sequence[Size]] = (1, 4, 32, "mixed")
"""Kilobytes of an event."""


def key_of(size: Size) -> str:
    """Return how a workload is called, in tables and by contestants: "4 KB", "mixed"."""
    return size if size == "mixed" else f"{size} KB"


class Workload:
    """Events of about `size` kilobytes each, or a mix. All contestants share them.

    They are made when first asked for.
    """

    def __init__(self, size: Size) -> None:
        self.key = key_of(size)
        self._source = iter(Mixed() if size == "mixed" else Events(size * KIB))
        self._lines: list[bytes] = []
        self._tokens: list[int] = []
        self._errors_at: list[int] = []
        self._linked_at: list[int] = []
        self._half_linked: set[UUID] = set()

    def events(self, count: int) -> list[Fields]:
        """Return events as a proxy holds them: dicts of Python values."""
        return [_as_held(orjson.loads(line)) for line in self.lines(count)]

    def columns(self, count: int) -> list[Fields]:
        """Return requests as what fills a row of `request_logs`."""
        return [
            {name: value for name, value in event.items() if name != "type"}
            for event in self.events(count)
        ]

    def lines(self, count: int) -> list[bytes]:
        """Return events as JSON lines."""
        for event in islice(self._source, max(count - len(self._lines), 0)):
            self._note(event)
            self._lines.append(encode_line(event))
        return self._lines[:count]

    def _note(self, event: Fields) -> None:
        """Note what of it `stored` tells; the event itself is not kept."""
        at = len(self._lines)
        self._tokens.append(event.get("total_tokens", 0))
        if is_error := event["type"] == "error":
            self._errors_at.append(at)
        link = event.get("request_id") if is_error else "errors" in event and event["id"]
        if link in self._half_linked:  # whichever of the two comes second
            self._linked_at.append(at)
        elif link:
            self._half_linked.add(link)

    def stored(self, count: int) -> Stored:
        """Return what the tables must hold afterwards."""
        self.lines(count)
        errors = bisect_left(self._errors_at, count)
        requests = count - errors
        linked = bisect_left(self._linked_at, count)
        return Stored(requests, errors, linked, requests, sum(self._tokens[:count]))

    @property
    def bytes_per_event(self) -> int:
        """The mean size of a JSON line."""
        lines = self.lines(_SAMPLE)
        return round(sum(map(len, lines)) / len(lines))

    @property
    def most(self) -> int:
        """How many of these events are not too much for the memory."""
        return MOST_BYTES // self.bytes_per_event

    def frames(self, count: int) -> list[Frame]:
        """Return the same events as stream entries."""
        return list(pack(self.lines(count)))

    def copy_batches(self, count: int, most_events: int) -> list[Batch]:
        """Return the same events as rows for COPY; see `rows.batches`."""
        return rows.batches(self.lines(count), most_events, rows.wire)

    def text_batches(self, count: int, most_events: int) -> list[Batch]:
        """Return the same events as rows for SQLite."""
        return rows.batches(self.lines(count), most_events, rows.text)

    def described(self) -> dict[str, Any]:
        """Return the size of an event's JSON line, and of frames over the lines in them."""
        lines = self.lines(_SAMPLE)
        packed = sum(packed_size(frame) for frame in pack(lines))
        return {
            "load": self.key,
            "bytes_per_event": self.bytes_per_event,
            "packed": round(packed / sum(map(len, lines)), 3),
        }


def _as_held(event: Fields) -> Fields:
    event["id"] = UUID(event["id"])
    for name in ("request_time", "timestamp"):
        if name in event:
            event[name] = datetime.fromisoformat(event[name])
    if event["type"] == "error" and "request_id" in event:
        event["request_id"] = UUID(event["request_id"])
    return event


def pack(lines: Sequence[bytes]) -> Iterator[Frame]:
    """Yield the frames a producer makes of these lines, with its defaults."""
    encoder = FrameEncoder()
    for frame in cut(((line, 1) for line in lines), FRAME_EVENTS, _FRAME_BYTES, repeat(0)):
        yield encoder.encode(frame.lines, frame.events)


def packed_size(frame: Frame) -> int:
    """Return the bytes of a frame's data."""
    return len(cast("bytes", frame["data"]))


def with_new_id(line: bytes) -> bytes:
    """Return the same request as another event: cheaper than to make one."""
    return line[:_BEFORE_ID] + str(new_id()).encode() + line[_AFTER_ID:]


@contextmanager
def nothing_to_collect() -> Iterator[None]:
    """Keep the garbage collector from walking the prepared events while somebody is measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
