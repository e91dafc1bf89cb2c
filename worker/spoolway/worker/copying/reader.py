"""Reading Spoolway's two tables: a page of rows after an id, or the rows of some ids.

Each page is a statement of its own: no long transaction that keeps PostgreSQL from cleaning up, or
SQLite's WAL from being written back, while a worker writes.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from spoolway.schema import is_uuid7, lower_bound, time_of
from spoolway.schema.columns import COLUMNS
from spoolway.schema.ids import from_ms
from spoolway.worker.copying.record import EVENT_OF, Row
from spoolway.worker.stores.partitions import name as partition_of

T = TypeVar("T")

FIRST: Final = ""
"""Below every id."""
_BUSY: Final = 30.0
"""Seconds that a statement waits for SQLite's one writer."""
_WINDOW_MS: Final = 32 * 86_400_000
"""Milliseconds of ids that one statement asks PostgreSQL for: it locks the partitions that it may
read, and of years of them there are more than its lock table holds."""
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"

# What retention remembers (migration 0003): the bodies of these days are gone.
_LOOK_AGAIN_FROM: Final = "UPDATE spoolway_expired SET before_id = min(before_id, ?)"
_LOOK_AGAIN_AT: Final = """
SELECT spoolway_note_expired(to_date(right(relname, 8), 'YYYYMMDD'), NULL)
FROM pg_inherits JOIN pg_class part ON part.oid = inhrelid
WHERE inhparent = to_regclass('request_logs') AND relname IN ({names})
AND obj_description(part.oid, 'pg_class') IS NOT NULL
"""


