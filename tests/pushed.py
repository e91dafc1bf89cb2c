"""What producers have pushed, read from the stream as a worker reads it."""

from collections.abc import Mapping
from typing import Any

import msgspec
import orjson

from spoolway.schema import DEFAULT_STREAM, Event, decode_frame, decode_line
from tests.servers import ValkeyServer


def lines_of(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """The JSON lines of one stream entry, without their line ends."""
    return [line.removesuffix(b"\n") for line in decode_frame(fields)]


def lines_by_frame(server: ValkeyServer, stream: str = DEFAULT_STREAM) -> list[list[bytes]]:
    """The JSON lines of each stream entry, in the stream's order."""
    with server.client() as client:
        return [lines_of(fields) for _, fields in client.xrange(stream)]


def frames(server: ValkeyServer, stream: str = DEFAULT_STREAM) -> list[list[Event]]:
    """The events of each stream entry."""
    return [[decode_line(line) for line in lines] for lines in lines_by_frame(server, stream)]


def events(server: ValkeyServer, stream: str = DEFAULT_STREAM) -> list[Event]:
    """All events, one after the other."""
    return [event for frame in frames(server, stream) for event in frame]


def json_of(column: msgspec.Raw) -> Any:
    """What a JSON column holds."""
    return orjson.loads(bytes(column))
