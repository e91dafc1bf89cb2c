"""Retention on SQLite: rows and bodies go in small transactions, then pages go back to the disk.

A file has one writer at a time. Each step holds it for about a tenth of a second, and leaves it to
others as long: SQLite's own waiting looks again ten times a second. What is only counted is read
over a connection of its own, beside the writer.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.expired import IS_THERE, MARK, PAYLOAD
from spoolway.worker.stores.retaining import Cuts, Removed, Run, Share, start_of
from spoolway.worker.stores.rows import sqlite_time

T = TypeVar("T")

_SECONDS: Final = 0.1
"""What a step aims at, and the longest pause after it: as long as it took."""
_FEWEST: Final = 100
_MOST: Final = 20_000
"""Rows of a step."""
_PAGES: Final = 50
"""Pages that are freed between two looks at the clock: a millisecond."""
_SAMPLE: Final = 1_000
"""Rows whose bodies are measured, to tell how large those of all are."""
_MOST_LATE: Final = 100_000
"""Ids of rows that came late, read at once."""
_LATE: Final = timedelta(hours=1)
"""As on PostgreSQL: `created_at` is when the transaction began."""
_INCREMENTAL: Final = 2
"""PRAGMA auto_vacuum of a file that can give pages back piece by piece."""

_LAST_OF_SOME: Final = (
    "SELECT max(id) FROM (SELECT id FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?)"
)
# What `truncated` holds may be of any producer: nested too deep for SQLite to read, or no array.
_EXPIRE: Final = f"""
UPDATE request_logs SET truncated = (
    SELECT json_group_array(value) FROM (
        SELECT value FROM json_each(CASE
            WHEN json_valid(truncated) AND json_type(truncated) = 'array' THEN truncated
            ELSE '[]' END) WHERE type = 'text'
        {" ".join(f"UNION ALL SELECT '{name}' WHERE {name} IS NOT NULL" for name in PAYLOAD)}
        UNION ALL SELECT '{MARK}'
    )
), {", ".join(f"{name} = NULL" for name in PAYLOAD)}
WHERE {IS_THERE} AND
"""  # noqa: S608 - names of our own columns
_SIZE: Final = " + ".join(f"coalesce(length(CAST({name} AS BLOB)), 0)" for name in PAYLOAD)
_BODIES: Final = f"FROM request_logs WHERE id >= ? AND id < ? AND {IS_THERE}"
_LATE_ONES: Final = (
    "SELECT id FROM request_logs INDEXED BY ix_request_logs_created_at "  # noqa: S608 - as above
    f"WHERE created_at >= ? AND id >= ? AND id < ? AND {IS_THERE} LIMIT {_MOST_LATE}"
)


class SqliteRetention:
    """See `Retention`."""

    def __init__(self, run: Run, path: Path) -> None:
        """Take what runs a step in a transaction of the store's own connection, and the file."""
        self._run = run
        self._path = path

    async def due(self, cuts: Cuts) -> Removed:
        """Count what would go: rows exactly, bytes by what a row takes on average."""
        return await self._read(partial(_due, cuts=cuts))

    async def steps(self, cuts: Cuts) -> AsyncIterator[Removed]:
        """Delete errors, then requests, which nulls the links to them; then bodies; then shrink."""
        row_bytes = await self._read(_bytes_of_a_row)
        if cuts.errors is not None:
            async for rows in self._walk("error_logs", "", str(start_of(cuts.errors)), _delete):
                yield Removed(errors=Share(0, rows, rows * row_bytes))
        if cuts.requests is not None:
            async for rows in self._walk("request_logs", "", str(start_of(cuts.requests)), _delete):
                yield Removed(requests=Share(0, rows, rows * row_bytes))
        if cuts.bodies is not None:
            async for share in self._expire(cuts):
                yield Removed(bodies=share)
        async for _ in self._shrink():
            yield Removed()

    async def _expire(self, cuts: Cuts) -> AsyncIterator[Share]:
        seen = datetime.now(UTC)
        first, done, last, since = await self._read(partial(_range, cuts=cuts))
        body_bytes = await self._read(partial(_bytes_of_a_body, first=first, last=last))
        while late := await self._read(partial(_late, first=first, last=done, since=since)):
            for start in range(0, len(late), _FEWEST):
                some = late[start : start + _FEWEST]
                rows = await self._step(partial(_expire_these, ids=some))
                yield Share(0, rows, rows * body_bytes)
        async for rows in self._walk("request_logs", max(first, done), last, _expire):
            yield Share(0, rows, rows * body_bytes)
        await self._run(partial(_note, before=max(done, last), seen=seen))

    async def _walk(
        self,
        table: str,
        first: str,
        last: str,
        change: Callable[[sqlite3.Connection, str, str, str], int],
    ) -> AsyncIterator[int]:
        """Change the rows with these ids, so many at a time as take a tenth of a second."""
        size = _Size()
        while True:
            step = partial(_some, table=table, first=first, last=last, size=size, change=change)
            found = await self._step(step)
            if found is None:
                return
            rows, until = found
            first = until + "\0"  # the id after it, as text is compared
            if rows:
                yield rows

    async def _shrink(self) -> AsyncIterator[None]:
        """Give free pages back to the disk, where the file was made for that."""
        while await self._step(_shrink):
            yield

    async def _step(self, step: Callable[[sqlite3.Connection], T]) -> T:
        began = asyncio.get_running_loop().time()
        done: T = await self._run(step)
        await asyncio.sleep(min(asyncio.get_running_loop().time() - began, _SECONDS))
        return done

    async def _read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """Look at the file without being in the writer's way."""

        def looked() -> T:
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True, timeout=5.0)) as connection:
                return look(connection)

        try:
            return await asyncio.to_thread(looked)
        except Exception as error:
            raise classify(error) from error


