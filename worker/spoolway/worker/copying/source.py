"""Where rows come from: a database of Spoolway's own, or a yaLLMproxy file."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sqlalchemy.engine import URL

from spoolway import migrations
from spoolway.migrations.connection import connected
from spoolway.worker.config import UsageError, shown_url
from spoolway.worker.copying.reader import FIRST, PostgresReader, Reader, SqliteFile, SqliteReader
from spoolway.worker.copying.record import EVENT_OF, Record, record_of
from spoolway.worker.copying.yallmproxy import YallmproxyTable, is_yallmproxy, yallmproxy_tables


class SourceTable(Protocol):
    """Rows that go into one table, in an order that can be taken up again after any of them."""

    table: str
    """Of the target."""
    rows: int
    """How many there were when it was opened, for a progress bar."""

    async def page(self, after: str, most: int) -> tuple[list[Record], str]:
        """Return the next records, and what comes `after` them; no records at the end."""
        ...


@dataclass(slots=True)
class Source:
    """An opened source: what it is, and its tables in the order they are copied in."""

    kind: str
    tables: Sequence[SourceTable]


class OwnTable:
    """A table of Spoolway's own, up to the newest id that was there when it was opened."""

    def __init__(self, reader: Reader, table: str, newest: str, rows: int) -> None:
        self.table = table
        self.rows = rows
        self._reader = reader
        self._newest = newest

    async def page(self, after: str, most: int) -> tuple[list[Record], str]:
        """Return the next records; see `SourceTable`."""
        rows = await self._reader.page(self.table, after, self._newest, most)
        return [record_of(self.table, row) for row in rows], rows[-1].id if rows else after


@asynccontextmanager
async def opened_source(url: URL) -> AsyncIterator[Source]:
    """Open a source, told by its tables. Raises UsageError, and what the drivers raise."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        file = _opened_file(path)
        try:
            if is_yallmproxy(file):
                tables: list[YallmproxyTable] = yallmproxy_tables(file)
                yield Source("yallmproxy", tables)
                return
        except sqlite3.DatabaseError as error:
            raise UsageError(
                f"--from: {path} cannot be read as a SQLite database: {error}"
            ) from None
        finally:
            file.connection.close()
        await _require_tables(url)
        reader = SqliteReader(path)
        try:
            yield Source("spoolway", await _own_tables(reader))
        finally:
            await reader.close()
    else:
        await _require_tables(url)
        async with connected(url) as connection:
            yield Source("spoolway", await _own_tables(PostgresReader(connection)))


def _opened_file(path: Path) -> SqliteFile:
    if not path.is_file():
        raise UsageError(f"--from: there is no file {path}")
    return SqliteFile(path)


async def _require_tables(url: URL) -> None:
    at = await migrations.current(url)
    if at.revision is None:
        raise UsageError(
            f"--from: {shown_url(url)} has no tables of Spoolway and none of yaLLMproxy"
        )
    if not at.is_newest:
        raise UsageError(
            f"--from: {shown_url(url)} is at revision {at.revision}, this version reads "
            f"{at.newest}: "
            + ("spoolway db upgrade" if at.is_known else "use the newer spoolway that migrated it")
        )


async def _own_tables(reader: Reader) -> list[OwnTable]:
    tables = []
    for table in EVENT_OF:
        bounds = await reader.bounds(table)
        newest, rows = bounds or (FIRST, 0)
        tables.append(OwnTable(reader, table, newest, rows))
    return tables
