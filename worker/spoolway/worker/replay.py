"""Segments back into the database: what the worker does by itself, and `spoolway replay` by hand.

A segment goes away when every event in it is a row, or a dead letter, on disk. What a crash leaves
behind is replayed again from its start, and recognised row by row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spoolway.spool import Chunk, DeadLetters, Segment
from spoolway.worker.batch import Window, assemble_chunk
from spoolway.worker.stores import Outcome, Refusals, Store
from spoolway.worker.writing import letters, log_dead, write


@dataclass(slots=True)
class Replayed:
    """What became of what was read from segments, in events."""

    events: int = 0
    inserted: int = 0
    duplicate: int = 0
    dead: int = 0

    def add(self, other: "Replayed") -> None:
        """Count what became of further events."""
        self.events += other.events
        self.inserted += other.inserted
        self.duplicate += other.duplicate
        self.dead += other.dead


class Replay:
    """Puts chunks of locked segments into one database."""

    def __init__(
        self,
        store: Store,
        dead: DeadLetters,
        window: Window,
        refusals: Refusals,
        *,
        batch_events: int,
        batch_bytes: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._dead = dead
        self._window = window
        self._refusals = refusals
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._sleep = sleep

    def chunks(self, segment: Segment) -> Iterator[Chunk]:
        """Yield a segment's content in pieces of a batch's size. Raises OSError."""
        return segment.chunks(self._batch_events, self._batch_bytes)

    async def put_back(self, chunk: Chunk, segment: Path) -> Replayed:
        """Return when every event of the chunk is a row or a dead letter on disk.

        Raises:
            StoreError: the database does not take it now; the segment must stay.
            OSError: a dead letter cannot be written; the same.
        """
        batch = assemble_chunk(chunk, segment.name, self._window)
        outcome = Outcome()
        for part in batch.parts(2 * self._batch_bytes):
            outcome.add(await write(self._store, part, self._refusals, self._sleep))
        dead = [*batch.dead, *letters(outcome)]
        if dead:
            await asyncio.to_thread(self._dead.keep, dead)
            log_dead(dead)
        written = outcome.written
        return Replayed(batch.events, written.inserted, written.duplicates, len(dead))
