"""A transaction on PostgreSQL that ends by itself, also when nobody is there to end it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import Unreachable

T = TypeVar("T")


_IDLE: Final = 60.0
"""Seconds for which a transaction may wait for its client: longer than any write may take."""

_BEGIN: Final = """
BEGIN ISOLATION LEVEL <isolation>;
SELECT set_config(name, ms::text, true) FROM (VALUES <limits>) AS limits (name, ms)
WHERE current_setting(name)::interval
      NOT BETWEEN interval '1 microsecond' AND ms * interval '1 millisecond'
"""


def begin(
    *, statement_timeout: float, lock_timeout: float, isolation: str = "READ COMMITTED"
) -> str:
    """Return the SQL that begins a transaction with these limits, in seconds.

    A client that gave up is noticed by a server only when it next reads from or writes to it: until
    then a statement that waits for a lock would wait on, and everybody behind it. One whose machine
    has died is not noticed at all, and would keep its locks. Where the server, the database or the
    role has a shorter limit, that one counts. For this transaction alone, because a pooler gives
    the session to others. READ COMMITTED, whatever the database's default is: what another
    transaction inserted meanwhile must be seen by a writer.
    """
    limits = {
        "statement_timeout": statement_timeout,
        "lock_timeout": lock_timeout,
        "idle_in_transaction_session_timeout": _IDLE,
    }
    values = ", ".join(f"('{name}', {_ms(seconds)})" for name, seconds in limits.items())
    return _BEGIN.replace("<isolation>", isolation).replace("<limits>", values)


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would be no limit


async def in_transaction(connection: Any, begin_sql: str, work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` in a transaction. Only a server that answers is asked to roll back."""
    try:
        await connection.execute(begin_sql)
        result = await work()
    except asyncpg.PostgresError as error:
        # After the others the caller cuts the connection: they end its transaction, too.
        if not isinstance(classify(error), Unreachable):
            await connection.execute("ROLLBACK")
        raise
    await connection.execute("COMMIT")
    return result
