"""How a queue, a spool and dead letters stand, each in one line."""

from collections.abc import Mapping

from spoolway.worker.backlog import Backlog
from spoolway.worker.cli.shown import age, count, printable, size
from spoolway.worker.fleet import Spooled


def queue_line(queue: Backlog) -> str:
    """Return how far behind a stream is."""
    unread = "some" if queue.undelivered is None else f"{queue.undelivered:,}"
    return (
        f"{queue.length:,} entries; {unread} not read, lag {age(queue.lag_seconds)}; "
        f"{queue.pending:,} pending, the oldest for {age(queue.pending_seconds)}"
    )


def spool_line(spool: Spooled) -> str:
    """Return what waits in a spool."""
    oldest = "" if spool.oldest_seconds is None else f", the oldest for {age(spool.oldest_seconds)}"
    return (
        f"{count(spool.segments, 'segment')}, {count(spool.events, 'event')}, "
        f"{size(spool.bytes)}{oldest}"
    )


def dead_line(reasons: Mapping[str, int]) -> str:
    """Return how many dead letters there are, by reason."""
    return ", ".join(f"{number:,} {printable(kind)}" for kind, number in reasons.items()) or "none"
