"""The worker's life: what is opened in which order, what runs, and how it stops.

`arq` awaits its `on_startup` before it first polls, and has no other door: when its own loop fails
on Redis, it closes and the process ends. So `on_startup` is where this service lives. It runs the
drain loop and, beside it, an arq worker for the control jobs that is started anew with backoff
whenever Redis fails under it; draining goes on meanwhile. `spoolway worker` runs the same service.
"""

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from typing import Any, Final, TypeVar

import orjson
from arq.connections import ArqRedis
from arq.worker import Worker
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from spoolway import migrations
from spoolway.spool import DeadLetters
from spoolway.worker.batch import Window
from spoolway.worker.config import Settings, UsageError, shown_url
from spoolway.worker.connecting import explain
from spoolway.worker.drain import Drain
from spoolway.worker.identity import make_folder, take_slot
from spoolway.worker.intake import REDIS_AWAY
from spoolway.worker.jobs import CRON_JOBS, DAYS_AHEAD, FUNCTIONS
from spoolway.worker.progress import Progress, status_file
from spoolway.worker.stores import Store, StoreError, Unreachable, classify, open_store
from spoolway.worker.stores.partitions import utc_today
from spoolway.worker.stream import Stream

log = logging.getLogger("spoolway.worker")

QUEUE: Final = "spoolway:jobs"
HEALTH_KEY: Final = "spoolway:jobs:health"
DRAIN_SECONDS: Final = 8.0
"""How long a stopping worker waits for the batches it is writing. Container and systemd grace
periods are above it: 10 s are promised."""
_STATUS_EVERY: Final = 2.0

T = TypeVar("T")


