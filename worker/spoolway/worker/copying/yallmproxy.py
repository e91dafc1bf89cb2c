"""A yaLLMproxy SQLite file: random ids, times without a zone, one table more or less by its age.

Older ones wrote whole requests into `request_logs`; newer ones write what is left of a request
without its payload into `request_metadata`, and both tables are there. Its times are UTC. Ids are
UUIDs in 32 hex digits, in a column that SQLite takes for numeric: an id of digits alone came out
as a number, and is told by that number.

Each row gets a UUIDv7 of its own time and a hash of its own id: the same at each run, so that what
was copied before is recognised. The id it had is `yallmproxy_id` in `extra`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import orjson

from spoolway.schema import BadInput, decode_line, encode_line
from spoolway.schema.columns import COLUMNS
from spoolway.schema.jsonable import Parsed, parse_exact
from spoolway.schema.line import REPAIR_CAPS
from spoolway.worker.copying.canonical import time_text
from spoolway.worker.copying.reader import SqliteFile
from spoolway.worker.copying.record import (
    DIGESTS,
    EVENT_OF,
    ROWS,
    Record,
    dead_record,
    record_of_event,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9998, 12, 31, tzinfo=UTC)
_INTO: Final = {
    "request_logs": "request_logs",
    "request_metadata": "request_logs",
    "error_logs": "error_logs",
}
"""Its tables and ours, in the order of copying: errors find their requests."""
_TIME: Final = {"request_logs": "request_time", "request_metadata": "request_time"}
_RENAMED: Final = {"app_key_id": "api_key_id", "backend_status": "http_status"}
_FLAGS: Final = ("is_tool_call",)
_JSON: Final = {"tool_calls", "modules_log"} | {
    name for kinds in COLUMNS.values() for name, kind in kinds.items() if kind == "json"
}
_ALL_BITS: Final = (1 << 74) - 1


def is_yallmproxy(file: SqliteFile) -> bool:
    """Tell by its tables: both projects have `request_logs`, and columns that the other has not."""
    columns = _columns(file, "request_logs")
    return "request_time" in columns and "truncated" not in columns


def derived_id(moment: datetime, table: str, original: str) -> UUID:
    """Return the UUIDv7 of a row: its time in milliseconds, and 74 bits of a hash of its id."""
    ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    digest = blake2b(f"{table} {original}".encode(errors="replace"), digest_size=16).digest()
    bits = int.from_bytes(digest) & _ALL_BITS
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return UUID(int=(ms << 80) | (0x7 << 76) | (high << 64) | (0x2 << 62) | low)


def yallmproxy_tables(file: SqliteFile) -> list["YallmproxyTable"]:
    """Return the tables that are there, up to the newest row of now."""
    return [YallmproxyTable(file, table) for table in _INTO if _columns(file, table)]


class YallmproxyTable:
    """See `SourceTable`; in the order in which its rows were written."""

    def __init__(self, file: SqliteFile, table: str) -> None:
        self.table = _INTO[table]
        self._file = file
        self._from = table
        self._columns = _columns_in_order(file, table)
        [(newest, self.rows)] = file.rows(f"SELECT max(rowid), count(*) FROM {table}")  # noqa: S608 - one of ours
        self._newest = newest or 0
        self._has_metadata = bool(_columns(file, "request_metadata"))

    async def page(self, after: str, most: int) -> tuple[list[Record], str]:
        """Return the next records; see `SourceTable`."""
        return await asyncio.to_thread(self._page, int(after or -(2**63)), most)

    def _page(self, after: int, most: int) -> tuple[list[Record], str]:
        names = ", ".join(f'"{name}"' for name in self._columns)
        found = self._file.rows(
            f"SELECT rowid, {names} FROM {self._from} "  # noqa: S608 - names that the file itself gave
            "WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?",
            (after, self._newest, most),
        )
        rows = [dict(zip(self._columns, values[1:], strict=True)) for values in found]
        if self._from == "error_logs":
            times = self._times_of([row.get("request_log_id") for row in rows])
            records = [self._error(row, times) for row in rows]
        else:
            records = [self._request(row) for row in self._merged(rows)]
        return records, str(found[-1][0]) if found else str(after)

    def _merged(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make one row of what both tables say of one request."""
        other = "request_logs" if self._from == "request_metadata" else "request_metadata"
        if not self._has_metadata:
            return rows
        same = self._by_ids(other, [row["id"] for row in rows])
        if self._from == "request_metadata":
            return [row for row in rows if row["id"] not in same]  # came with the other table
        return [
            {**same.get(row["id"], {}), **{k: v for k, v in row.items() if v is not None}}
            for row in rows
        ]

    def _times_of(self, ids: Sequence[Any]) -> dict[Any, Mapping[str, Any]]:
        """Return the requests that errors refer to, by id."""
        found: dict[Any, Mapping[str, Any]] = {}
        if self._has_metadata:
            found |= self._by_ids("request_metadata", ids)
        return found | self._by_ids("request_logs", ids)

    def _by_ids(self, table: str, ids: Sequence[Any]) -> dict[Any, dict[str, Any]]:
        wanted = [one for one in ids if one is not None]
        names = _columns_in_order(self._file, table)
        marks = ", ".join("?" * len(wanted))
        columns = ", ".join(f'"{name}"' for name in names)
        found = self._file.rows(
            f"SELECT {columns} FROM {table} WHERE id IN ({marks})",  # noqa: S608 - names that the file itself gave
            wanted,
        )
        rows = [dict(zip(names, values, strict=True)) for values in found]
        return {row["id"]: row for row in rows}

    def _request(self, row: dict[str, Any]) -> Record:
        return self._record(row, {})

    def _error(self, row: dict[str, Any], requests: Mapping[Any, Mapping[str, Any]]) -> Record:
        reference = row.pop("request_log_id", None)
        more: dict[str, Any] = {}
        if reference is not None:
            more["yallmproxy_request_log_id"] = original_id(reference)
            request = requests.get(reference)
            moment = _moment(request, "request_time") if request is not None else None
            if moment is not None:
                more["request_id"] = derived_id(moment, "request_logs", original_id(reference))
        return self._record(row, more, linked="request_id" in more)

    def _record(self, row: dict[str, Any], more: dict[str, Any], *, linked: bool = False) -> Record:
        original = original_id(row.pop("id"))
        moment = _moment(row, _TIME.get(self._from, "timestamp"))
        source = f"yaLLMproxy {self._from} {original}"
        if moment is None:
            raw = orjson.dumps({**_named(row), "yallmproxy_id": original}, default=repr)
            return dead_record(source, raw, "bad-input", "no time in it between 1970 and 9998")
        created_at = _time(row.pop("created_at", None)) or moment
        event_id = derived_id(moment, self.table, original)
        fields = {
            "type": EVENT_OF[self.table],
            "id": event_id,
            **_fields(row),
            **more,
            "yallmproxy_id": original,
        }
        time_column = _TIME.get(self._from, "timestamp")
        if _time(row.get(time_column)) is None:
            fields[time_column] = moment
        try:
            line = encode_line(fields, REPAIR_CAPS)
            event = decode_line(line)
            values = ROWS[self.table].row(event)
            digest = DIGESTS[self.table].of(values)
            return record_of_event(event, line, digest, time_text(created_at), linked=linked)
        except BadInput as error:
            raw = orjson.dumps(_named(row), default=repr)
            return dead_record(source, raw, error.reason, str(error))


