"""The arq worker of the contestant "one job per event": a process of its own, started by `arq_job`.

As fast as arq can be made: JSON instead of pickle, no results kept, asyncpg under a pool, a
statement prepared once per connection, and no wait between two looks at the queue.
"""

import asyncio
import contextlib
import os
from datetime import datetime
from typing import Any, Final

import asyncpg
import orjson
from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio import ConnectionPool

from spoolway.schema.columns import COLUMNS
from spoolway.worker.cli.run import loop_factory

MAX_JOBS: Final = 20
"""Jobs at once. From 10, which is arq's default, to 100 it makes no difference."""
CONNECTIONS: Final = 10
GO: Final = "bench:go"
"""The list on which a worker that is ready waits for its start."""
READY: Final = "bench:ready"
_KINDS: Final = COLUMNS["request"]
_INSERT: Final = "INSERT INTO request_logs ({}) VALUES ({})".format(
    ", ".join(f'"{name}"' for name in _KINDS),
    ", ".join(f"${number}" for number in range(1, len(_KINDS) + 1)),
)


async def insert_event(ctx: dict[str, Any], event: dict[str, Any]) -> None:
    """Insert one event, which came as JSON."""
    event["request_time"] = datetime.fromisoformat(event["request_time"])
    pool: asyncpg.Pool[asyncpg.Record] = ctx["pool"]
    await pool.execute(_INSERT, *[event.get(name) for name in _KINDS])


async def wait_for_start(ctx: dict[str, Any]) -> None:
    """Connect, say that everything is ready, and return when the measurement starts."""
    ctx["pool"] = await asyncpg.create_pool(
        os.environ["DATABASE_URL"], min_size=CONNECTIONS, max_size=CONNECTIONS, init=_send_json
    )
    redis: Any = ctx["redis"]
    await redis.rpush(READY, "1")
    await redis.blpop([GO], timeout=60)


async def _send_json(connection: Any) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
        format="binary",
    )


def redis_pool() -> ArqRedis:
    """Return arq's connection to the server of this run; jobs are JSON."""
    return ArqRedis(
        ConnectionPool.from_url(os.environ["REDIS_URL"]),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )


async def main() -> None:
    """Run the worker until it is told to stop."""
    worker = Worker(
        functions=[func(insert_event, keep_result=0)],
        redis_pool=redis_pool(),
        on_startup=wait_for_start,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        max_jobs=MAX_JOBS,
        poll_delay=0.0,
        log_results=False,
    )
    await worker.async_run()


if __name__ == "__main__":
    with (
        asyncio.Runner(loop_factory=loop_factory()) as runner,
        contextlib.suppress(asyncio.CancelledError),  # arq's own answer to SIGTERM
    ):
        runner.run(main())