def rewrite(path: Path) -> None:
    """Write the whole file anew, without free pages, so that it can shrink from now on.

    For files of before that was so. Nobody else can write meanwhile. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("VACUUM")


class _Size:
    """How much a step does: twice as much after a quick one, half as much after a slow one."""

    def __init__(self) -> None:
        self.now = _FEWEST * 5

    def took(self, seconds: float) -> None:
        if seconds < _SECONDS / 2:
            self.now = min(self.now * 2, _MOST)
        elif seconds > _SECONDS:
            self.now = max(self.now // 2, _FEWEST)


def _some(
    connection: sqlite3.Connection,
    *,
    table: str,
    first: str,
    last: str,
    size: _Size,
    change: Callable[[sqlite3.Connection, str, str, str], int],
) -> tuple[int, str] | None:
    began = time.monotonic()
    bounds = first, last, size.now
    until = connection.execute(_LAST_OF_SOME.format(table=table), bounds).fetchone()[0]
    if until is None:
        return None
    rows = change(connection, table, first, until)
    size.took(time.monotonic() - began)
    return rows, until


def _delete(connection: sqlite3.Connection, table: str, first: str, until: str) -> int:
    statement = f"DELETE FROM {table} WHERE id >= ? AND id <= ?"  # noqa: S608 - our own table's name
    return connection.execute(statement, (first, until)).rowcount


def _expire(connection: sqlite3.Connection, _table: str, first: str, until: str) -> int:
    return connection.execute(_EXPIRE + "id >= ? AND id <= ?", (first, until)).rowcount


def _expire_these(connection: sqlite3.Connection, *, ids: Sequence[str]) -> int:
    marks = ", ".join("?" * len(ids))
    return connection.execute(f"{_EXPIRE} id IN ({marks})", ids).rowcount


def _shrink(connection: sqlite3.Connection) -> bool:
    """Free pages for half of a step's time: the COMMIT takes about as long. Return if any are left."""
    ends = time.monotonic() + _SECONDS / 2
    if _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return False
    while time.monotonic() < ends and _pragma(connection, "freelist_count"):
        for _ in range(_PAGES):
            # One page each time, whatever number is asked for: Python's module takes one step of
            # a statement that has no columns, and the rest of them would be its rows.
            connection.execute("PRAGMA incremental_vacuum(1)").fetchall()
    return _pragma(connection, "freelist_count") > 0


def _due(connection: sqlite3.Connection, *, cuts: Cuts) -> Removed:
    found = Removed()
    row_bytes = _bytes_of_a_row(connection)
    for table, cut, share in (
        ("error_logs", cuts.errors, found.errors),
        ("request_logs", cuts.requests, found.requests),
    ):
        if cut is not None:
            count = f"SELECT count(*) FROM {table} WHERE id < ?"  # noqa: S608 - our own table's name
            rows = int(connection.execute(count, (str(start_of(cut)),)).fetchone()[0])
            share.add(Share(0, rows, rows * row_bytes))
    if cuts.bodies is not None:
        first, done, last, since = _range(connection, cuts=cuts)
        rows = len(_late(connection, first=first, last=done, since=since))
        bounds = max(first, done), last
        rows += int(connection.execute(f"SELECT count(*) {_BODIES}", bounds).fetchone()[0])
        body_bytes = _bytes_of_a_body(connection, first=first, last=last)
        found.bodies.add(Share(0, rows, rows * body_bytes))
    return found


def _bytes_of_a_row(connection: sqlite3.Connection) -> int:
    """Return the bytes of the file, but for free pages, over all rows of both tables."""
    pages = _pragma(connection, "page_count") - _pragma(connection, "freelist_count")
    both = "SELECT (SELECT count(*) FROM request_logs) + (SELECT count(*) FROM error_logs)"
    rows = int(connection.execute(both).fetchone()[0])
    return pages * _pragma(connection, "page_size") // max(rows, 1)


def _bytes_of_a_body(connection: sqlite3.Connection, *, first: str, last: str) -> int:
    sample = f"SELECT avg(size) FROM (SELECT {_SIZE} AS size {_BODIES} LIMIT {_SAMPLE})"  # noqa: S608 - names of our own columns
    return int(connection.execute(sample, (first, last)).fetchone()[0] or 0)


def _range(connection: sqlite3.Connection, *, cuts: Cuts) -> tuple[str, str, str, str]:
    """Return where rows begin, where bodies are left, where they stay; and since when some are late."""
    noted = connection.execute("SELECT before_id, seen FROM spoolway_expired").fetchone()
    done, seen = noted or ("", "")
    first = "" if cuts.requests is None else str(start_of(cuts.requests))
    last = "" if cuts.bodies is None else str(start_of(cuts.bodies))
    return first, done, last, seen


def _late(connection: sqlite3.Connection, *, first: str, last: str, since: str) -> list[str]:
    found = connection.execute(_LATE_ONES, (since, first, last)).fetchall() if since else []
    return [row[0] for row in found]


def _note(connection: sqlite3.Connection, *, before: str, seen: datetime) -> None:
    connection.execute("DELETE FROM spoolway_expired")
    since = sqlite_time(seen - _LATE)
    connection.execute("INSERT INTO spoolway_expired VALUES (?, ?)", (before, since))


def _pragma(connection: Any, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
