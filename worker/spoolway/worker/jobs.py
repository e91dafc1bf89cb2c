"""arq's part: the control jobs. Draining does not depend on any of them running on time."""

import logging
from typing import Any

from arq import cron
from arq.cron import CronJob

from spoolway.worker.stores import Store
from spoolway.worker.stores.partitions import utc_today
from spoolway.worker.stream import Stream

log = logging.getLogger("spoolway.jobs")

DAYS_AHEAD = 3
"""Days for which partitions are made ahead, today included; others are made on demand."""


async def make_partitions(ctx: dict[str, Any]) -> int:
    """Make ready for the ids of the coming days."""
    store: Store = ctx["store"]
    made = await store.prepare_days(utc_today(), DAYS_AHEAD)
    if made:
        log.info("made %d partitions for the %d days from today", made, DAYS_AHEAD)
    return made


async def sweep_stream(ctx: dict[str, Any]) -> int:
    """Delete entries whose worker died between XACK and XDEL; forget consumers that are gone."""
    stream: Stream = ctx["stream"]
    swept = await stream.sweep()
    if swept:
        log.info("deleted %d acknowledged entries that a crash had left behind", swept)
    await stream.forget_idle_consumers()
    return swept


async def link_errors(ctx: dict[str, Any]) -> int:
    """Link errors to requests that two workers committed at the same moment."""
    store: Store = ctx["store"]
    linked = await store.link_errors()
    if linked:
        log.info("linked %d errors to their requests", linked)
    return linked


FUNCTIONS = [make_partitions, sweep_stream, link_errors]
CRON_JOBS: list[CronJob] = [
    cron(make_partitions, minute={5, 35}, second=0, run_at_startup=False),
    cron(sweep_stream, second=20),
    cron(link_errors, second=40),
]
