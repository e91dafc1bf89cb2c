"""arq as the host of the control jobs: started anew whenever Redis fails under it.

Draining does not depend on it.
"""

import asyncio
import contextlib
import logging
from datetime import UTC
from typing import Any, Final

import orjson
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import ConnectionPool
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from spoolway.worker.intake import REDIS_AWAY
from spoolway.worker.jobs import CRON_JOBS, FUNCTIONS

log = logging.getLogger("spoolway.worker")

QUEUE: Final = "spoolway:jobs"
HEALTH_KEY: Final = "spoolway:jobs:health"
_CLOSING_SECONDS: Final = 1.0


async def host_jobs(redis_url: str, ctx: dict[str, Any]) -> None:
    """Run the control jobs, with `ctx`, until cancelled."""

    def failed(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("control jobs wait for Redis: %s: %s", type(error).__name__, error)

    attempts = AsyncRetrying(
        retry=retry_if_exception_type(REDIS_AWAY),
        wait=wait_exponential(multiplier=0.5, max=5.0) + wait_random(0, 0.5),
        before_sleep=failed,
    )
    await attempts(_run_arq, redis_url, ctx)


async def _run_arq(redis_url: str, ctx: dict[str, Any]) -> None:
    worker = Worker(
        functions=FUNCTIONS,
        cron_jobs=CRON_JOBS,
        redis_pool=jobs_pool(redis_url),
        queue_name=QUEUE,
        health_check_key=HEALTH_KEY,
        health_check_interval=30,
        job_timeout=60,
        keep_result=60,
        poll_delay=2.0,  # cron jobs run once a minute; every look is a round trip
        timezone=UTC,
        handle_signals=False,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        ctx=ctx,
    )
    try:
        await worker.async_run()
    finally:
        # Its jobs were cancelled, and Redis may be what failed: it closes as well as it can. A
        # command that was cut off can leave its connection waiting for a reply that never comes.
        with contextlib.suppress(*REDIS_AWAY, asyncio.CancelledError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await worker.close()


def jobs_pool(redis_url: str) -> ArqRedis:
    """Return arq's connection pool. Jobs are JSON: no pickle is read from Redis.

    From the URL as redis-py reads it: arq's own reading leaves a password percent-encoded and
    drops a URL's TLS options.
    """
    return ArqRedis(
        ConnectionPool.from_url(redis_url, socket_connect_timeout=2.0, socket_timeout=5.0),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )
