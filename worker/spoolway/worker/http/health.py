"""Whether a worker lives, and whether it takes events: decided from its progress alone.

Nothing is asked here. A database or a Redis that is away is not the worker's own failure: to kill
the worker for it would help nobody, and take from memory what it is about to put on disk.
"""

from spoolway.worker.progress import Progress


def liveness(progress: Progress | None) -> str:
    """Return `alive`; `starting`, which is no failure: a migration takes what it takes; or `wedged`.

    The rule is that of `spoolway health`.
    """
    if progress is None:
        return "starting"
    return "alive" if progress.is_alive else "wedged"


def unready(progress: Progress | None) -> list[str]:
    """Return why events are not taken from the stream just now; nothing if they are.

    A database that is away is no reason: events go on being taken, and are kept in the spool.
    """
    if progress is None:
        return ["starting"]
    reasons = []
    if progress.stopping:
        reasons.append("stopping")
    if not progress.is_alive:
        reasons.append("wedged")
    if progress.breaker == "refusing":
        reasons.append("database-refusing")
    for what, reason in _HOLDS_UP.items():
        if any(name == what and outage.since is not None for name, outage in progress.outages):
            reasons.append(reason)
    return reasons


_HOLDS_UP = {"redis": "redis-away", "spool": "spool-full", "dead": "dead-letters-not-written"}
"""Outages in which nothing more is read, or acknowledged."""
