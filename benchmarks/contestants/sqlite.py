"""SQLite's limit: executemany of prepared rows with Python's own module."""

import sqlite3
from typing import Final

from benchmarks.contestants.base import ALL_SIZES, Pace, Target
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.worker.stores.rows import REQUESTS

BATCH: Final = 1_000
_INSERT: Final = "INSERT INTO {} ({}) VALUES ({})".format(
    REQUESTS.table,
    ", ".join(f'"{name}"' for name in REQUESTS.columns),
    ", ".join("?" * len(REQUESTS.columns)),
)


class SqliteExecutemany:
    """One transaction per batch, with the pragmas that the store sets."""

    name = "sqlite-executemany"
    title = f"SQLite executemany, {BATCH} rows"
    target: Target = "sqlite"
    pace: Pace = "batches"
    kilobytes = ALL_SIZES

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, batch by batch."""
        rows = load.text_rows(events)
        connection = sqlite3.connect(servers.sqlite, isolation_level=None)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")
            with nothing_to_collect():
                meter = Meter(servers)
                meter.start()
                for start in range(0, len(rows), BATCH):
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(_INSERT, rows[start : start + BATCH])
                    connection.execute("COMMIT")
                return meter.stop()
        finally:
            connection.close()
