"""The copy itself: page by page, what is missing is written; then both sides are compared.

Whether a row is there already is asked of the target, page by page: so it can be killed anywhere
and run again, or run while workers write into either side. What is written changes the sums, and
they are taken in a pass that finds nothing to write.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import blake2b
from typing import Final, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from spoolway.spool import DeadLetter, DeadLetters
from spoolway.worker.copying.record import Record, There, there
from spoolway.worker.copying.report import Compared, Copied
from spoolway.worker.copying.source import Source, SourceTable
from spoolway.worker.copying.target import Target
from spoolway.worker.plan import Halt
from spoolway.worker.stores import Outcome, Refusals, StoreError
from spoolway.worker.threads import in_thread
from spoolway.worker.writing import letters, write

T = TypeVar("T")

Shown = Callable[[str], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a pass of this name; called with the rows of each page."""

_PAGE_BYTES: Final = 8 << 20
_MOST_ROWS: Final = 2000
_FIRST_ROWS: Final = 100
_MOST_GROWTH: Final = 4
"""Times by which a page may be larger than the last: bodies of 16 MiB may follow small ones."""
_DAYS_AT_ONCE: Final = 16
"""Partitions that one transaction writes into: each takes a dozen of PostgreSQL's locks."""
_MOST_PASSES: Final = 4
"""Where a busy source has late rows in each pass, the next run goes on."""


