"""A bad row never takes its batch down: repair what cannot be stored, then narrow down to the row.

The store writes all or nothing; this writes all that can be written. Each part that goes in is a
transaction of its own, which is safe because every row is recognised when it comes again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from spoolway.schema import ErrorEvent
from spoolway.worker.stores.base import Item, Store, Written
from spoolway.worker.stores.errors import Refused, Retryable
from spoolway.worker.stores.refusals import Refusals
from spoolway.worker.stores.rows import ERRORS, REQUESTS, split
from spoolway.worker.stores.storable import repaired, storable

_TOOK_TOO_LONG: Final = "57014"
"""statement_timeout: the batch is too large for it, or the database stands still."""
_PATIENCE: Final = 10.0
"""Seconds after which a batch that took too long is not tried in smaller parts any more."""


@dataclass(slots=True)
class RefusedItem:
    """An item that the database does not take, even repaired."""

    item: Item
    message: str
    sqlstate: str | None


@dataclass(slots=True)
class Outcome:
    """What became of every item of a batch."""

    written: Written = field(default_factory=Written)
    refused: list[RefusedItem] = field(default_factory=list)

    def count(self, written: Written) -> None:
        """Count what one more transaction did."""
        self.written.inserted += written.inserted
        self.written.duplicates += written.duplicates
        self.written.conflicts += written.conflicts

    def add(self, other: "Outcome") -> None:
        """Count what became of further items."""
        self.count(other.written)
        self.refused += other.refused


async def write_isolating(
    store: Store, items: Sequence[Item], refusals: Refusals | None = None
) -> Outcome:
    """Write the items, and return those that are refused by themselves.

    Raises:
        Refusing: too many are. Nothing is known of the items then, and all of them must be kept.
        StoreError: any but Refused. What was committed by then is a duplicate at the next try.
    """
    outcome = Outcome()
    refusals = refusals or Refusals(count=0, ratio=1.0)
    began = time.monotonic()
    waiting = [items]
    while waiting:
        part = waiting.pop()
        try:
            outcome.count(await store.write(part))
            refusals.accepted(len(part))
        except Refused:
            # By table: the row that a refusal names counts within one. Requests first, to be linked.
            kinds = [[storable(item) for item in kind] for kind in split(part)]
            parts = [kind for kind in kinds if kind]
            await _write_parts(store, parts, outcome, refusals, began)
        except Retryable as error:
            if not _is_worth_parting(error, part, began):
                raise
            waiting += reversed(eighths(part))
    last = outcome.refused[-1].message if outcome.refused else ""
    refusals.judge(len(items), len(outcome.refused), last)
    return outcome


def eighths(part: Sequence[Item]) -> list[Sequence[Item]]:
    """Return a part in eight, or as many as it has items: two steps and it is a sixtieth."""
    size = -(-len(part) // 8)
    return [part[start : start + size] for start in range(0, len(part), size)]


def _is_worth_parting(error: Retryable, part: Sequence[Item], began: float) -> bool:
    if error.sqlstate != _TOOK_TOO_LONG or len(part) == 1:
        return False
    return time.monotonic() - began < _PATIENCE


async def _write_parts(
    store: Store, parts: list[list[Item]], outcome: Outcome, refusals: Refusals, began: float
) -> None:
    waiting: list[Sequence[Item]] = [*reversed(parts)]
    while waiting:
        part = waiting.pop()
        try:
            outcome.count(await store.write(part))
            refusals.accepted(len(part))
        except Refused as refusal:
            if len(part) > 1:
                waiting += reversed(narrowed(part, refusal.row))
            elif await _write_alone(store, part[0], refusal, outcome):
                refusals.accepted(1)
            else:
                refusals.refused(outcome.refused[-1].message)
        except Retryable as error:
            # What is left around a bad row can be too large for a statement, too.
            if not _is_worth_parting(error, part, began):
                raise
            waiting += reversed(eighths(part))


def narrowed(part: Sequence[Item], row: int | None) -> list[Sequence[Item]]:
    """Return the parts to try next, in order, after a part was refused at `row` (None: not told).

    What follows the row comes in parts that grow from the distance it was found at: where every
    other row is bad, no large part is sent only to be refused at its second row.
    """
    if row is None or not 0 <= row < len(part):
        middle = len(part) // 2
        return [part[:middle], part[middle:]]
    parts = [part[:row], part[row : row + 1]]
    start, size = row + 1, 2 * (row + 1)
    while start < len(part):
        parts.append(part[start : start + size])
        start, size = start + size, 2 * size
    return [piece for piece in parts if piece]


def _same(item: Item, other: Item) -> bool:
    rows = ERRORS if isinstance(item.event, ErrorEvent) else REQUESTS
    return rows.same(rows.row(item.event), rows.row(other.event))


async def _write_alone(store: Store, item: Item, refusal: Refused, outcome: Outcome) -> bool:
    """Try one item for the last time, with all that a repair does to it; return if it went in."""
    last = repaired(item)
    if not _same(item, last):
        try:
            outcome.count(await store.write([last]))
        except Refused as again:
            refusal = again
        else:
            return True
    outcome.refused.append(RefusedItem(item, str(refusal), refusal.sqlstate))
    return False
