"""A database with millions of rows in it, made inside the server from some that a worker wrote.

The rows have UUIDv7 ids in the order of time, as they would have come; all that is measured
afterwards sorts behind them.
"""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import asyncpg

from benchmarks.drained import fill
from benchmarks.scale.drain import drain
from benchmarks.scale.stock import frames
from benchmarks.servers import Servers
from spoolway import migrations
from spoolway.schema.tables import request_logs
from spoolway.worker.config import Settings
from spoolway.worker.stores import open_store
from spoolway.worker.stores.partitions import utc_today

NAME: Final = "full"
DAYS: Final = 30
"""Days before today that have partitions."""
_BLOCK: Final = 10_000
"""Rows of the template, which are the rows of one INSERT."""
_CONNECTIONS: Final = 2
_TIMES: Final = frozenset({"request_time", "created_at"})
# Version and random bits are those of a UUIDv4 with the version overwritten; the variant is the same.
_ID: Final = """
overlay(overlay(gen_random_uuid()::text PLACING
    substr(lpad(to_hex(ms), 12, '0'), 1, 8) || '-' || substr(lpad(to_hex(ms), 12, '0'), 9)
    FROM 1 FOR 13) PLACING '7' FROM 15 FOR 1)::uuid
"""


class Full:
    """A second database of the run's server: `url` is for a worker."""

    def __init__(self, servers: Servers, kilobytes: int) -> None:
        """Make and migrate it, and keep rows that a worker wrote as the template of all others."""
        self._servers = servers
        self.url = servers.postgres.create_database(NAME)
        asyncio.run(self._migrate())
        with servers.valkey.client(timeout=60) as client:
            servers.clean()
            fill(client, frames(kilobytes, _BLOCK))
            drain(servers, client, _BLOCK, database_url=self.url)
        self.sql(
            "CREATE TABLE template AS "
            "SELECT (row_number() OVER (ORDER BY id))::int - 1 AS n, * FROM request_logs"
        )
        self.rows = 0
        self.clear()

    def sql(self, statement: str) -> str:
        """Run a statement in it."""
        return self._servers.postgres.sql(statement, NAME)

    def clear(self) -> None:
        """Take all rows out."""
        self.sql("TRUNCATE request_logs, error_logs")
        self.rows = 0

    def grow(self, rows: int, first: datetime, last: datetime) -> None:
        """Have so many rows in it, with the new ones' ids spread evenly over this time."""
        asyncio.run(self._grow(max(rows - self.rows, 0) // _BLOCK, first, last))

    async def _migrate(self) -> None:
        settings = Settings(database_url=self.url)
        await migrations.upgrade(settings.database)
        store = open_store(settings)
        try:
            await store.prepare_days(utc_today() - timedelta(days=DAYS), DAYS + 2)
        finally:
            await store.close()

    async def _grow(self, blocks: int, first: datetime, last: datetime) -> None:
        await asyncio.gather(
            *(
                self._insert(range(n, blocks, _CONNECTIONS), blocks, first, last)
                for n in range(_CONNECTIONS)
            )
        )
        self.rows += blocks * _BLOCK
        connection: Any = await asyncpg.connect(self.url)
        try:
            await connection.execute("CHECKPOINT")  # many gigabytes: psql would not wait so long
        finally:
            await connection.close()

    async def _insert(self, ours: range, blocks: int, first: datetime, last: datetime) -> None:
        connection: Any = await asyncpg.connect(self.url)
        try:
            insert = await connection.prepare(_insert())
            first_ms, last_ms = (moment.timestamp() * 1e3 for moment in (first, last))
            step = (last_ms - first_ms) / max(blocks, 1) / _BLOCK
            for block in ours:
                await insert.fetch(first_ms + block * _BLOCK * step, step)
        finally:
            await connection.close()


def midnight(day: date) -> datetime:
    """Return when a day begins, UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _insert() -> str:
    """Return the INSERT of a block: $1 is its first millisecond, $2 those from row to row.

    The template was written in the order of n, and is read so: no sort.
    """
    values = {"id": _ID} | dict.fromkeys(_TIMES, "to_timestamp(ms / 1000.0)")
    columns = [column.name for column in request_logs.columns]
    return (
        f"INSERT INTO request_logs ({', '.join(columns)}) "
        f"SELECT {', '.join(values.get(name, name) for name in columns)} "
        "FROM (SELECT *, ($1::float8 + n * $2::float8)::bigint AS ms FROM template) AS template"
    )
