"""How large the database is, and how far ahead its partitions reach: cheap questions, asked rarely.

Sizes are those of files: nothing here reads a table, or waits for who locks one.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from spoolway.worker.stores.transaction import begin, in_transaction

_LOCK_SECONDS: Final = 0.1
"""How long these questions wait: a table that is being changed is measured next time."""
_BEGIN: Final = begin(statement_timeout=2.0, lock_timeout=_LOCK_SECONDS)
_DATABASE: Final = "SELECT pg_database_size(current_database())"
_TABLES: Final = """
SELECT parent.relname::text, tree.bytes, tree.partitions, tree.names
FROM pg_class parent, LATERAL (
    SELECT sum(pg_total_relation_size(relid))::bigint AS bytes,
           count(*) FILTER (WHERE isleaf AND parentrelid IS NOT NULL) AS partitions,
           array_agg(leaf.relname::text) AS names
    FROM pg_partition_tree(parent.oid) JOIN pg_class leaf ON leaf.oid = relid
) tree
WHERE parent.oid IN (to_regclass('request_logs'), to_regclass('error_logs'))
"""
_DAY_DIGITS: Final = 8


@dataclass(slots=True, frozen=True)
class TableSize:
    """One table with its indexes, its large values and all its partitions."""

    bytes: int
    partitions: int
    days_ready: int
    """UTC days in a row, from today on, that have a partition."""


@dataclass(slots=True, frozen=True)
class Measured:
    """One database, as its files are."""

    bytes: int
    free_bytes: int | None = None
    """Of these, in pages that deleted rows have left: SQLite fills them before the file grows."""
    tables: dict[str, TableSize] = field(default_factory=dict)
    """PostgreSQL alone: SQLite would have to read the whole file to tell them apart."""


@dataclass(slots=True, frozen=True)
class PoolUse:
    """Connections to PostgreSQL."""

    in_use: int
    idle: int


async def measure_postgres(connection: Any, today: date) -> Measured:
    """Ask with asyncpg. Raises its exceptions."""
    return await in_transaction(connection, _BEGIN, lambda: _ask(connection, today))


async def _ask(connection: Any, today: date) -> Measured:
    whole = int(await connection.fetchval(_DATABASE))
    tables = {
        name: TableSize(size, partitions, days_ready(names, today))
        for name, size, partitions, names in await connection.fetch(_TABLES)
    }
    return Measured(whole, tables=tables)


def measure_sqlite(path: Path) -> Measured:
    """Ask over a connection of its own that cannot write. Raises sqlite3.Error and OSError."""
    wal = path.with_name(path.name + "-wal")
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        connection.execute(f"PRAGMA busy_timeout = {_LOCK_SECONDS * 1000:.0f}")
        page, free = (
            int(connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_size", "freelist_count")
        )
        used = path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    return Measured(used, free_bytes=page * free)


def days_ready(partitions: Iterable[str], today: date) -> int:
    """Return how many days in a row, from today on, these names have a partition for."""
    days = {name[-_DAY_DIGITS:] for name in partitions}
    ready = 0
    while f"{today + timedelta(days=ready):%Y%m%d}" in days:
        ready += 1
    return ready
