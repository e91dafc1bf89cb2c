"""What a copy found and did: counts, and the sums of both sides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spoolway.worker.copying.canonical import MODULUS, stored_digest
from spoolway.worker.copying.record import Record, There


@dataclass(slots=True)
class Side:
    """Rows, and the sum of their digests."""

    rows: int = 0
    checksum: int = 0

    def add(self, rows: int, checksum: int) -> None:
        """Count further rows."""
        self.rows += rows
        self.checksum = (self.checksum + checksum) % MODULUS

    def shown(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"rows": self.rows, "checksum": f"{self.checksum:032x}"}


@dataclass(slots=True)
class Compared:
    """One table, day by day, on both sides: the rows that the source has."""

    source: dict[str, Side] = field(default_factory=dict)
    target: dict[str, Side] = field(default_factory=dict)
    unlinked: int = 0
    """Errors that are linked to their request in the source, and not in the target."""

    def add(self, records: Sequence[Record], found: Mapping[str, There]) -> None:
        """Count a page of the source, and what the target has of it."""
        for record in records:
            row = found.get(record.id)
            stored_at = record.stored_at or (row.stored_at if row else None)
            ours = stored_digest(record.digest, stored_at)
            self.source.setdefault(record.day, Side()).add(1, ours)
            side = self.target.setdefault(record.day, Side())
            if row is not None:
                side.add(1, stored_digest(row.digest, row.stored_at))
                self.unlinked += record.linked and not row.linked

    @property
    def differing(self) -> list[str]:
        """The days that differ, in order."""
        return sorted(day for day in self.source if self.source[day] != self.target[day])


def total(days: Mapping[str, Side]) -> Side:
    """Return all days together."""
    side = Side()
    for day in days.values():
        side.add(day.rows, day.checksum)
    return side


@dataclass(slots=True)
class Copied:
    """What became of the rows that were read."""

    rows: int = 0
    inserted: int = 0
    dead: int = 0
    """Rows that cannot become events, or that the target refused: dead letters say why."""
    conflicts: list[str] = field(default_factory=list)
    """Ids of rows that the target has with other content: those stay as they are."""
    tables: dict[str, Compared] = field(default_factory=dict)
    changed: bool = False
    """Something was written, so that the sums are of what was there before."""
    is_whole: bool = False
    """It came to its end."""

    @property
    def duplicate(self) -> int:
        """Rows that were there before."""
        return max(0, self.rows - self.inserted - self.dead - len(self.conflicts))

    @property
    def is_same(self) -> bool:
        """Whether all that was read is in the target, as it was read."""
        return (
            self.is_whole
            and not self.dead
            and not self.conflicts
            and not any(one.differing or one.unlinked for one in self.tables.values())
        )