class Reader(Protocol):
    """One database's rows. Every method raises what the driver raises."""

    async def bounds(self, table: str) -> tuple[str, int] | None:
        """Return the newest id by now and how many rows there are; None if there is none."""
        ...

    async def page(self, table: str, after: str, newest: str, most: int) -> list[Row]:
        """Return the first rows with ids above `after`, up to `newest`; none when there is none."""
        ...

    async def by_ids(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Return those of these rows that are there."""
        ...

    async def set_created_at(self, table: str, times: Sequence[tuple[str, str]]) -> None:
        """Set when rows were stored, of (id, time) each, as `time_text` has it.

        Their bodies may have to expire: retention, which knows late rows by this time, is told.
        """
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


def _select(table: str, is_postgres: bool) -> str:
    kinds = COLUMNS[EVENT_OF[table]]
    text = "::text" if is_postgres else ""  # jsonb's own words, with every digit
    columns = [f'"{name}"{text if kind == "json" else ""}' for name, kind in kinds.items()]
    if table == "error_logs":
        columns += ["created_at", "request_log_id IS NOT NULL", "NULL"]
    else:
        columns += ["created_at", "NULL", f"enriched{text}"]
    return f"SELECT {', '.join(columns)} FROM {table}"  # noqa: S608 - our own names


def _row(values: Sequence[Any]) -> Row:
    *columns, created_at, linked, enriched = values
    return Row(tuple(columns), created_at, bool(linked), enriched)


# --- SQLite -------------------------------------------------------------------


class SqliteFile:
    """A connection to a file, in whatever thread comes; read only unless told otherwise."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        mode = "rw" if writable else "ro"  # never made by being asked
        self.connection = sqlite3.connect(
            f"file:{quote(str(path.absolute()))}?mode={mode}",
            uri=True,
            timeout=_BUSY,
            isolation_level=None,
            check_same_thread=False,
        )

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a statement finds; bytes that are no UTF-8 as lone surrogates."""
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):  # sqlite3 has no code for it: it is Python's own
                raise
        self.connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        try:
            return self.connection.execute(sql, parameters).fetchall()
        finally:
            self.connection.text_factory = str


class SqliteReader:
    """See `Reader`."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self._file = SqliteFile(path, writable=writable)

    async def bounds(self, table: str) -> tuple[str, int] | None:
        """Return the newest id and how many rows there are."""
        sql = f"SELECT max(id), count(*) FROM {table}"  # noqa: S608 - our own name
        [(newest, number)] = await self._do(lambda: self._file.rows(sql))
        return (newest, number) if number else None

    async def page(self, table: str, after: str, newest: str, most: int) -> list[Row]:
        """Return the next rows."""
        sql = f"{_select(table, False)} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
        return [
            _row(r) for r in await self._do(lambda: self._file.rows(sql, (after, newest, most)))
        ]

    async def by_ids(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Return those of these rows that are there."""
        array = f"[{','.join(f'{chr(34)}{one}{chr(34)}' for one in ids)}]"
        sql = f"{_select(table, False)} WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names
        return [_row(row) for row in await self._do(lambda: self._file.rows(sql, (array,)))]

    async def set_created_at(self, table: str, times: Sequence[tuple[str, str]]) -> None:
        """Set when rows were stored."""
        sql = f"UPDATE {table} SET created_at = ? WHERE id = ?"  # noqa: S608 - our own name

        def update() -> None:
            connection = self._file.connection
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits, or rolls back
                connection.executemany(sql, [(moment, one) for one, moment in times])
                if table == "request_logs":
                    connection.execute(_LOOK_AGAIN_FROM, [min(one for one, _ in times)])

        await self._do(update)

    async def close(self) -> None:
        """Close the file."""
        self._file.connection.close()

    async def _do(self, step: Callable[[], T]) -> T:
        return await asyncio.to_thread(step)


# --- PostgreSQL ---------------------------------------------------------------


class PostgresReader:
    """See `Reader`. Ids are written into the statements: so each is planned for its partitions."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._one_at_a_time = asyncio.Lock()

    async def bounds(self, table: str) -> tuple[str, int] | None:
        """Return the newest id and how many rows there are."""
        found = await self._rows(
            f"SELECT (SELECT id::text FROM {table} ORDER BY id DESC LIMIT 1), count(*) FROM {table}"  # noqa: S608 - our own name
        )
        newest, number = found[0]
        return (newest, number) if number else None

    async def page(self, table: str, after: str, newest: str, most: int) -> list[Row]:
        """Return the next rows, from as many windows of ids as it takes."""
        start = after or await self._oldest(table)
        above = ">" if after else ">="
        while start is not None and start <= newest:
            end = min(_window_end(start), newest)
            found = await self._rows(
                f"{_select(table, True)} WHERE id {above} '{UUID(start)}' AND id <= '{UUID(end)}' "
                f"ORDER BY id LIMIT {most}"
            )
            if found:
                return [_row(row) for row in found]
            start, above = (end, ">") if end < newest else (None, ">")
        return []

    async def by_ids(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Return those of these rows that are there."""
        if not ids:
            return []
        array = ",".join(f"'{UUID(one)}'" for one in ids)
        return [
            _row(row) for row in await self._rows(f"{_select(table, True)} WHERE id IN ({array})")
        ]

    async def set_created_at(self, table: str, times: Sequence[tuple[str, str]]) -> None:
        """Set when rows were stored."""
        values = ",".join(
            f"('{UUID(one)}'::uuid, '{datetime.fromisoformat(moment).replace(tzinfo=UTC)}'::timestamptz)"
            for one, moment in times
        )
        ids = ",".join(f"'{UUID(one)}'" for one, _ in times)
        async with self._one_at_a_time:
            # The ids are asked of the table, too: for the join alone every partition is read.
            await self._connection.exec_driver_sql(
                f"UPDATE {table} t SET created_at = v.moment FROM (VALUES {values}) v (id, moment) "  # noqa: S608 - ids and times of our own making
                f"WHERE t.id = v.id AND t.id IN ({ids})"
            )
            if table == "request_logs":
                days = {time_of(UUID(one)) for one, _ in times}
                names = ",".join(sorted({f"'{partition_of(table, day.date())}'" for day in days}))
                await self._connection.exec_driver_sql(_LOOK_AGAIN_AT.format(names=names))
            await self._connection.commit()

    async def close(self) -> None:
        """End what is being read; the connection is closed by who opened it."""

    async def _oldest(self, table: str) -> str | None:
        found = await self._rows(f"SELECT id::text FROM {table} ORDER BY id LIMIT 1")  # noqa: S608 - our own name
        return found[0][0] if found else None

    async def _rows(self, sql: str) -> list[Sequence[Any]]:
        async with self._one_at_a_time:
            result = await self._connection.exec_driver_sql(sql)
            rows: list[Sequence[Any]] = list(result.fetchall())
            await self._connection.rollback()  # the lock on its partitions
        return rows


def _window_end(start: str) -> str:
    first = UUID(start)
    if not is_uuid7(first):
        return _LAST_ID
    moment = from_ms((first.int >> 80) + _WINDOW_MS)
    return str(lower_bound(moment))
