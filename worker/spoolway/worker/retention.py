"""Retention: what is older than it is to be kept is removed, in steps, while events go on coming in."""

import logging
from collections.abc import Callable
from datetime import date
from typing import Final

from spoolway.worker.config import Settings
from spoolway.worker.stores import Store
from spoolway.worker.stores.retaining import Cuts, Keep, Removed

log = logging.getLogger("spoolway.retention")

_PARTS: Final = {"requests": "request_logs", "errors": "error_logs", "bodies": "bodies"}


def keep_of(settings: Settings) -> Keep:
    """Return how many days the settings keep of each part."""
    return Keep(
        settings.request_retention_days,
        settings.error_retention_days,
        settings.body_retention_days,
    )


async def remove_old(
    store: Store,
    keep: Keep,
    today: date,
    *,
    stepped: Callable[[Removed], bool] = lambda _removed: True,
) -> Removed:
    """Remove what is older; return what was, also when `stepped` returns False to stop after a step.

    Safe beside writers, and beside itself; a run that was killed is gone on with by the next.

    Raises:
        StoreError: the rest has to wait. What went before is gone, and logged.
    """
    removed = Removed()
    retention = await store.retention()
    try:
        async for step in retention.steps(Cuts.of(keep, today)):
            removed.add(step)
            if not stepped(step):
                break
    finally:
        if said := told(removed):
            log.info("retention removed %s", said)
    return removed


def told(removed: Removed) -> str:
    """Return what was removed in words; nothing if nothing was."""
    parts = []
    for name, what in _PARTS.items():
        share = getattr(removed, name)
        if share.rows or share.partitions:
            partitions = f" in {_count(share.partitions, 'partition')}" if share.partitions else ""
            parts.append(f"{what} of {_count(share.rows, 'row')}{partitions}")
    return ", ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
