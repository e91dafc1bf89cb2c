"""arq's part: the control jobs. Draining does not depend on any of them running on time."""

import contextlib
import logging
import time
from typing import Any

from arq import cron
from arq.cron import CronJob
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from spoolway.worker import retention
from spoolway.worker.progress import Progress
from spoolway.worker.retention import told
from spoolway.worker.stores import Store, StoreError
from spoolway.worker.stores.partitions import utc_today
from spoolway.worker.stores.retaining import Keep, Removed
from spoolway.worker.stream import Stream

log = logging.getLogger("spoolway.jobs")

DAYS_AHEAD = 3
"""Days for which partitions are made ahead, today included; others are made on demand."""


MERGE_SECONDS = 5
BUSY_MERGE_SECONDS = 1
"""How long one run adds up usage, of the ten until the next."""
_MANY = 4_000
"""Events in flight of a worker that takes in what it can: a whole batch of them."""
RETENTION_SECONDS = 3000
"""How long one run of retention may take; the next one goes on there."""


async def make_partitions(ctx: dict[str, Any]) -> int:
    """Make ready for the ids of the coming days."""
    store: Store = ctx["store"]
    try:
        made = await store.prepare_days(utc_today(), DAYS_AHEAD)
    except StoreError as error:
        log.warning("partitions are made ahead in half an hour: %s", error)
        return 0
    if made:
        log.info("made %d partitions for the %d days from today", made, DAYS_AHEAD)
    return made


async def sweep_stream(ctx: dict[str, Any]) -> int:
    """Delete entries whose worker died between XACK and XDEL; forget consumers that are gone."""
    streams: list[Stream] = ctx["streams"]
    swept = 0
    for stream in streams:
        # Of several servers one may be away; the reading loop reports it.
        with contextlib.suppress(RedisConnectionError, RedisTimeoutError, OSError):
            swept += await stream.sweep()
            await stream.forget_idle_consumers()
    if swept:
        log.info("deleted %d acknowledged entries that a crash had left behind", swept)
    return swept


async def link_errors(ctx: dict[str, Any]) -> int:
    """Link errors to requests that two workers committed at the same moment."""
    store: Store = ctx["store"]
    try:
        linked = await store.link_errors()
    except StoreError as error:
        log.warning("errors are linked to their requests in a minute: %s", error)
        return 0
    if linked:
        log.info("linked %d errors to their requests", linked)
    return linked


async def merge_usage(ctx: dict[str, Any]) -> int:
    """Add what batches have left for the roll-ups to them; usage is exact without it, but slower.

    It takes about half of what bringing the events in did. While there are many of them to bring in,
    it takes a tenth of the time, in small pieces: they come first.
    """
    store: Store = ctx["store"]
    progress: Progress = ctx["progress"]
    began = time.monotonic()
    merged = 0
    try:
        rollup = await store.rollup()
        while some := await rollup.merge(few=_is_busy(progress)):
            merged += some
            seconds = BUSY_MERGE_SECONDS if _is_busy(progress) else MERGE_SECONDS
            if time.monotonic() - began > seconds:
                break
    except StoreError as error:
        log.warning("usage is added up in ten seconds: %s", error)
    return merged


def _is_busy(progress: Progress) -> bool:
    return progress.totals.in_flight >= _MANY


async def remove_old(ctx: dict[str, Any]) -> str:
    """Remove what is older than it is to be kept; what cannot go now goes in an hour."""
    keep: Keep = ctx["keep"]
    progress: Progress = ctx["progress"]
    if keep.is_all:
        return ""

    def stepped(step: Removed) -> bool:
        totals = progress.totals
        totals.removed_rows += step.requests.rows + step.errors.rows
        totals.removed_partitions += step.requests.partitions + step.errors.partitions
        totals.expired_bodies += step.bodies.rows
        return True

    try:
        return told(await retention.remove_old(ctx["store"], keep, utc_today(), stepped=stepped))
    except StoreError as error:
        log.warning("retention goes on in an hour: %s", error)
        return ""


FUNCTIONS = [make_partitions, sweep_stream, link_errors, merge_usage, remove_old]
CRON_JOBS: list[CronJob] = [
    cron(make_partitions, minute={5, 35}, second=0, run_at_startup=False),
    cron(sweep_stream, second=20),
    cron(link_errors, second=40),
    cron(merge_usage, second=set(range(5, 60, 10)), timeout=MERGE_SECONDS * 12, keep_result=0),
    # Hourly, so that a run that was cut short goes on soon; on one worker, as every cron job is.
    cron(remove_old, minute=17, second=0, timeout=RETENTION_SECONDS),
]
