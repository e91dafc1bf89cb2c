"""A worker that is switched off: it stays up and healthy, reads nothing, and connects to nothing."""

import asyncio
import contextlib
import logging
from typing import Final

from spoolway.worker.progress import Progress

log = logging.getLogger("spoolway.worker")

_TURN_SECONDS: Final = 2.0


async def stay_idle(progress: Progress) -> None:
    """Say once that nothing is recorded, and go round until cancelled."""
    log.warning(
        "switched off: nothing is recorded, events wait in the stream (SPOOLWAY_ENABLED, or in the "
        "configuration file spoolway.enabled or settings.monitoring_postgres_enabled)"
    )
    while True:
        progress.turn("disabled")
        with contextlib.suppress(OSError):  # a full disk: the file gets stale, and health says so
            progress.write()
        await asyncio.sleep(_TURN_SECONDS)
