"""Events as rows, made before anybody is measured: for COPY, and for SQLite.

Not by the worker's own code: what the limit is given must not change when the worker does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Final
from uuid import UUID

import msgspec

from spoolway.producer.frames import cut
from spoolway.schema import ErrorEvent, RequestEvent, decode_line
from spoolway.schema.columns import COLUMNS

Row = tuple[Any, ...]
Cell = Callable[[object], object]
Event = RequestEvent | ErrorEvent

REQUEST_COLUMNS: Final = list(COLUMNS["request"])
ERROR_COLUMNS: Final = [*COLUMNS["error"], "request_log_id"]
BATCH_BYTES: Final = 8 << 20
"""Most bytes of JSON in a batch. More is not faster on one connection, and leaves several connections
with unequal shares at the end."""
_JSONB_VERSION: Final = b"\x01"


@dataclass(slots=True, frozen=True)
class Batch:
    """Rows of one transaction."""

    requests: list[Row] = field(default_factory=list)
    errors: list[Row] = field(default_factory=list)
    """Each with its link, known beforehand, as its last cell."""


def batches(lines: Sequence[bytes], most_events: int, cell: Cell) -> list[Batch]:
    """Return the rows of these events, so many in a batch, or fewer where they are large.

    An error is in the batch of its request, and behind it: whoever writes several batches at once
    can keep the foreign key without waiting.
    """
    found: list[Batch] = []
    batch_of: dict[UUID, Batch] = {}
    errors: list[tuple[ErrorEvent, Batch]] = []
    for some in cut(((line, 1) for line in lines), most_events, BATCH_BYTES, repeat(0)):
        batch = Batch()
        found.append(batch)
        for event in map(decode_line, some.lines):
            if isinstance(event, RequestEvent):
                batch.requests.append(_row(event, cell))
                batch_of[event.id] = batch
            else:
                errors.append((event, batch))
    for error, batch in errors:
        request = error.request_id
        link = request if request in batch_of else None
        home = batch_of.get(request, batch) if request else batch
        home.errors.append((*_row(error, cell), cell(link)))
    return found


def wire(value: object) -> object:
    """Return a cell as asyncpg sends it: jsonb is bytes as they go on the wire."""
    if isinstance(value, msgspec.Raw):
        return _JSONB_VERSION + bytes(value) if len(value) else None
    return value


def text(value: object) -> object:
    """Return a cell in SQLite's types."""
    match value:
        case msgspec.Raw():
            return bytes(value).decode() or None
        case datetime():
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        case UUID():
            return str(value)
    return value


def _row(event: Event, cell: Cell) -> Row:
    return tuple(map(cell, msgspec.structs.astuple(event)))
