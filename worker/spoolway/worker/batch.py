"""From stream entries to a batch: decode what can be decoded, name what cannot."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from spoolway.schema import BadInput, decode_frame, decode_line, decode_lines
from spoolway.schema.ids import from_ms
from spoolway.spool import Chunk, DeadLetter
from spoolway.worker.stores import Item
from spoolway.worker.stream import Entry

_MS_PER_DAY = 86_400_000
_LEAST_SHARE = 1 / 64
"""Of the batch that is aimed for: so much smaller it becomes where the database is that slow."""


class OutsideWindow(BadInput):
    """The id's time is further away than any clock that can be right."""

    reason = "outside-window"


@dataclass(slots=True, frozen=True)
class Window:
    """Which ids are taken, by their time: partitions are made for no others."""

    past: timedelta
    future: timedelta
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def bounds(self) -> tuple[int, int]:
        """Return the oldest and newest Unix milliseconds taken now."""
        now = self.now()
        return _unix_ms(now - self.past), _unix_ms(now + self.future)


@dataclass(slots=True)
class Batch:
    """What is written in one go, and the entries to acknowledge when it is safe."""

    entry_ids: list[bytes]
    items: list[Item] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    _size: int | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def events(self) -> int:
        """Events in the batch, dead letters included (a frame that cannot be read counts one)."""
        return len(self.items) + len(self.dead)

    @property
    def size(self) -> int:
        """Bytes of the JSON lines in it, and of what could not be read: added up once."""
        if self._size is None:
            lines = sum(len(item.text) for item in self.items)
            self._size = lines + sum(len(letter.raw) for letter in self.dead)
        return self._size

    def parts(self, most: int) -> Iterator[list[Item]]:
        """Split the items into transactions of about `most` bytes each; commonly it is one.

        A frame may hold 32 MiB: more of them than one transaction can write within its deadline
        would be tried again for ever.
        """
        part: list[Item] = []
        size = 0
        for item in self.items:
            part.append(item)
            size += len(item.text)
            if size >= most:
                yield part
                part, size = [], 0
        if part:
            yield part


def assemble(entries: Sequence[Entry], window: Window) -> Batch:
    """Decode every event of these entries. What cannot be is a dead letter; the rest goes on."""
    batch = Batch([entry.id for entry in entries])
    bounds = window.bounds()
    for entry in entries:
        try:
            lines = decode_frame(entry.fields)
        except BadInput as error:
            batch.dead.append(_unread(entry, error))
            continue
        _decode(lines, entry.id.decode(), bounds, batch)
    return batch


def assemble_chunk(chunk: Chunk, segment: str, window: Window) -> Batch:
    """Decode what was read of a segment of this name; what is damaged is a dead letter, too."""
    batch = Batch([])
    _decode(chunk.lines, segment, window.bounds(), batch)
    batch.dead += [
        DeadLetter("damaged", f"byte {one.offset} of {segment}: {one.reason}", one.raw, segment)
        for one in chunk.damaged
    ]
    return batch


def _decode(lines: Sequence[bytes], source: str, bounds: tuple[int, int], batch: Batch) -> None:
    oldest, newest = bounds
    events = decode_lines(lines)
    if events:
        moments = [event.id.int >> 80 for event in events]
        if oldest <= min(moments) and max(moments) <= newest:
            batch.items += map(Item, events, lines, [ms // _MS_PER_DAY for ms in moments])
            return
    for line in lines:
        try:
            event = decode_line(line)
            ms = event.id.int >> 80
            if not oldest <= ms <= newest:
                raise _outside(event.id, ms, oldest, newest)
        except BadInput as error:
            raw = line.removesuffix(b"\n")
            batch.dead.append(DeadLetter(error.reason, str(error), raw, source))
        else:
            batch.items.append(Item(event, line, ms // _MS_PER_DAY))


def _unread(entry: Entry, error: BadInput) -> DeadLetter:
    """Keep all of an entry: whoever pushed under another field's name must find the event again."""
    others = {name: value for name, value in entry.fields.items() if name != b"data"}
    raw = entry.fields.get(b"data", b"")
    return DeadLetter(error.reason, str(error), raw, entry.id.decode(), fields=others)


def _unix_ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _outside(event_id: UUID, ms: int, oldest: int, newest: int) -> OutsideWindow:
    moment, first, last = (f"{from_ms(edge):%Y-%m-%d %H:%M:%S}" for edge in (ms, oldest, newest))
    return OutsideWindow(
        f"id {event_id} is of {moment} UTC; ids from {first} to {last} are taken: check the "
        "producer's clock, and that the id begins with Unix milliseconds (48 bits), or widen "
        "SPOOLWAY_ID_PAST_DAYS and SPOOLWAY_ID_FUTURE_DAYS"
    )


class ReadSize:
    """How many entries to read for the next batch: aims at events and bytes, learns from the last.

    A frame holds from one event to thousands, and a database may take a second for what another
    one takes in ten milliseconds. State is two moving averages and a share of the aim; the decision
    is a pure function of them.
    """

    def __init__(self, events: int, size: int, slow: float) -> None:
        """Aim at so many events, or bytes; a batch that takes over `slow` seconds was too large."""
        self._target_events = events
        self._target_bytes = size
        self._slow = slow
        self._events_per_entry = 100.0  # what this project's producer packs
        self._bytes_per_entry = 400 * 1024.0
        self._share = 1.0

    def observe(self, entries: Sequence[Entry], batch: Batch) -> None:
        """Learn from what was read."""
        count = len(entries)
        self._events_per_entry += (batch.events / count - self._events_per_entry) / 2
        self._bytes_per_entry += (batch.size / count - self._bytes_per_entry) / 2

    def took(self, seconds: float) -> None:
        """Learn from how long a batch took until it was safe: down by halves, up by quarters.

        A batch that takes as long as a write may take would be tried again, as large, for ever.
        """
        if seconds > self._slow:
            self._share = max(self._share / 2, _LEAST_SHARE)
        else:
            self._share = min(self._share * 1.25, 1.0)

    def entries(self) -> int:
        """Return the COUNT for the next read."""
        by_events = self._target_events / max(self._events_per_entry, 1.0)
        by_bytes = self._target_bytes / max(self._bytes_per_entry, 1.0)
        return max(1, round(min(by_events, by_bytes) * self._share))
