"""One line of a segment: `{"crc":"<crc32 of the event's bytes, 8 hex digits>","event":{…}}`.

Plain JSON, readable with `jq .event`. The bytes around the event are always the same, so a line is
checked without being parsed.
"""

import re
from typing import Final
from zlib import crc32

_OPENS: Final = b'{"crc":"'
_BETWEEN: Final = b'","event":'
_EVENT_AT: Final = len(_OPENS) + 8 + len(_BETWEEN)
_CLOSES: Final = b"}"
_ANY_OPENING: Final = re.compile(rb'\{"crc":"[0-9a-f]{8}","event":')


def encode_record(event: bytes) -> bytes:
    """Return the line, newline included, of one event's JSON (which has no newline in it)."""
    return b'{"crc":"%08x","event":%b}\n' % (crc32(event), event)


def event_of(line: bytes) -> bytes | None:
    """Return the event in a line without its newline; None if it is not what was written."""
    event = line[_EVENT_AT:-1]
    if line == b'{"crc":"%08x","event":%b}' % (crc32(event), event):
        return event
    return None


def salvage(line: bytes) -> tuple[list[bytes], bytes]:
    """Return the events of a damaged line whose newlines are what was damaged, and what is left.

    A newline that rots joins two good records. A record is taken only from the start, and only if
    its checksum covers every byte up to the next one: what looks like a record inside of an event
    is a client's text, and must never become an event.
    """
    events: list[bytes] = []
    start = 0
    ends = [found.start() for found in _ANY_OPENING.finditer(line)][1:]
    for end in (*ends, len(line)):
        event = event_of(line[start:end]) or event_of(line[start : end - 1])
        if event:
            events.append(event)
            start = end
    return events, line[start:]
