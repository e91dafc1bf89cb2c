"""SQLite's limit: executemany of prepared rows with Python's own module."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from benchmarks.contestants.base import Pace, Target
from benchmarks.meter import Measured, Meter
from benchmarks.rows import ERROR_COLUMNS, REQUEST_COLUMNS
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect

BATCH: Final = 4_000
PRAGMAS: Final = (
    *("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"),
    *("cache_size=-16384", "temp_store=MEMORY", "wal_autocheckpoint=4000"),
)
"""Those of the store."""
LOADS: Final[Sequence[str]] = ("4 KB", "mixed")


class SqliteExecutemany:
    """One transaction per batch, as large as the worker's, with the pragmas that the store sets."""

    name = "sqlite-executemany"
    title = f"SQLite executemany, {BATCH} rows"
    target: Target = "sqlite"
    pace: Pace = "batches"
    loads = LOADS

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, batch by batch."""
        batches = load.text_batches(events, BATCH)
        insert_request = _insert("request_logs", REQUEST_COLUMNS)
        insert_error = _insert("error_logs", ERROR_COLUMNS)
        connection = sqlite3.connect(servers.sqlite, isolation_level=None)
        try:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            with nothing_to_collect():
                meter = Meter(servers)
                meter.start()
                for batch in batches:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(insert_request, batch.requests)
                    connection.executemany(insert_error, batch.errors)
                    connection.execute("COMMIT")
                return meter.stop()
        finally:
            connection.close()


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"