def original_id(value: Any) -> str:
    """Return the id as people know it: with hyphens, where it is 32 hex digits."""
    text = str(value)
    try:
        return str(UUID(text)) if len(text) == 32 else text
    except ValueError:
        return text


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        if name in _JSON and isinstance(value, (str, bytes)):
            value = _json(value)  # noqa: PLW2901 - the column's value, read
        elif name in _FLAGS and value in (0, 1):
            value = bool(value)  # noqa: PLW2901 - as above
        fields[_RENAMED.get(name, name)] = value
    return fields


def _json(value: str | bytes) -> Any:
    """Return the JSON in a column; a text that is none, as the text it is."""
    text = value.decode(errors="surrogateescape") if isinstance(value, bytes) else value
    try:
        parsed = parse_exact(text)
    except (ValueError, RecursionError):
        return text
    return Parsed(parsed) if isinstance(parsed, (dict, list)) else parsed


def _named(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        str(name): str(value).encode(errors="surrogateescape").decode(errors="replace")
        for name, value in row.items()
        if value is not None
    }


def _moment(row: Mapping[str, Any], column: str) -> datetime | None:
    """Return a row's time; where that is none, when it was stored."""
    return _time(row.get(column)) or _time(row.get("created_at"))


def _time(value: Any) -> datetime | None:
    """Return a time of SQLAlchemy's, as UTC; None for what is no time, or has no place in an id."""
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
    return moment if _EPOCH <= moment <= _LAST else None


def _columns_in_order(file: SqliteFile, table: str) -> list[str]:
    return [row[1] for row in file.rows(f"PRAGMA table_info({table})")]


def _columns(file: SqliteFile, table: str) -> set[str]:
    return set(_columns_in_order(file, table))
