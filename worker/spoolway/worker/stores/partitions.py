"""Partitions of the two tables on PostgreSQL: one per UTC day, by range of ids.

The database's own functions make and drop them, with the rights of the tables' owner: the worker's
role needs none (migration 0002, docs/postgresql.md).
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from spoolway.worker.stores.transaction import begin, in_transaction

TABLES: Final = ("request_logs", "error_logs")
_EPOCH: Final = date(1970, 1, 1)
_IS_THERE: Final = """
SELECT EXISTS (
    SELECT FROM pg_inherits
    WHERE inhrelid = to_regclass($1) AND inhparent = to_regclass($2) AND NOT inhdetachpending
)
"""
_MAKE: Final = "SELECT spoolway_make_partition($1, $2)"
_DROP: Final = "SELECT spoolway_drop_partition($1, $2)"
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

    def __init__(self, *, statement_timeout: float, lock_timeout: float = _LOCK_TIMEOUT) -> None:
        """Take how long one statement, and each wait for a lock in it, may last, in seconds."""
        self._ready: set[int] = set()
        self._begin = begin(
            statement_timeout=statement_timeout, lock_timeout=min(lock_timeout, statement_timeout)
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
                    made += await self._call(connection, _MAKE, table, day)
            self._ready.add(number)
        return made

    async def drop(self, connection: Any, table: str, day: date) -> bool:
        """Drop a table's partition of a day, with its rows; return whether there was one.

        In a transaction of its own. Errors must not point into it any more: as long as they do,
        this is a foreign key's violation, which is retryable, and nothing is dropped.
        """
        dropped = await self._call(connection, _DROP, table, day)
        self._ready.discard(day_number(day))
        return dropped

    async def _call(self, connection: Any, function: str, table: str, day: date) -> bool:
        return bool(
            await in_transaction(
                connection, self._begin, lambda: connection.fetchval(function, table, day)
            )
        )
