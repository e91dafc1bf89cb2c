"""The index that makes full-text search fast on PostgreSQL: optional, for it costs space and ingest.

Trigrams (pg_trgm) of the searched columns, an index for each day. Those of the days that are there
are built beside the writers; a day that is made later has one from the start. The expressions are
those of `words.in_json`: else it would not be used.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from sqlalchemy.engine import URL

from spoolway.migrations.connection import connected
from spoolway.migrations.differences import SEARCH_INDEX
from spoolway.worker.config import UsageError
from spoolway.worker.reading.logs import SEARCHED

_LOCK_SECONDS: Final = 5
"""How long to wait for a lock that all writers then wait behind."""
_NOT_ON_THE_SERVER: Final = ("0A000", "58P01")
_NOT_ALLOWED: Final = "42501"
_LOCKED: Final = "55P03"
_NO_TABLE: Final = "42P01"

_HOME_OF_TRIGRAMS: Final = """
SELECT quote_ident(nspname) FROM pg_extension home
JOIN pg_namespace ON pg_namespace.oid = home.extnamespace WHERE extname = 'pg_trgm'
"""
_IS_THERE: Final = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)"
_DAYS: Final = """
SELECT part.oid::regclass::text AS day, format('%I', part.relname || '_search') AS name,
       format('%I.%I', nspname, part.relname || '_search') AS own, attached.indexrelid AS attached,
       coalesce(pg_relation_size(attached.indexrelid), 0) AS bytes,
       to_regclass(format('%I.%I', nspname, part.relname || '_search')) AS unattached
FROM pg_inherits tree
JOIN pg_class part ON part.oid = tree.inhrelid
JOIN pg_namespace ON pg_namespace.oid = part.relnamespace
LEFT JOIN (pg_index JOIN pg_inherits up ON up.inhrelid = pg_index.indexrelid) AS attached
    ON attached.indrelid = part.oid AND attached.inhparent = to_regclass($1)
WHERE tree.inhparent = to_regclass('request_logs') AND NOT tree.inhdetachpending
ORDER BY part.relname
"""


@dataclass(slots=True, frozen=True)
class SearchIndex:
    """What there is of it."""

    days: int
    """That there are, with an index or without."""
    indexed: int
    """Days that have one."""
    bytes: int


async def state(url: URL) -> SearchIndex | None:
    """Return what there is; None without an index. Raises UsageError on SQLite."""
    async with _driver(url) as driver:
        if await driver.fetchval(_IS_THERE, SEARCH_INDEX) is None:
            return None
        days = await driver.fetch(_DAYS, SEARCH_INDEX)
        indexed = [day for day in days if day["attached"] is not None]
        return SearchIndex(len(days), len(indexed), sum(day["bytes"] for day in indexed))


async def create(url: URL, progressed: Callable[[int], None]) -> int:
    """Make the index, or what is missing of it; return for how many days one was built.

    `progressed` is called with 1 for each day. Ended in the middle, it goes on there the next time.

    Raises:
        UsageError: on SQLite; without pg_trgm; for a role that may not.
    """
    async with _driver(url) as driver:
        home = await _require_trigrams(driver)
        columns = ", ".join(
            f'(("{name}"::text)) COLLATE "C" {home}.gin_trgm_ops' for name in SEARCHED
        )
        # Without the days that are there, which it would lock until all are built; those to come
        # are made with one.
        await _locking(
            driver,
            f"CREATE INDEX IF NOT EXISTS {SEARCH_INDEX} ON ONLY request_logs USING gin ({columns})",
        )
        built = 0
        for day in await driver.fetch(_DAYS, SEARCH_INDEX):
            if day["attached"] is None:
                built += await _build(driver, day, columns)
            progressed(1)
        return built


async def drop(url: URL) -> bool:
    """Remove it, and what an interrupted `create` has left; return whether there was any.

    Raises:
        UsageError: on SQLite; for a role that may not; if somebody works with the table for too long.
    """
    async with _driver(url) as driver:
        was_there = await driver.fetchval(_IS_THERE, SEARCH_INDEX) is not None
        await _locking(driver, f"DROP INDEX IF EXISTS {SEARCH_INDEX}")
        for day in await driver.fetch(_DAYS, SEARCH_INDEX):
            if day["unattached"] is not None:
                await driver.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {day['own']}")
                was_there = True
        return was_there


async def _build(driver: Any, day: Any, columns: str) -> int:
    """Build one day's index beside its writers, and make it a part of the whole."""
    # What is there is not attached: an interrupted build has left it, and it may not be whole.
    await driver.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {day['own']}")
    try:
        await driver.execute(
            f"CREATE INDEX CONCURRENTLY {day['name']} ON {day['day']} USING gin ({columns})"
        )
    except asyncpg.UndefinedTableError:
        return 0  # retention was faster
    await _locking(driver, f"ALTER INDEX {SEARCH_INDEX} ATTACH PARTITION {day['own']}")
    return 1


async def _require_trigrams(driver: Any) -> str:
    """Return the schema that pg_trgm is in, installed if it was not."""
    if (home := await driver.fetchval(_HOME_OF_TRIGRAMS)) is None:
        try:
            await driver.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except asyncpg.PostgresError as error:
            if error.sqlstate in _NOT_ON_THE_SERVER:
                raise UsageError(
                    "this PostgreSQL server has no pg_trgm, which the index is made with: install "
                    "its contrib package there (Debian has it in postgresql-15, Fedora in "
                    "postgresql-contrib); search works without an index, too"
                ) from None
            if error.sqlstate == _NOT_ALLOWED:
                raise UsageError(
                    "this role may not install pg_trgm: have the database's owner or an "
                    "administrator run CREATE EXTENSION pg_trgm in it"
                ) from None
            raise
        home = await driver.fetchval(_HOME_OF_TRIGRAMS)
    return str(home)


async def _locking(driver: Any, statement: str) -> None:
    """Run what needs a lock on the table for a moment; raises UsageError if that takes long."""
    try:
        # Of a transaction: behind a pooler the next statement may be in another session.
        await driver.execute(
            f"BEGIN; SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'; {statement}; COMMIT"
        )
    except asyncpg.PostgresError as error:
        await driver.execute("ROLLBACK")
        if error.sqlstate == _LOCKED:
            raise UsageError(
                f"request_logs was in use for more than {_LOCK_SECONDS} s: try again, or look for "
                "long transactions in pg_stat_activity"
            ) from None
        if error.sqlstate == _NOT_ALLOWED:
            raise UsageError(
                "only the owner of request_logs makes or drops its indexes: give a URL of that role"
            ) from None
        if error.sqlstate == _NO_TABLE:
            raise UsageError("there is no table request_logs: run spoolway db upgrade") from None
        raise


@asynccontextmanager
async def _driver(url: URL) -> AsyncIterator[Any]:
    """Connect; each statement is a transaction of its own, which CONCURRENTLY needs."""
    if url.get_backend_name() == "sqlite":
        raise UsageError(
            "SQLite has no index for search: it reads the rows. For more than it can read in time, "
            "use PostgreSQL (spoolway db copy)"
        )
    async with connected(url) as connection:
        yield (await connection.get_raw_connection()).driver_connection
