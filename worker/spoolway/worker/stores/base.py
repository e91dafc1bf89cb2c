"""What both stores are: one small interface, and what goes in and out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Protocol

import msgspec

from spoolway.schema import Event
from spoolway.worker.rollup.rebuilding import Rollup
from spoolway.worker.stores.measured import Measured, PoolUse
from spoolway.worker.stores.retaining import Retention


class Item(msgspec.Struct, gc=False):
    """One event, the bytes it came as, and the UTC day its id falls on (days since 1970)."""

    event: Event
    text: bytes
    """Its JSON line, with the line end if it was read with one."""
    day: int
    enriched: bytes = b""
    """JSON: what the worker has filled in in the event, and from where. Empty: nothing."""

    @property
    def line(self) -> bytes:
        """Return its JSON line without the line end: a copy, for the few of whom somebody asks."""
        return self.text.removesuffix(b"\n")


@dataclass(slots=True)
class Conflict:
    """An event whose id is in the table with other content: the first one stays."""

    item: Item


@dataclass(slots=True)
class Written:
    """What one committed transaction did with its items: each of them is in exactly one count."""

    inserted: int = 0
    duplicates: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


class Store(Protocol):
    """A database with `request_logs` and `error_logs`.

    Every method raises only `StoreError`s, within `write_timeout` seconds.
    """

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; return only after COMMIT.

        An item whose id is already there is a duplicate, or a conflict if its content differs.
        Errors are linked to requests, whichever of the two comes first.
        """
        ...

    async def prepare_days(self, first: date, days: int) -> int:
        """Make ready for ids of `days` days from `first`; return how many partitions were made."""
        ...

    async def link_errors(self) -> int:
        """Link the errors whose request was committed by another worker at the same time."""
        ...

    async def measure(self) -> Measured:
        """Return how large the database is; what it costs does not depend on how many rows it has."""
        ...

    def pool_use(self) -> PoolUse | None:
        """Return how many connections are open; None where there is no pool."""
        ...

    async def retention(self) -> Retention:
        """Return what removes old rows and bodies, on this store's connections."""
        ...

    async def rollup(self) -> Rollup:
        """Return what adds up usage, on this store's connections."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
