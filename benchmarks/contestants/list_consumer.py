"""The consumer of the contestant "Redis list": a process of its own, started by `redis_list`."""

import asyncio
import os
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson
from redis.asyncio import Redis

from benchmarks.contestants.base import run
from spoolway.schema.columns import COLUMNS

BATCH: Final = 500
EVENTS: Final = "bench:events"
COMMITTED: Final = "bench:committed"
"""How many events are in the database: a list is empty before its last events are."""
GO: Final = "bench:go"
"""The list on which a consumer that is ready waits for its start."""
READY: Final = "bench:ready"
_KINDS: Final = COLUMNS["request"]
_INSERT: Final = "INSERT INTO request_logs ({}) VALUES ({})".format(
    ", ".join(f'"{name}"' for name in _KINDS),
    ", ".join(f"${number}" for number in range(1, len(_KINDS) + 1)),
)


async def main() -> None:
    """Move events until the process is ended."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )
    redis: Any = Redis.from_url(os.environ["REDIS_URL"])
    await redis.rpush(READY, 1)
    await redis.blpop([GO], timeout=60)
    while True:
        if lines := await redis.lpop(EVENTS, BATCH):
            await connection.executemany(_INSERT, list(map(_row, lines)))
            await redis.incrby(COMMITTED, len(lines))
        else:
            await asyncio.sleep(0.1)


def _row(line: bytes) -> list[Any]:
    event = orjson.loads(line)
    event["request_time"] = datetime.fromisoformat(event["request_time"])
    return [event.get(name) for name in _KINDS]


if __name__ == "__main__":
    run(main())
