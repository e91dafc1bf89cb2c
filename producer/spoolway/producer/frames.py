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


def cut(items: Iterable[Item], most_events: int, most_bytes: int) -> Iterator[Frame]:
    """Cut items into frames by count and by bytes; an item is never cut."""
    lines: list[bytes] = []
    events = size = 0
    for more_lines, more_events in items:
        if lines and (events + more_events > most_events or size + len(more_lines) > most_bytes):
            yield Frame(lines, events, size)
            lines, events, size = [], 0, 0
        lines.append(more_lines)
        events += more_events
        size += len(more_lines)
    if lines:
        yield Frame(lines, events, size)
