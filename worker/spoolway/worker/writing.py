"""One part of a batch into the database, and what is to be kept of it as dead letters.

The same for what comes from the stream and for what comes back from the spool.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    stop_any,
    wait_exponential,
    wait_random,
)

from spoolway.spool import DeadLetter
from spoolway.worker.stores import (
    Item,
    Outcome,
    Refusals,
    Retryable,
    Store,
    Unknown,
    write_isolating,
)

log = logging.getLogger("spoolway.dead")

_ATTEMPTS: Final = 4
_PATIENCE: Final = 2.0
"""Seconds after which there is no further attempt: who waited long for a lock has waited enough."""
_BETWEEN: Final = wait_exponential(multiplier=0.1, max=1.0) + wait_random(0, 0.1)


async def write(
    store: Store,
    items: Sequence[Item],
    refusals: Refusals,
    sleep: Callable[[float], Awaitable[None]],
) -> Outcome:
    """Write; try again shortly if another transaction was in the way, or nobody knows why it failed.

    Raises:
        StoreError: any but Refused; the items are to be held, or spooled.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((Retryable, Unknown)),
        wait=_BETWEEN,
        stop=stop_any(stop_after_attempt(_ATTEMPTS), stop_after_delay(_PATIENCE)),
        sleep=sleep,
        reraise=True,
    )
    outcome: Outcome = await attempts(write_isolating, store, items, refusals)
    return outcome


def letters(outcome: Outcome) -> list[DeadLetter]:
    """Return what the database did not take, as dead letters."""
    refused = [
        DeadLetter("refused", one.message, one.item.line, sqlstate=one.sqlstate)
        for one in outcome.refused
    ]
    conflicts = [
        DeadLetter(
            "conflict",
            f"id {one.item.event.id} is in the database with other content: the first one stays",
            one.item.line,
        )
        for one in outcome.written.conflicts
    ]
    return refused + conflicts


def log_dead(dead: Sequence[DeadLetter]) -> None:
    """Say what was set aside: the first ones, and how many more."""
    for letter in dead[:3]:
        entry = f", entry {letter.entry_id}" if letter.entry_id else ""
        log.error("dead letter (%s%s): %s", letter.reason, entry, letter.message)
    if len(dead) > 3:
        log.error("and %d more of the same batch: spoolway dead ls lists them", len(dead) - 3)
