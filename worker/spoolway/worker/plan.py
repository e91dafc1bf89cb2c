"""What a replay by hand is told, and what it tells: how far, how fast, what became of it, what is left."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from spoolway.spool import Chunk

SEGMENTS_AT_ONCE: Final = 3
"""One is read and decoded while others commit; the last one of a short spool is soon alone."""


class Halt(Exception):
    """Nothing more can be put anywhere now; the message says why. Every segment stays."""


class Skip(Exception):
    """This chunk cannot be put; it may be its segment's own fault. The segment stays."""


@dataclass(slots=True)
class Done:
    """What became of events."""

    events: int = 0
    inserted: int = 0
    duplicate: int = 0
    sent: int = 0
    """Confirmed by Redis."""
    dead: int = 0

    def add(self, other: "Done") -> None:
        """Count what became of further events."""
        self.events += other.events
        self.inserted += other.inserted
        self.duplicate += other.duplicate
        self.sent += other.sent
        self.dead += other.dead


@dataclass(slots=True)
class Left:
    """What is still in the spool, for one reason."""

    reason: str
    segments: int = 0
    events: int = 0


@dataclass(slots=True)
class Report:
    """What a replay did, and what it did not."""

    done: Done = field(default_factory=Done)
    segments: int = 0
    """Replayed to their end."""
    torn_bytes: int = 0
    """Cut from the ends of segments: writes that a crash interrupted, and nobody was told of."""
    left: list[Left] = field(default_factory=list)

    def leave(self, reason: str, segments: int, events: int) -> None:
        """Note what is still in the spool, for one more reason."""
        self.left.append(Left(reason, segments, events))


class Destination(Protocol):
    """Where events go."""

    async def put(self, chunk: Chunk, segment: Path) -> Done:
        """Return when every event of the chunk is safe there, or a dead letter on disk.

        Raises:
            Halt, Skip: it is not; OSError: a dead letter cannot be written.
        """
        ...


@dataclass(slots=True, frozen=True)
class Plan:
    """How far and how fast."""

    batch_events: int
    batch_bytes: int
    lanes: int = SEGMENTS_AT_ONCE
    limit: int | None = None
    """Events."""
    rate: float | None = None
    """Events per second."""
    keep: bool = False

    def chunk_events(self) -> int:
        """Return how many events go in one step: with a rate, about a second's."""
        if self.rate is None:
            return self.batch_events
        return max(1, min(self.batch_events, int(self.rate)))
