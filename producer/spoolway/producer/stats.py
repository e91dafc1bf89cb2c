"""What a producer did so far, as numbers."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class ProducerStats:
    """Counts since the producer's first event in this process (a forked child starts at zero).

    All are events unless named otherwise. `accepted == pushed + buffered_events + abandoned`.
    """

    accepted: int
    """`emit()` returned True."""
    pushed: int
    """Confirmed by Redis. One whose confirmation got lost is pushed again, and counted once."""
    dropped: int
    """Lost: the buffer was full, the producer closed, or `close()` ran out of time."""
    abandoned: int
    """Of `dropped`, those that had been accepted: what `close()` could not send."""
    rejected: int
    """Refused for what they are: no known type, no UUIDv7, or an object that cannot be read."""
    buffered_events: int
    """Accepted and not pushed yet."""
    buffered_bytes: int
    """Their JSON lines, in bytes."""
    frames: int
    """Stream entries written."""
    push_failures: int
    """Attempts to write to Redis that failed."""
    last_error: str | None
    """Why the last attempt failed; None after one that succeeded."""
