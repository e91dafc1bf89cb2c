"""What retention asks of a store, and what it is told: the same for both databases."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Protocol, Self
from uuid import UUID

from spoolway.schema import lower_bound

Run = Callable[[Callable[[Any], Any]], Awaitable[Any]]
"""Runs one step on a store's own connection, within a deadline; raises StoreErrors alone."""


@dataclass(slots=True, frozen=True)
class Keep:
    """How many whole UTC days each part is kept; 0 is for ever. Bodies go with their rows."""

    requests: int = 0
    errors: int = 0
    bodies: int = 0

    @property
    def is_all(self) -> bool:
        """Whether nothing is ever removed."""
        return not (self.requests or self.errors or self.bodies)


@dataclass(slots=True, frozen=True)
class Cuts:
    """The first UTC day that stays, of each part; None where all of them do."""

    requests: date | None = None
    errors: date | None = None
    bodies: date | None = None

    @classmethod
    def of(cls, keep: Keep, today: date) -> Self:
        """Return the cuts of a day: what lies `keep` days before it stays, and what is younger."""

        def first(days: int) -> date | None:
            return today - timedelta(days=days) if days else None

        return cls(first(keep.requests), first(keep.errors), first(keep.bodies))


def start_of(day: date) -> UUID:
    """Return the lower bound of the ids of a UTC day and of all days after it."""
    return lower_bound(datetime(day.year, day.month, day.day, tzinfo=UTC))


@dataclass(slots=True)
class Share:
    """What is removed of one part."""

    partitions: int = 0
    """Dropped; PostgreSQL alone."""
    rows: int = 0
    """On PostgreSQL, of partitions that were analysed, the server's estimate."""
    bytes: int = 0
    """On disk, with indexes; of bodies, what the values themselves take. On SQLite, estimates."""

    def add(self, other: "Share") -> None:
        """Count what one more step did."""
        for name in ("partitions", "rows", "bytes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Removed:
    """What retention has removed, or would."""

    requests: Share = field(default_factory=Share)
    errors: Share = field(default_factory=Share)
    bodies: Share = field(default_factory=Share)
    """Rows that have lost their bodies."""

    def add(self, other: "Removed") -> None:
        """Count what one more step did."""
        for part in fields(self):
            getattr(self, part.name).add(getattr(other, part.name))


class Retention(Protocol):
    """One database's way of removing what is old. Each method raises only StoreErrors."""

    async def due(self, cuts: Cuts) -> Removed:
        """Return what `steps` would remove now; changes nothing."""
        ...

    def steps(self, cuts: Cuts) -> AsyncIterator[Removed]:
        """Remove it in steps, each a transaction that lasts, and keeps nobody waiting for a second.

        May be left after any of them, also by a kill: the next call goes on there.
        """
        ...
