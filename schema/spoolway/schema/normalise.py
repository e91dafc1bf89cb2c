"""The careful way: any mapping of fields becomes an event that both databases take.

The producer comes here with what orjson refuses, or with what is too large; the worker with what
the typed decoder or the database refuses. The rules are one set, so an event that was repaired by
either looks the same. Nothing is dropped in silence: a field without a column, or that does not
fit its column, moves to `extra` (`extra_context` of an error) under its own name; columns whose
value had to be altered are listed in its `_altered`, columns that were capped in `truncated` (of a
request) or `_capped` (of an error).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

import msgspec
import orjson

from spoolway.schema.caps import KIB, NAME_BYTES, NAMES, Caps, capped_json, capped_text
from spoolway.schema.columns import COLUMNS, UNFIT, fit
from spoolway.schema.errors import BadEvent, NotUuid7, got
from spoolway.schema.events import EVENT_TYPES, OVERFLOW_COLUMN, Event, encode_event
from spoolway.schema.ids import is_uuid7
from spoolway.schema.jsonable import MAX_DEPTH, encode_any, free_name, key_text, represent

_NOTES: Final = ("_altered", "_capped")


class TooDeep(msgspec.Struct, frozen=True):
    """JSON of more levels than are kept, not parsed: it will be capped as it is."""

    json: bytes


def identity(fields: Mapping[Any, object]) -> tuple[str, UUID]:
    """Return an event's type and id, the two fields that nobody can repair.

    Raises:
        BadEvent: `type` is neither "request" nor "error".
        NotUuid7: the id is missing, or no UUIDv7.
    """
    event_type, event_id = fields.get("type"), fields.get("id")
    if isinstance(event_type, Enum):
        event_type = event_type.value
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        raise BadEvent(f'field "type" must be "request" or "error", got {got(event_type)}')
    if type(event_id) is not UUID:
        event_id = fit("id", event_id)
    if not isinstance(event_id, UUID) or not is_uuid7(event_id):
        raise NotUuid7(event_id if isinstance(event_id, UUID) else fields.get("id"))
    return event_type, event_id


def normalise(fields: Mapping[Any, object], caps: Caps) -> Event:
    """Build the event from fields of any type; raises as `identity` does."""
    event_type, event_id = identity(fields)
    draft = _Draft(event_type, caps)
    for name, value in dict(fields).items():
        if name not in ("type", "id"):
            draft.add(name, value)
    return draft.finish(event_id)


class _Draft:
    """An event on the way to its columns, with what was done to them."""

    def __init__(self, event_type: str, caps: Caps) -> None:
        self._type = event_type
        self._caps = caps
        self._kinds = COLUMNS[event_type]
        self._overflow_column = OVERFLOW_COLUMN[event_type]
        self._columns: dict[str, object] = {}
        self._extra: object = None
        self._strays: list[tuple[object, object]] = []
        self._altered: list[str] = []
        self._capped: list[str] = []

    def add(self, name: object, value: object) -> None:
        """Put one field where it belongs."""
        if not isinstance(name, str) or name not in self._kinds:
            self._strays.append((name, value))
        elif value is None:
            pass  # SQL NULL, as if it were absent
        elif name == self._overflow_column:
            self._extra = value
        elif name == "truncated":
            self._keep_notes(name, value, self._capped)
        elif self._kinds[name] == "json":
            self._columns[str.__str__(name)] = msgspec.Raw(self._json(name, value))
        else:
            self._add_scalar(str.__str__(name), value)

    def finish(self, event_id: UUID) -> Event:
        """Cap what is too large, and write down what was done."""
        overflow = self._overflow()
        if overflow is not None:
            self._columns[self._overflow_column] = msgspec.Raw(
                self._json(self._overflow_column, overflow)
            )
        self._cap_columns()
        self._write_notes()
        return EVENT_TYPES[self._type](id=event_id, **cast("Any", self._columns))

    def _json(self, name: str, value: object) -> bytes:
        if isinstance(value, TooDeep):
            _note(self._capped, name)
            return capped_json(value.json)
        encoded = encode_any(value)
        if encoded.altered:
            _note(self._altered, name)
        if encoded.depth > MAX_DEPTH or len(encoded.json) > self._caps.of(name):
            _note(self._capped, name)
            return capped_json(encoded.json)
        return encoded.json

    def _add_scalar(self, name: str, value: object) -> None:
        fitted = fit(self._kinds[name], value)
        if fitted is UNFIT:
            self._strays.append((name, value))
            _note(self._altered, name)
            return
        if isinstance(fitted, str) and isinstance(value, str) and fitted != value:
            _note(self._altered, name)
        self._columns[name] = fitted

    def _keep_notes(self, name: str, noted: object, names: list[str]) -> None:
        """Go on with what an earlier pass noted: the producer's, or an older worker's."""
        if not isinstance(noted, list):
            self._strays.append((name, noted))
            return
        strange = []
        for item in noted:
            if isinstance(item, str) and item in self._kinds:
                _note(names, item)
            else:
                strange.append(item)
        if strange:
            self._strays.append((name, strange))

    def _overflow(self) -> object:
        """Return what the overflow column will hold: what came in it, and the strays."""
        own = _as_dict(self._extra)
        if own is None:
            if not self._strays:
                return self._extra
            own = {} if self._extra is None else {self._overflow_column: self._extra}
        for note, names in (("_altered", self._altered), ("_capped", self._capped)):
            if note in own:
                self._keep_notes(note, own.pop(note), names)
        fields: dict[str, object] = dict.fromkeys(_NOTES)
        for key, value in [*own.items(), *self._strays]:
            name = free_name(key_text(key), fields)
            if not isinstance(key, str) or name != key:
                _note(self._altered, self._overflow_column)
            fields[name] = self._marker(value) if isinstance(value, TooDeep) else value
        for note in _NOTES:
            del fields[note]
        return fields

    def _marker(self, value: TooDeep) -> object:
        _note(self._capped, self._overflow_column)
        return orjson.loads(capped_json(value.json))

    def _cap_columns(self) -> None:
        """Cap texts that are too long, then what is largest until the event keeps its own cap."""
        texts = {name: value for name, value in self._columns.items() if isinstance(value, str)}
        for name, text in texts.items():
            limit = NAME_BYTES if name in NAMES else self._caps.column_bytes
            if len(text.encode()) > limit:
                _note(self._capped, name)
                self._columns[name] = capped_text(text, limit)
        sizes = {
            name: len(encode_event(value))
            for name, value in self._columns.items()
            if isinstance(value, (msgspec.Raw, str))
        }
        excess = sum(sizes.values()) - self._caps.event_bytes
        for name, size in sorted(sizes.items(), key=lambda column: -column[1]):
            if excess <= 0 or size <= KIB:  # what is smaller would not shrink
                break
            value = self._columns[name]
            self._columns[name] = capped = (
                msgspec.Raw(capped_json(bytes(value)))
                if isinstance(value, msgspec.Raw)
                else capped_text(texts[name], KIB)
            )
            _note(self._capped, name)
            excess -= size - len(encode_event(capped))

    def _write_notes(self) -> None:
        notes: dict[str, list[str]] = {}
        if self._altered:
            notes["_altered"] = self._altered
        if self._capped and self._type == "request":
            self._columns["truncated"] = msgspec.Raw(orjson.dumps(self._capped))
        elif self._capped:
            notes["_capped"] = self._capped
        if not notes:
            return
        # Spliced, not parsed: the overflow may hold numbers that a parser would round.
        overflow = bytes(cast("msgspec.Raw", self._columns.get(self._overflow_column, b"{}")))
        if not overflow.startswith(b"{"):
            overflow = b'{"%s":%s}' % (self._overflow_column.encode(), overflow)
        joint = b"" if overflow == b"{}" else b","
        self._columns[self._overflow_column] = msgspec.Raw(
            overflow[:-1] + joint + orjson.dumps(notes)[1:]
        )


def _as_dict(value: object) -> dict[object, object] | None:
    """Return the members of what JSON would write as an object."""
    try:
        opened = value if isinstance(value, Mapping) else represent(value)
        return dict(opened) if isinstance(opened, Mapping) else None
    except Exception:  # noqa: BLE001 - no object, or a proxy's own object failed
        return None


def _note(names: list[str], name: str) -> None:
    if name not in names:
        names.append(str.__str__(name))


def normalised_line(fields: Mapping[Any, object], caps: Caps) -> bytes:
    """Return the JSON line of `normalise`; raises as it does."""
    return encode_event(normalise(fields, caps))
