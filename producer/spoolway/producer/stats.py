"""What a producer did so far, as numbers."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class ProducerStats:
    """Counts since the producer's first event in this process (a forked child starts at zero).

    All are events unless named otherwise.
    `accepted == pushed + spooled + buffered_events + abandoned`: each is in one of them.
    """

    accepted: int
    """`emit()` returned True."""
    pushed: int
    """Went from memory to Redis, which confirmed it. One whose confirmation got lost is pushed
    again, and counted once."""
    spooled: int
    """Written to this machine's spool instead, and synced."""
    unspooled: int
    """Taken from segments of the spool, also those that other processes left, and confirmed by
    Redis."""
    dropped: int
    """Lost: the buffer was full, the producer closed, or `close()` ran out of time."""
    abandoned: int
    """Of `dropped`, those that had been accepted: what `close()` could neither send nor spool."""
    rejected: int
    """Refused for what they are: no known type, no UUIDv7, or an object that cannot be read."""
    withheld: int
    """Not recorded, because a hook of the redaction said so."""
    reduced: int
    """Recorded with their metadata alone, because a hook failed, or what searches for secrets."""
    buffered_events: int
    """Accepted, and neither pushed nor spooled yet."""
    buffered_bytes: int
    """Their JSON lines, in bytes."""
    frames: int
    """Stream entries written."""
    push_failures: int
    """Attempts to write to Redis that failed."""
    last_error: str | None
    """Why the last attempt failed; None after one that succeeded."""
