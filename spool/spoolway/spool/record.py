"""One line of a segment: `{"crc":"<crc32 of the event's bytes, 8 hex digits>","event":{…}}`.

Plain JSON, readable with `jq .event`. The bytes around the event are always the same, so a line is
checked without being parsed.
"""

import re
from collections.abc import Iterable
from typing import Final
from zlib import crc32

_OPENING: Final = b'{"crc":"%08x","event":'
_OPENING_BYTES: Final = len(_OPENING % 0)
_CLOSING: Final = b"}\n"
_ANY_OPENING: Final = re.compile(rb'\{"crc":"([0-9a-f]{8})","event":')


def encode_records(events: Iterable[bytes]) -> bytes:
    """Return the lines of events: each one's JSON, which has no newline in it."""
    parts: list[bytes] = []
    for event in events:
        parts += (_OPENING % crc32(event), event, _CLOSING)
    return b"".join(parts)


def event_of(line: bytes) -> bytes | None:
    """Return the event in a line with its newline; None if it is not what was written."""
    event = line[_OPENING_BYTES:-2]
    if line.endswith(_CLOSING) and line.startswith(_OPENING % crc32(event)):
        return event
    return None


def salvage(text: bytes, *, ended: bool) -> tuple[list[bytes], bytes]:
    """Return the events of a line whose newlines are what was damaged, and what is left of it.

    A newline that rots joins two good records. A record is taken only from the start, and only if
    its checksum covers every byte up to its end: what looks like a record inside of an event is a
    client's text, and must never become an event. `text` is without the newline; `ended` says that
    there was one.
    """
    # Where a record may end, in order: in front of a rotted newline and the next record, of which a
    # crash may have left only the first bytes; or where the line does.
    ends = [found.start() - 1 for found in _ANY_OPENING.finditer(text, 1)]
    last = len(text)
    ends += [last] if ended else range(last - _OPENING_BYTES - 1, last + 1)

    events: list[bytes] = []
    start, rest, view = 0, iter(ends), memoryview(text)
    while opening := _ANY_OPENING.match(text, start):
        event_at = checked = opening.end()
        named, crc = int(opening[1], 16), 0
        for end in rest:
            if end <= event_at:
                continue
            # Onwards from the last one: a line full of text like ours is read once, not squared.
            crc = crc32(view[checked : end - 1], crc)
            checked = end - 1
            if crc == named and text[end - 1 : end] == b"}":
                events.append(text[event_at : end - 1])
                start = end + 1
                break
        else:
            break
    return events, text[start:]
