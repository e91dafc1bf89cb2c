"""How many sessions of Spoolway a database had at most, as the server saw them, looked at all the time."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

_COUNT = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'spoolway%' GROUP BY 1
"""


class Most:
    """The largest numbers at once: by application_name, and of all together."""

    def __init__(self) -> None:
        self.by_name: Counter[str] = Counter()
        self.together = 0
        self.looks = 0
        """How often that was asked."""


@contextmanager
def most_sessions(dsn: str) -> Iterator[Most]:
    """Look at a database for the length of a block, in a thread, from a session of its own."""
    most, over = Most(), threading.Event()

    async def look() -> None:
        connection: Any = await asyncpg.connect(dsn)
        try:
            while not over.is_set():
                found = {name: int(number) for name, number in await connection.fetch(_COUNT)}
                most.by_name |= Counter(found)
                most.together = max(most.together, sum(found.values()))
                most.looks += 1
                await asyncio.sleep(0.001)
        finally:
            await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(look()), name="most-sessions")
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
