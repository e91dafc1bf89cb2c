"""One size of events, in every form that a contestant starts from."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, cast

import msgspec

from benchmarks.events import KIB, Events, Fields
from benchmarks.servers import Stored
from spoolway.schema import FrameEncoder, decode_line, encode_line, new_id
from spoolway.worker.stores.rows import REQUESTS

FRAME_EVENTS: Final = 100
"""Events of a frame: what the producer packs by default."""
MOST_DICTS: Final = 8_000
"""Events kept as dicts too, which take three times the memory: enough for who goes one by one."""

_BEFORE_ID: Final = len(b'{"type":"request","id":"')
_AFTER_ID: Final = _BEFORE_ID + len("00000000-0000-7000-8000-000000000000")

Frame = dict[str, str | bytes | int]
Row = tuple[Any, ...]


class Workload:
    """Events of about `kilobytes`, made when first asked for. All contestants share them."""

    def __init__(self, kilobytes: int) -> None:
        self.kilobytes = kilobytes
        self.label = f"{kilobytes} KB"
        self._source = iter(Events(kilobytes * KIB))
        self._events: list[Fields] = []
        self._lines: list[bytes] = []
        self._tokens: list[int] = []

    def events(self, count: int) -> list[Fields]:
        """Return events as a proxy holds them: dicts of Python values."""
        if count > MOST_DICTS:
            raise ValueError(f"{count} events as dicts asked for, {MOST_DICTS} are kept")
        self.lines(count)
        return self._events[:count]

    def lines(self, count: int) -> list[bytes]:
        """Return events as JSON lines."""
        for event in islice(self._source, max(count - len(self._lines), 0)):
            if len(self._events) < MOST_DICTS:
                self._events.append(event)
            self._lines.append(encode_line(event))
            self._tokens.append(event["total_tokens"])
        return self._lines[:count]

    def rows(self, count: int) -> Stored:
        """Return what the tables must hold afterwards."""
        self.lines(count)
        return Stored(count, count, sum(self._tokens[:count]))

    def frames(self, count: int) -> list[Frame]:
        """Return the same events as stream entries."""
        return list(pack(self.lines(count)))

    def copy_rows(self, count: int) -> list[Row]:
        """Return the same events as rows for COPY: jsonb cells are bytes as they go on the wire."""
        rows = (REQUESTS.row(decode_line(line)) for line in self.lines(count))
        return [tuple(map(_on_the_wire, row)) for row in rows]

    def text_rows(self, count: int) -> list[Row]:
        """Return the same events as rows for SQLite."""
        return [REQUESTS.text_row(decode_line(line)) for line in self.lines(count)]

    def described(self) -> dict[str, Any]:
        """Return the size of an event's JSON line, and of frames over the lines in them."""
        lines = self.lines(20 * FRAME_EVENTS)
        size = sum(map(len, lines))
        return {
            "kilobytes": self.kilobytes,
            "bytes_per_event": round(size / len(lines)),
            "packed": round(sum(packed_size(frame) for frame in pack(lines)) / size, 3),
        }


def _on_the_wire(cell: object) -> object:
    return b"\x01" + bytes(cell) if isinstance(cell, msgspec.Raw) else cell


def pack(lines: Sequence[bytes]) -> Iterator[Frame]:
    """Yield the frames a producer makes of these lines, with its defaults."""
    encoder = FrameEncoder()
    for start in range(0, len(lines), FRAME_EVENTS):
        chunk = lines[start : start + FRAME_EVENTS]
        yield encoder.encode(chunk, len(chunk))


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
