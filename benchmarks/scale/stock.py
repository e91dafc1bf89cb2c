"""Many events from few: some are made, the others are the same with new ids."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Final

from benchmarks.events import KIB, Events
from benchmarks.workload import Frame, pack, with_new_id
from spoolway.schema import encode_line

_MADE: Final = 10_000
_MADE_BYTES: Final = 64 << 20
"""Of large events fewer are made: a frame of 100 never has the same one twice."""


@cache
def made(kilobytes: int) -> list[bytes]:
    """Return the JSON lines of different events of about this size."""
    count = min(_MADE, _MADE_BYTES // (kilobytes * KIB))
    return [encode_line(event) for event in islice(Events(kilobytes * KIB), count)]


def lines(kilobytes: int, events: int) -> Iterator[Sequence[bytes]]:
    """Yield this many events that never were before, some at a time: all would fill the memory."""
    stock = made(kilobytes)
    for start in range(0, events, len(stock)):
        yield [with_new_id(line) for line in stock[: events - start]]


def frames(kilobytes: int, events: int) -> Iterator[Frame]:
    """Yield them as stream entries, packed as the producer packs them."""
    for some in lines(kilobytes, events):
        yield from pack(some)


def json_bytes(kilobytes: int, events: int) -> int:
    """Return the bytes of the JSON lines of `lines` or `frames`."""
    sizes = [len(line) for line in made(kilobytes)]
    times, rest = divmod(events, len(sizes))
    return times * sum(sizes) + sum(sizes[:rest])
