"""arq as the host of the control jobs: started anew whenever Redis fails under it.

Draining does not depend on it.
"""

import asyncio
import contextlib
import logging
from datetime import UTC
from typing import Any, Final

import orjson
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker
from redis.asyncio import SSLConnection
from redis.asyncio.connection import parse_url
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_exponential,
    wait_random,
)

from spoolway.schema.address import redis_address
from spoolway.worker.intake import REDIS_AWAY
from spoolway.worker.jobs import CRON_JOBS, FUNCTIONS
from spoolway.worker.redis_client import explain_redis, pool_for

log = logging.getLogger("spoolway.worker")

QUEUE: Final = "spoolway:jobs"
HEALTH_KEY: Final = "spoolway:jobs:health"
_CLOSING_SECONDS: Final = 1.0
_DISCONNECTING_SECONDS: Final = 0.3


async def host_jobs(redis_url: str, ctx: dict[str, Any]) -> None:
    """Run the control jobs, with `ctx`, until cancelled."""

    def failed(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if error is not None:
            log.warning("control jobs wait: %s", explain_redis(error, redis_url))

    attempts = AsyncRetrying(
        retry=retry_if_exception_type(REDIS_AWAY),
        wait=wait_exponential(multiplier=0.5, max=5.0) + wait_random(0, 0.5),
        before_sleep=failed,
    )
    await attempts(_run_arq, redis_url, ctx)


class _Jobs(Worker):
    """arq's worker, not to be ended by what somebody else has put into its queue."""

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start the jobs; take names that are no text out of the queue, which arq would fail at."""
        foreign = {name for name in job_ids if not _is_text(name)}
        if foreign:
            log.error("%d entries of %s are no jobs, and are removed", len(foreign), QUEUE)
            await self.pool.zrem(QUEUE, *foreign)
        await super().start_jobs([name for name in job_ids if name not in foreign])


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _run_arq(redis_url: str, ctx: dict[str, Any]) -> None:
    pool = jobs_pool(redis_url)
    worker = _Jobs(
        functions=FUNCTIONS,
        cron_jobs=CRON_JOBS,
        redis_pool=pool,
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
        # It gives up before that, where Redis fails once more: each new start would leak one.
        with contextlib.suppress(*REDIS_AWAY, asyncio.CancelledError):
            async with asyncio.timeout(_DISCONNECTING_SECONDS):
                await pool.aclose(close_connection_pool=True)


def jobs_pool(redis_url: str) -> ArqRedis:
    """Return arq's connection pool. Jobs are JSON: no pickle is read from Redis.

    From the URL as redis-py reads it: arq's own reading leaves a password percent-encoded and
    drops a URL's TLS options.
    """
    return ArqRedis(
        pool_for(redis_url, QUEUE, socket_timeout=5.0),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        default_queue_name=QUEUE,
    )


def jobs_address(redis_url: str) -> RedisSettings:
    """Return the same Redis as `arq --check` wants it, which takes no pool."""
    address = redis_address(redis_url)
    told: dict[str, Any] = {**parse_url(address.url)}
    is_tls = told.pop("connection_class", None) is SSLConnection
    settings = RedisSettings(
        host=told.get("host") or "localhost",
        port=told.get("port") or 6379,
        unix_socket_path=told.get("path"),
        database=int(told.get("db") or 0),
        username=told.get("username"),
        password=told.get("password"),
        ssl=is_tls,
        ssl_keyfile=told.get("ssl_keyfile"),
        ssl_certfile=told.get("ssl_certfile"),
        ssl_ca_certs=told.get("ssl_ca_certs"),
        ssl_cert_reqs=told.get("ssl_cert_reqs", "required"),
    )
    if address.kind == "sentinel":
        asked = [parse_url(url) for url in address.asked]
        settings.sentinel, settings.sentinel_master = True, address.name
        settings.host = [(str(one["host"]), int(one["port"])) for one in asked]
    return settings
