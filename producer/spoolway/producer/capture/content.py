"""What a body is, by its content type: JSON, text, or bytes that are not kept."""

from typing import Final, Literal

import msgspec

from spoolway.producer.capture.body import Body
from spoolway.schema.jsonable import Parsed, parse_exact

Form = Literal["whole", "sse", "ndjson"]

_NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_MEDIA: Final = ("image/", "audio/", "video/", "font/", "application/octet-stream")
_decode: Final = msgspec.json.Decoder().decode  # unlike orjson's, it keeps integers over 64 bits


def form_of(content_type: str) -> Form:
    """Return how an answer of this type flows: in one piece, or as a stream of JSON values."""
    name = content_type.lower()
    if name.startswith("text/event-stream"):
        return "sse"
    return "ndjson" if name.startswith(_NDJSON) else "whole"


def json_or_text(data: bytes) -> object:
    """Return the JSON value, or the text where it is none."""
    try:
        return Parsed(_decode(data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = data.decode(errors="replace")
    try:
        return parse_exact(text)  # NaN, numbers no float holds
    except (ValueError, RecursionError):
        return text


def content_of(body: Body, content_type: str) -> tuple[object, bool]:
    """Return what a column holds of a body, and whether it had to be cut."""
    if not body.size:
        return None, False
    if body.is_over:
        return body.marker(), True
    data = body.whole()
    if b"\0" in data or content_type.lower().startswith(_MEDIA):
        return body.marker() | {"preview": "", "content_type": content_type}, True
    return json_or_text(data), False