class Service:
    """Everything one worker process runs. `run` once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self) -> None:
        """Open, drain until cancelled, and close in order.

        Raises:
            UsageError: a database, Redis or folder that cannot be used, in one line.
        """
        settings = self._settings
        async with AsyncExitStack() as opened:
            make_folder(settings.dir)
            slot = take_slot(settings.dir)
            opened.callback(slot.release)
            consumer = slot.consumer(settings.consumer)
            store = await self._open_store()
            opened.push_async_callback(store.close)
            stream = await self._open_stream(consumer)
            opened.push_async_callback(stream.close)
            progress = Progress(status_file(settings.dir, slot.number), consumer, os.getpid())
            opened.callback(lambda: log.info("stopped: %s", progress.totals))
            opened.callback(progress.remove)
            drain = Drain(
                stream,
                store,
                DeadLetters(settings.dir / "dead"),
                progress,
                window=Window(
                    timedelta(days=settings.id_past_days), timedelta(days=settings.id_future_days)
                ),
                batch_events=settings.batch_events,
                batch_bytes=settings.batch_bytes,
                in_flight=settings.in_flight,
            )
            log.info(
                "consumer %s drains stream %s of %s into %s",
                consumer,
                settings.stream,
                shown_url(settings.redis_url),
                shown_url(settings.database),
            )
            _spare_the_collector()
            await self._run_until_cancelled(drain, store, stream, progress)

    async def _open_store(self) -> Store:
        settings = self._settings
        if settings.auto_migrate:
            await self._patiently("the database", lambda: migrations.upgrade(settings.database))
        else:
            await self._patiently(
                "the database", lambda: migrations.require_newest(settings.database)
            )
        store = open_store(settings)
        try:
            await store.prepare_days(utc_today(), DAYS_AHEAD)
        except StoreError as error:
            await store.close()
            raise UsageError(
                f"the database {shown_url(settings.database)} is migrated but not usable: {error}"
            ) from None
        return store

    async def _open_stream(self, consumer: str) -> Stream:
        settings = self._settings
        stream = Stream(
            settings.redis_url, stream=settings.stream, group=settings.group, consumer=consumer
        )
        try:
            await self._patiently("Redis", stream.prepare)
        except BaseException:
            await stream.close()
            raise
        return stream

    async def _patiently(self, what: str, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step of the start, waiting `startup_timeout` seconds for a server that is away."""

        def is_away(error: BaseException) -> bool:
            return isinstance(error, REDIS_AWAY) or isinstance(classify(error), Unreachable)

        def waiting(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            log.warning("waiting for %s: %s", what, self._explained(error))

        attempts = AsyncRetrying(
            retry=retry_if_exception(is_away),
            wait=wait_exponential(multiplier=0.2, max=2.0) + wait_random(0, 0.2),
            stop=stop_after_delay(self._settings.startup_timeout),
            before_sleep=waiting,
            reraise=True,
        )

        async def once() -> T:  # tenacity awaits what is declared async, and no lambda
            return await step()

        try:
            return await attempts(once)
        except (UsageError, asyncio.CancelledError):
            raise
        except migrations.MigrationError as error:
            raise UsageError(str(error)) from None
        except Exception as error:
            explained = self._explained(error)
            if explained is None:
                raise
            raise UsageError(explained) from None

    def _explained(self, error: BaseException | None) -> str | None:
        if isinstance(error, RedisError):
            return (
                f"Redis at {shown_url(self._settings.redis_url)} cannot be used "
                f"({type(error).__name__}: {error}): check REDIS_URL and that it is running"
            )
        return explain(error, self._settings.database) if isinstance(error, Exception) else None

    async def _run_until_cancelled(
        self, drain: Drain, store: Store, stream: Stream, progress: Progress
    ) -> None:
        draining = asyncio.create_task(drain.run(), name="spoolway-drain")
        beside = [
            asyncio.create_task(self._host_jobs(store, stream), name="spoolway-jobs"),
            asyncio.create_task(_report(progress), name="spoolway-report"),
        ]
        try:
            # None of them ends by itself: the first that does has failed, and is not restarted
            # behind its owner's back. The process ends; its supervisor starts a clean one.
            await asyncio.wait([draining, *beside], return_when=asyncio.FIRST_COMPLETED)
            for task in (draining, *beside):
                if task.done():
                    task.result()
        finally:
            # Stop order: intake, what is in flight (with a deadline), control jobs. Then the
            # stack closes Redis, the database, and last the slot, so that a successor with the
            # same name starts after the last acknowledgement.
            drain.stop()
            await asyncio.wait([draining], timeout=DRAIN_SECONDS)
            if not draining.done():
                log.warning("batches in flight after %.0f s are left pending", DRAIN_SECONDS)
            for task in (draining, *beside):
                task.cancel()
            await asyncio.gather(draining, *beside, return_exceptions=True)

    async def _host_jobs(self, store: Store, stream: Stream) -> None:
        """Run arq for the control jobs, and start it anew whenever Redis fails under it."""

        def failed(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            log.warning("control jobs wait for Redis: %s: %s", type(error).__name__, error)

        attempts = AsyncRetrying(
            retry=retry_if_exception_type(REDIS_AWAY),
            wait=wait_exponential(multiplier=0.5, max=5.0) + wait_random(0, 0.5),
            before_sleep=failed,
        )
        await attempts(self._run_arq, {"store": store, "stream": stream})

    async def _run_arq(self, ctx: dict[str, Any]) -> None:
        worker = Worker(
            functions=FUNCTIONS,
            cron_jobs=CRON_JOBS,
            redis_pool=jobs_pool(self._settings.redis_url),
            queue_name=QUEUE,
            health_check_key=HEALTH_KEY,
            health_check_interval=30,
            job_timeout=60,
            keep_result=60,
            poll_delay=1.0,
            timezone=UTC,
            handle_signals=False,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            ctx=ctx,
        )
        try:
            await worker.async_run()
        finally:
            # Its jobs were cancelled, and Redis may be what failed: it closes as well as it can.
            with contextlib.suppress(*REDIS_AWAY, asyncio.CancelledError):
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


def _spare_the_collector() -> None:
    """Take what is loaded by now out of the cyclic garbage collector's rounds.

    A batch makes tens of thousands of objects, none of them in a cycle; with the default thresholds
    the collector walks all modules for them many times a second, a tenth of the worker's CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _report(progress: Progress) -> None:
    """Write the status file. A disk that is full makes it stale, and the worker unhealthy."""
    while True:
        with contextlib.suppress(OSError):
            progress.write()
        await asyncio.sleep(_STATUS_EVERY)
