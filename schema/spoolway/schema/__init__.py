"""What an event is, how it travels, and where it lands. No I/O.

This half imports without SQLAlchemy: a proxy needs it too. The tables are in
`spoolway.schema.tables`.
"""

from spoolway.schema.caps import Caps
from spoolway.schema.errors import BadEvent, BadFrame, BadInput, NotUuid7
from spoolway.schema.events import ErrorEvent, Event, RequestEvent, encode_event
from spoolway.schema.frame import DEFAULT_STREAM, Codec, FrameEncoder, decode_frame
from spoolway.schema.ids import id_range, is_uuid7, lower_bound, new_id, time_of
from spoolway.schema.line import decode_line, decode_lines, encode_line, repair_line

__all__ = [
    "DEFAULT_STREAM",
    "BadEvent",
    "BadFrame",
    "BadInput",
    "Caps",
    "Codec",
    "ErrorEvent",
    "Event",
    "FrameEncoder",
    "NotUuid7",
    "RequestEvent",
    "decode_frame",
    "decode_line",
    "decode_lines",
    "encode_event",
    "encode_line",
    "id_range",
    "is_uuid7",
    "lower_bound",
    "new_id",
    "repair_line",
    "time_of",
]
