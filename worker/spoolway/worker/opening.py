"""Opening what a worker needs: waits a while for a server that is away, and tells a mistake from it.

A database that stays away does not keep a worker from starting: events go to the spool meanwhile.
Without Redis there is nothing to read, and the process ends for its supervisor to start it again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from redis.exceptions import RedisError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from spoolway import migrations
from spoolway.schema.address import stream_names
from spoolway.worker.archive import prepared_store
from spoolway.worker.batch import Window
from spoolway.worker.breaker import Breaker
from spoolway.worker.config import Settings, UsageError, shown_url
from spoolway.worker.connecting import explain
from spoolway.worker.intake import REDIS_AWAY
from spoolway.worker.jobs import DAYS_AHEAD
from spoolway.worker.redis_client import explain_redis
from spoolway.worker.stores import Store, StoreError, is_away
from spoolway.worker.stores.partitions import utc_today
from spoolway.worker.stream import Stream

log = logging.getLogger("spoolway.worker")

T = TypeVar("T")


def window_of(settings: Settings) -> Window:
    """Return which ids are taken."""
    return Window(timedelta(days=settings.id_past_days), timedelta(days=settings.id_future_days))


async def open_database(settings: Settings, breaker: Breaker) -> Store:
    """Bring the tables up to date. A database that is away opens the breaker; that is done later.

    Raises:
        UsageError: a database that cannot be used, and will not mend itself.
    """
    store = prepared_store(settings, lambda store: _prepare(settings, store))
    try:
        await _patiently(settings, "the database", store.prepare, is_away)
    except Exception as error:  # noqa: BLE001 - what is not explained is raised again
        if is_away(error):
            breaker.failed()
            said = explain(error, settings.database) or f"{type(error).__name__}: {error}"
            log.warning("%s; events go to the spool until it can", said)
            return store
        await store.close()
        if isinstance(error, migrations.MigrationError):
            raise UsageError(str(error)) from None
        if isinstance(error, StoreError):
            raise UsageError(
                f"the database {shown_url(settings.database)} is migrated but not usable: {error}"
            ) from None
        _raise_explained(explain(error, settings.database), error)
    return store


async def _prepare(settings: Settings, store: Store) -> None:
    await bring_up_to_date(settings)
    await store.prepare_days(utc_today(), DAYS_AHEAD)


async def bring_up_to_date(settings: Settings) -> None:
    """Migrate, or check that somebody has. Raises what `migrations` raises, and TimeoutError."""
    url = settings.database
    if url.get_backend_name() != "sqlite":
        # A question with a deadline comes first: a migration has none, it may take an hour.
        async with asyncio.timeout(settings.write_timeout):
            if (await migrations.current(url)).is_newest:
                return
    if settings.auto_migrate:
        await migrations.upgrade(url)
    else:
        await migrations.require_newest(url)


async def open_streams(settings: Settings, consumer: str) -> list[Stream]:
    """Connect to Redis and make the groups. Raises UsageError if it cannot be used."""
    streams = [
        Stream(settings.redis_url, stream=name, group=settings.group, consumer=consumer)
        for name in stream_names(settings.stream, settings.streams)
    ]

    async def prepare() -> None:
        for stream in streams:
            await stream.prepare()

    try:
        await _patiently(settings, "Redis", prepare, lambda error: isinstance(error, REDIS_AWAY))
    except BaseException as error:
        await close_streams(streams)
        if isinstance(error, RedisError):
            _raise_explained(explain_redis(error, settings.redis_url), error)
        raise
    return streams


async def close_streams(streams: Sequence[Stream]) -> None:
    """Close every connection."""
    for stream in streams:
        await stream.close()


async def _patiently(
    settings: Settings,
    what: str,
    step: Callable[[], Awaitable[T]],
    is_away: Callable[[BaseException], bool],
) -> T:
    """Do a step of the start, waiting `startup_timeout` seconds for a server that is away."""

    def waiting(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RedisError):
            said: object = explain_redis(error, settings.redis_url)
        else:
            said = (explain(error, settings.database) if error else None) or error
        log.warning("waiting for %s: %s", what, said)

    attempts = AsyncRetrying(
        retry=retry_if_exception(is_away),
        wait=wait_exponential(multiplier=0.2, max=2.0) + wait_random(0, 0.2),
        stop=stop_after_delay(settings.startup_timeout),
        before_sleep=waiting,
        reraise=True,
    )

    async def once() -> T:  # tenacity awaits what is declared async, and no lambda
        return await step()

    return await attempts(once)


def _raise_explained(explained: str | None, error: BaseException) -> None:
    if explained is None:
        raise error
    raise UsageError(explained) from None
