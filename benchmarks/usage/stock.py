"""Ten million requests of thirty days in a database: copies of a template, spread evenly over time.

Nothing but the rows is put there by hand: the roll-ups are made of them by `spoolway rollup rebuild`.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import asyncpg

from benchmarks.rounds import say
from benchmarks.usage.traffic import COLUMNS, TEMPLATE, Traffic
from spoolway import migrations
from spoolway.worker.config import Settings
from spoolway.worker.stores import open_store
from spoolway.worker.stores.partitions import utc_today

DAYS: Final = 30
"""That the requests are spread over; the last of them is from now."""

_TEMPLATE: Final = (
    "CREATE TEMPORARY TABLE template AS "
    f"SELECT 0 AS n, '' AS error, {', '.join(COLUMNS)} FROM request_logs LIMIT 0"
)
# i counts all requests: an id is its time and its number. No randomness is needed where ids are
# as much in order as a proxy's are.
_POSTGRES_ID: Final = (
    "(lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '{kind}' || "
    "lpad(to_hex(i), 12, '0'))::uuid"
)
_POSTGRES_ROWS: Final = (
    "SELECT *, $1::bigint + n AS i, ($2::float8 + ($1::bigint + n) * $3::float8)::bigint AS ms "
    "FROM template WHERE n < $4"
)
_POSTGRES_TIME: Final = "to_timestamp((ms + {later}) / 1000.0)"
_SQLITE_ID: Final = "printf('%08x-%04x-7%03x-{kind}-%012x', ms >> 16, ms & 65535, i % 4096, i)"
_SQLITE_ROWS: Final = (
    "SELECT *, ?1 + n AS i, CAST(?2 + (?1 + n) * ?3 AS INTEGER) AS ms FROM template WHERE n < ?4"
)
_SQLITE_TIME: Final = "strftime('%Y-%m-%d %H:%M:%f000', (ms + {later}) / 1000.0, 'unixepoch')"
_REQUEST: Final = "8000"
_ERROR: Final = "8001"


@dataclass(frozen=True, slots=True)
class Stock:
    """What is asked for."""

    requests: int
    end_ms: int
    """Unix time of the last request, in milliseconds."""

    @property
    def start_ms(self) -> int:
        """The same of the first."""
        return self.end_ms - DAYS * 86_400_000

    @property
    def template(self) -> int:
        """Rows of the template."""
        return min(self.requests, TEMPLATE)

    def pieces(self) -> Iterator[tuple[int, float, float, int]]:
        """Yield what the statements take: number of the first, start, step, and how many."""
        step = (self.end_ms - self.start_ms) / self.requests
        for first in range(0, self.requests, self.template):
            yield first, float(self.start_ms), step, min(self.template, self.requests - first)


async def fill(settings: Settings, stock: Stock) -> float:
    """Migrate and fill; return the seconds that took."""
    began = time.monotonic()
    await migrations.upgrade(settings.database)
    if settings.database.get_backend_name() == "sqlite":
        _fill_sqlite(str(settings.database.database), stock)
    else:
        await _fill_postgres(settings, stock)
    return time.monotonic() - began


async def _fill_postgres(settings: Settings, stock: Stock) -> None:
    store = open_store(settings)
    try:
        await store.prepare_days(utc_today() - timedelta(days=DAYS + 1), DAYS + 4)
    finally:
        await store.close()
    url = settings.database.set(drivername="postgresql")
    connection: Any = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute("SET synchronous_commit = off")
        await connection.execute(_TEMPLATE)
        await connection.copy_records_to_table("template", records=Traffic().rows(stock.template))
        for piece in stock.pieces():
            for statement in _statements(_POSTGRES_ID, _POSTGRES_TIME, _POSTGRES_ROWS):
                await connection.execute(statement, *piece)
            say(f"{piece[0] + piece[3]:,} requests in PostgreSQL")
        await connection.execute("VACUUM (ANALYZE) request_logs, error_logs")
    finally:
        await connection.close()


def _fill_sqlite(path: str, stock: Stock) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -262144")
        connection.execute(_TEMPLATE)
        marks = ", ".join("?" * (2 + len(COLUMNS)))
        rows = Traffic().rows(stock.template)
        connection.executemany(f"INSERT INTO template VALUES ({marks})", rows)
        for piece in stock.pieces():
            for statement in _statements(_SQLITE_ID, _SQLITE_TIME, _SQLITE_ROWS):
                connection.execute(statement, piece)
            connection.commit()
            say(f"{piece[0] + piece[3]:,} requests in SQLite")


def _statements(one_id: str, moment: str, rows: str) -> tuple[str, str]:
    """Return the INSERTs of some requests, and of their errors: half a second later."""
    request, error = one_id.format(kind=_REQUEST), one_id.format(kind=_ERROR)
    began, ended = moment.format(later="0"), moment.format(later="duration_ms")
    columns = ", ".join(COLUMNS)
    requests = (
        f"INSERT INTO request_logs (id, request_time, created_at, {columns}) "
        f"SELECT {request}, {began}, {ended}, {columns} FROM ({rows}) AS numbered"
    )
    errors = (
        "INSERT INTO error_logs (id, timestamp, created_at, model_name, error_type, error_message, "
        "backend_name, http_status, request_path, request_log_id, request_id) "
        f"SELECT {error}, {ended}, {ended}, model_name, error, error || ': the provider said no', "
        f"provider || '-1', http_status, path, {request}, {request} "
        f"FROM ({rows}) AS numbered WHERE error IS NOT NULL"
    )
    return requests, errors
