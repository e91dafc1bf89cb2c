"""Partitions of the two tables on PostgreSQL: one per UTC day, by range of ids."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

from spoolway.schema import id_range
from spoolway.worker.stores.transaction import begin, in_transaction

TABLES: Final = ("request_logs", "error_logs")
_EPOCH: Final = date(1970, 1, 1)
_IS_THERE: Final = """
SELECT EXISTS (
    SELECT FROM pg_inherits
    WHERE inhrelid = to_regclass($1) AND inhparent = to_regclass($2) AND NOT inhdetachpending
)
"""
_LOCK: Final = 0x5F_53_50_4F_4F_4C_50_01
"""Advisory lock for making partitions: two workers that need the same day take turns."""
_LOCK_TIMEOUT: Final = 1.0
"""Seconds to wait for other transactions. Writers queue behind whoever waits for a table."""


def utc_today() -> date:
    """Return today's date in UTC: the day partitions are named by."""
    return datetime.now(UTC).date()


def day_number(day: date) -> int:
    """Return days since 1970-01-01 UTC, as an `Item` carries it."""
    return (day - _EPOCH).days


def name(table: str, day: date) -> str:
    """Return the partition's name: request_logs_p20260131."""
    return f"{table}_p{day:%Y%m%d}"


class Partitions:
    """The days that are ready. Asks the database once per day it has not seen."""

    def __init__(self, *, statement_timeout: float) -> None:
        """Take how long one statement may last, in seconds."""
        self._ready: set[int] = set()
        self._begin = begin(
            statement_timeout=statement_timeout, lock_timeout=min(_LOCK_TIMEOUT, statement_timeout)
        )

    def missing(self, days: Iterable[int]) -> set[int]:
        """Return the days for which nobody has made sure yet that partitions exist."""
        return set(days) - self._ready

    async def make(self, connection: Any, days: Iterable[int]) -> int:
        """Create the partitions of these days that do not exist; return how many were made.

        Each in a transaction of its own and request_logs first, as every writer locks them, so
        that a writer in the middle of its batch and this never wait for each other in a circle.
        """
        made = 0
        for number in sorted(days):
            day = _EPOCH + timedelta(days=number)
            for table in TABLES:
                if not await connection.fetchval(_IS_THERE, name(table, day), table):
                    make_one = partial(_make_one, connection, table, day)
                    made += await in_transaction(connection, self._begin, make_one)
            self._ready.add(number)
        return made


async def _make_one(connection: Any, table: str, day: date) -> int:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    partition = name(table, day)
    if await connection.fetchval(_IS_THERE, partition, table):
        return 0
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first, last = id_range(midnight, midnight + timedelta(days=1))
    # In two steps, because PARTITION OF locks out readers too: it would wait for the longest of
    # them, and everybody else behind it. ATTACH waits for writers alone, and gives it the indexes.
    await connection.execute(
        f"CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS "
        "INCLUDING STORAGE INCLUDING COMPRESSION)"
    )
    await connection.execute(
        f"ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{first}') TO ('{last}')"
    )
    return 1
