"""Frames to be: which items travel together in one stream entry. It does no I/O."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from spoolway.producer.buffer import Item


class Frame(NamedTuple):
    """The lines of one stream entry to be."""

    lines: list[bytes]
    """JSON lines; those that must stay together are one element, with newlines in it."""
    events: int
    size: int
    """Bytes of its JSON lines."""
    turn: int
    """Which of several streams it goes to, however often it is pushed."""


def cut(
    items: Iterable[Item], most_events: int, most_bytes: int, turns: Iterator[int]
) -> Iterator[Frame]:
    """Cut items into frames by count and by bytes; an item is never cut."""
    lines: list[bytes] = []
    events = size = 0
    for more_lines, more_events in items:
        events += more_events
        size += (more := len(more_lines))
        if lines and (events > most_events or size > most_bytes):
            yield Frame(lines, events - more_events, size - more, next(turns))
            lines, events, size = [], more_events, more
        lines.append(more_lines)
    if lines:
        yield Frame(lines, events, size, next(turns))