class Copy:
    """One run. `run` once."""

    def __init__(
        self,
        source: Source,
        target: Target | None,
        dead: DeadLetters,
        stop: asyncio.Event,
        shown: Shown,
        *,
        dry_run: bool = False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take what is opened; without a target, or in a dry run, nothing is changed."""
        self._source = source
        self._target = target
        self._dead = dead
        self._stop = stop
        self._shown = shown
        self._dry_run = dry_run
        self._sleep = sleep
        self._refusals = Refusals(0, 1.0)  # none is too many: the source keeps them all
        self._known_dead: set[bytes] | None = None

    async def run(self) -> Copied:
        """Copy, and compare. Raises Halt: the target does not take it; OSError: a dead letter."""
        copied = await self._pass("copying")
        inserted = copied.inserted
        passes = 1
        while copied.changed and copied.is_whole and passes < _MOST_PASSES:
            # Nothing is missing now but what came meanwhile with an older id, from a spool.
            copied = await self._pass("comparing")
            inserted += copied.inserted
            passes += 1
        copied.inserted = inserted
        return copied

    async def _pass(self, name: str) -> Copied:
        copied = Copied(is_whole=True)
        with self._shown(name) as progressed:
            for table in self._source.tables:
                if not await self._copy_table(table, copied, progressed):
                    copied.is_whole = False
                    break
        return copied

    async def _copy_table(
        self, table: SourceTable, copied: Copied, progressed: Callable[[int], None]
    ) -> bool:
        """Return whether it came to the end."""
        after = ""
        most = _FIRST_ROWS
        compared = copied.tables.setdefault(table.table, Compared())
        reading = asyncio.ensure_future(table.page(after, most))
        try:
            while (page := await _of("source", reading))[1] != after:
                if self._stop.is_set():
                    return False
                records, after = page
                most = _next_size(records, most)
                reading = asyncio.ensure_future(
                    table.page(after, most)
                )  # while this one is written
                await self._settle(table.table, records, copied, compared)
                progressed(len(records))
        finally:
            # Not cancelled: its thread would go on with a file that is closed by then.
            await asyncio.gather(reading, return_exceptions=True)
        return True

    async def _settle(
        self, table: str, records: Sequence[Record], copied: Copied, compared: Compared
    ) -> None:
        """Write what is missing of a page, and count the page as it was found."""
        live = [record for record in records if record.item is not None]
        found = await self._found(table, live)
        missing = [record for record in live if record.id not in found]
        late = []
        for record in live:
            row = found.get(record.id)
            if row is not None and row.digest != record.digest:
                copied.conflicts.append(record.id)
            elif row is not None and record.stored_at not in {None, row.stored_at}:
                late.append(record)  # killed before its time was set, or a worker was here first
        await self._keep([record.dead for record in records if record.dead is not None])
        copied.rows += len(records)
        copied.dead += len(records) - len(live)
        compared.add(live, found)
        if self._target is None or self._dry_run:
            copied.inserted += len(missing)
            return
        outcome = await self._write(self._target, table, missing)
        await _merge(self._target)
        await self._set_times(self._target, table, late)
        copied.inserted += outcome.written.inserted
        copied.dead += len(outcome.refused)
        copied.changed |= bool(late or outcome.written.inserted or outcome.written.duplicates)

    async def _found(self, table: str, records: Sequence[Record]) -> dict[str, There]:
        if self._target is None or not records:
            return {}
        ids = [record.id for record in records]
        rows = await _of("target", self._target.reader.by_ids(table, ids))
        by_id = {record.id: record for record in records}
        return {row.id: there(table, by_id[row.id], row) for row in rows}

    async def _write(self, target: Target, table: str, missing: Sequence[Record]) -> Outcome:
        outcome = Outcome()
        for part in _parts(missing):
            items = [record.item for record in part if record.item is not None]
            try:
                written = await write(target.store, items, self._refusals, self._sleep)
            except StoreError as error:
                raise Halt(f"the target does not take it now: {error}") from error
            outcome.add(written)
            kept = {one.item.event.id for one in written.refused}
            kept |= {one.item.event.id for one in written.written.conflicts}
            await self._set_times(
                target, table, [one for one in part if one.item and one.item.event.id not in kept]
            )
        await self._keep(letters(Outcome(refused=outcome.refused)))
        return outcome

    async def _set_times(self, target: Target, table: str, records: Sequence[Record]) -> None:
        times = [(record.id, record.stored_at) for record in records if record.stored_at]
        if times:
            await _of("target", target.reader.set_created_at(table, times))

    async def _keep(self, dead: Sequence[DeadLetter]) -> None:
        """Keep dead letters, each once however often it is run."""
        if dead and not self._dry_run:
            await in_thread(lambda: self._keep_new(dead))

    def _keep_new(self, dead: Sequence[DeadLetter]) -> None:
        if self._known_dead is None:
            self._known_dead = {
                _hash(kept.letter.raw) for kept in self._dead.letters() if kept.letter is not None
            }
        new = [letter for letter in dead if _hash(letter.raw) not in self._known_dead]
        self._dead.keep(new)
        self._known_dead.update(_hash(letter.raw) for letter in new)


async def _merge(target: Target) -> None:
    """Add up usage as rows come: no worker may be there to do it, and millions would be pending."""
    try:
        rollup = await target.store.rollup()
        while await rollup.merge():
            pass
    except StoreError as error:
        raise Halt(f"the target does not take it now: {error}") from error


async def _of(side: str, step: Awaitable[T]) -> T:
    """Return what a step at one side returns. Raises Halt: that side cannot be used now."""
    try:
        return await step
    except (OSError, sqlite3.Error, SQLAlchemyError) as error:
        said = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise Halt(f"the {side} cannot be used: {type(error).__name__}: {said}") from error


def _hash(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def _next_size(records: Sequence[Record], last: int) -> int:
    """Return how many rows to read next: what would make a page of so many bytes."""
    size = sum(record.size for record in records) // max(len(records), 1)
    return max(1, min(_PAGE_BYTES // max(size, 1), last * _MOST_GROWTH, _MOST_ROWS))


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Split a page into transactions of few days each. Sorted: a page need not be in ids' order."""
    part: list[Record] = []
    days: set[str] = set()
    for record in sorted(records, key=lambda record: record.id):
        if record.day not in days and len(days) == _DAYS_AT_ONCE:
            yield part
            part, days = [], set()
        part.append(record)
        days.add(record.day)
    if part:
        yield part
