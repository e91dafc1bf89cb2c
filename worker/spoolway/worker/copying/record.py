"""A row as it was read, and the event it becomes in the other database."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, Final

import orjson

from spoolway.schema import BadInput, Event, decode_line, decode_lines
from spoolway.schema.columns import COLUMNS
from spoolway.schema.events import encode_event
from spoolway.schema.ids import from_ms
from spoolway.spool import DeadLetter
from spoolway.worker.copying.canonical import Digests, time_text
from spoolway.worker.stores import Item
from spoolway.worker.stores.expired import GONE_WITH_IT, is_expired
from spoolway.worker.stores.rows import ERRORS, FILLED_IN, REQUESTS
from spoolway.worker.stores.storable import storable_line

_MS_PER_DAY: Final = 86_400_000
EVENT_OF: Final = {"request_logs": "request", "error_logs": "error"}
"""Per table: the type of its events. Requests first, so that errors find theirs."""
ROWS: Final = {rows.table: rows for rows in (REQUESTS, ERRORS)}
DIGESTS: Final = {table: Digests(event) for table, event in EVENT_OF.items()}
_KINDS: Final = {table: list(COLUMNS[event].items()) for table, event in EVENT_OF.items()}


@dataclass(slots=True)
class Row:
    """One row of Spoolway's own tables, as a database's driver returned it."""

    values: tuple[Any, ...]
    """In the order of the event's struct: the id is the first, its time the second."""
    created_at: Any
    linked: bool
    """Whether `request_log_id` is set."""
    enriched: str | None = None
    """JSON: what a worker has filled in, and from where."""

    @property
    def id(self) -> str:
        """The id's text."""
        return str(self.values[0])

    @property
    def stored_at(self) -> str | None:
        """`created_at`, as `time_text` has it."""
        return time_text(self.created_at)

    def digest(self, table: str) -> int:
        """Return the digest of the event. The link is none of it: it follows from `request_id`."""
        return DIGESTS[table].of(self.values)


@dataclass(slots=True)
class Record:
    """What is copied of one row: an item, or a dead letter that says why there is none."""

    id: str
    """Of the row in the target."""
    day: str
    """UTC, for a person: 2026-11-21."""
    size: int
    """Bytes of its JSON line."""
    digest: int
    stored_at: str | None
    """`created_at`; None where it is no time: then the target says when it was stored."""
    linked: bool
    item: Item | None
    dead: DeadLetter | None = None


@dataclass(slots=True)
class There:
    """What the target has of a record."""

    digest: int
    stored_at: str | None
    linked: bool


def there(table: str, record: Record, row: Row) -> There:
    """Return what a row of the target is, compared with a record.

    Bodies that retention has taken on one side do not make it another event (see `expired`), nor
    does a cost that a worker has filled in on one.
    """
    digest = row.digest(table)
    if digest != record.digest and record.item is not None and table == REQUESTS.table:
        ours, theirs = REQUESTS.row(record.item.event), row.values
        changed: set[int] = set()
        if is_expired(ours[_TRUNCATED]) or is_expired(theirs[_TRUNCATED]):
            changed |= _GONE
        if record.item.enriched or row.enriched:
            changed |= _FILLED_IN
        if changed and DIGESTS[table].of(_but(ours, changed)) == DIGESTS[table].of(
            _but(theirs, changed)
        ):
            digest = record.digest
    return There(digest, row.stored_at, row.linked)


def _but(values: tuple[Any, ...], changed: set[int]) -> tuple[Any, ...]:
    return tuple(None if at in changed else value for at, value in enumerate(values))


_TRUNCATED: Final = REQUESTS.columns.index("truncated")
_GONE: Final = {REQUESTS.columns.index(name) for name in GONE_WITH_IT}
_FILLED_IN: Final = {REQUESTS.columns.index(name) for name in FILLED_IN}


def record_of(table: str, row: Row) -> Record:
    """Return what is copied of a row of Spoolway's own."""
    line = _line(table, row.values)
    try:
        events = decode_lines([line])
        event = events[0] if events else decode_line(line)
        item = storable_line(Item(event, line, 0))
        if not events or item.event is not event:
            # Repaired, as what a producer sends is, and marked: that is what must arrive.
            line = encode_event(item.event)
            digest = DIGESTS[table].of(ROWS[table].row(item.event))
        else:
            line = encode_event(event) if b"\n" in line else line  # somebody's indented JSON
            digest = row.digest(table)
        record = record_of_event(item.event, line, digest, row.stored_at, linked=row.linked)
        if record.item is not None and row.enriched:
            record.item.enriched = row.enriched.encode()
        return record
    except BadInput as error:
        return dead_record(f"{table} {row.id}", line, error.reason, str(error))


def record_of_event(
    event: Event, line: bytes, digest: int, stored_at: str | None, *, linked: bool
) -> Record:
    """Return what is copied of an event. Raises BadInput if it has no day that a database knows."""
    ms = event.id.int >> 80
    moment = from_ms(ms)
    if moment.year >= _LAST_YEAR:
        raise BadInput(f"id {event.id} is of the year {moment.year}: no partition reaches so far")
    return Record(
        str(event.id),
        f"{moment:%Y-%m-%d}",
        len(line),
        digest,
        stored_at if stored_at and _is_time(stored_at) else None,
        linked,
        Item(event, line, ms // _MS_PER_DAY),
    )


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


_LAST_YEAR: Final = 9999


def dead_record(source: str, raw: bytes, reason: str, message: str) -> Record:
    """Return what is kept of a row that cannot become an event."""
    letter = DeadLetter(reason, f"{source}: {message}", raw, source)
    return Record("", "", len(raw), 0, None, False, None, letter)


def _line(table: str, values: tuple[Any, ...]) -> bytes:
    fields: dict[str, Any] = {"type": EVENT_OF[table]}
    for (name, kind), value in zip(_KINDS[table], values, strict=True):
        if value is not None:
            fields[name] = _WIRE[kind](value) if kind in _WIRE else value
    try:
        return orjson.dumps(fields, default=str)
    except TypeError:  # what a hand has written into an SQLite file: no UTF-8, 65 bits
        return _line(table, tuple(map(_clean, values)))


def _rfc3339(value: Any) -> str | None:
    text = time_text(value)
    if text is not None and len(text) == 26 and text[10] == " ":
        return f"{text[:10]}T{text[11:]}Z"
    return text


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    return value if value is None or isinstance(value, (bool, float)) else str(value)


_WIRE: Final[dict[str, Callable[[Any], Any]]] = {
    "json": orjson.Fragment,
    "id": str,
    "time": _rfc3339,
    "flag": lambda value: bool(value) if value in (0, 1) else value,
    # orjson writes NaN and Infinity as null, and does not tell.
    "real": lambda value: value if isfinite(value) else str(value),
}
"""Kinds of columns whose values are written differently in a JSON line."""
