"""Dead letters back into the database, after what refused them is mended.

Each letter's bytes are decoded anew. A letter goes away only when its events are rows; a crash in
between leaves letters of events that are in the database, which the next time are duplicates.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spoolway.schema import BadInput, decode_frame
from spoolway.spool import Chunk, DeadLetter, DeadLetters, KeptLetter
from spoolway.worker.batch import Batch, Window, assemble, assemble_chunk
from spoolway.worker.plan import Halt
from spoolway.worker.stores import Outcome, Refusals, Store, StoreError
from spoolway.worker.stream import Entry
from spoolway.worker.writing import letters, write

Select = Callable[[KeptLetter], bool]

_OF_FRAMES: Final = frozenset({"bad-frame", "oversize"})
_REMOVE_AT_ONCE: Final = 100_000
"""Letters of a file that are remembered before it is made anew without them."""


@dataclass(slots=True)
class Revived:
    """What became of dead letters."""

    letters: int = 0
    """Tried."""
    inserted: int = 0
    duplicate: int = 0
    left: int = 0
    """Letters that are still there; of a frame, one for each event that is."""
    unreadable: int = 0
    """Lines that are no letters. They stay."""
    stopped: str | None = None
    """Why the rest was not tried."""


class Reviving:
    """One run over the dead letters of a folder. `run` once."""

    def __init__(
        self,
        store: Store,
        dead: DeadLetters,
        window: Window,
        stop: asyncio.Event,
        *,
        batch_events: int,
        batch_bytes: int,
        progressed: Callable[[int], None] = lambda _letters: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._dead = dead
        self._window = window
        self._stop = stop
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._progressed = progressed
        self._sleep = sleep
        self._revived = Revived()
        # Here a run of refusals is what is to be expected: whoever asks wants to know of each.
        self._refusals = Refusals(count=0, ratio=1.0)

    async def run(self, select: Select) -> Revived:
        """Try the selected letters. Raises OSError: a file cannot be read, or made anew."""
        for path in self._dead.files():
            if self._revived.stopped is None:
                await self._revive_file(path, select)
        return self._revived

    async def _revive_file(self, path: Path, select: Select) -> None:
        settled: set[bytes] = set()
        waiting: list[KeptLetter] = []
        size = 0
        try:
            for kept in self._dead.letters_of(path):
                if not select(kept):
                    continue
                if kept.letter is None:
                    self._revived.unreadable += 1
                    continue
                if is_frame(kept.letter):
                    await self._revive_frame(kept, kept.letter, settled)
                else:
                    waiting.append(kept)
                    size += len(kept.line)
                if len(waiting) >= self._batch_events or size >= self._batch_bytes:
                    await self._revive_events(waiting, settled)
                    waiting, size = [], 0
                if len(settled) >= _REMOVE_AT_ONCE:
                    await asyncio.to_thread(self._dead.remove, path, settled)
                    settled = set()
                if self._stop.is_set():
                    self._revived.stopped = "interrupted: run the same command again to go on"
                    return
            await self._revive_events(waiting, settled)
        except Halt as error:
            self._revived.stopped = str(error)
        finally:
            if settled:
                await asyncio.to_thread(self._dead.remove, path, settled)

    async def _revive_events(self, waiting: Sequence[KeptLetter], settled: set[bytes]) -> None:
        raws = [kept.letter.raw for kept in waiting if kept.letter is not None]
        batch = assemble_chunk(Chunk(0, raws), "", self._window)
        left = {letter.raw for letter in await self._write(batch)}
        settled.update(
            kept.digest for kept, raw in zip(waiting, raws, strict=True) if raw not in left
        )
        self._count(len(raws), sum(raw in left for raw in raws))

    async def _revive_frame(
        self, kept: KeptLetter, letter: DeadLetter, settled: set[bytes]
    ) -> None:
        fields = {**letter.fields, b"data": letter.raw}
        try:
            decode_frame(fields)
        except BadInput:
            self._count(1, 1)
            return
        entry = Entry(letter.entry_id.encode(), fields)
        # It can be read by now. What is refused of it is a letter of its own before it goes.
        left = await self._write(assemble([entry], self._window))
        await asyncio.to_thread(self._dead.keep, left)
        settled.add(kept.digest)
        self._count(1, len(left))

    async def _write(self, batch: Batch) -> list[DeadLetter]:
        """Write what can be; return the rest. Raises Halt."""
        outcome = Outcome()
        try:
            for part in batch.parts(2 * self._batch_bytes):
                outcome.add(await write(self._store, part, self._refusals, self._sleep))
        except StoreError as error:
            raise Halt(f"the database does not take it now: {error}") from error
        self._revived.inserted += outcome.written.inserted
        self._revived.duplicate += outcome.written.duplicates
        return [*batch.dead, *letters(outcome)]

    def _count(self, tried: int, left: int) -> None:
        self._revived.letters += tried
        self._revived.left += left
        self._progressed(tried)


def is_frame(letter: DeadLetter) -> bool:
    """Tell whether a letter is a whole stream entry, and not one event of it."""
    return bool(letter.fields) or letter.reason in _OF_FRAMES
