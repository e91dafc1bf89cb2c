"""A store whose tables are brought up to date before its first use, whenever that is.

A worker may start while the database is away: then its first probe that gets through does what
its start could not.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date

from spoolway.worker.rollup.rebuilding import Rollup
from spoolway.worker.stores.base import Item, Store, Written
from spoolway.worker.stores.classify import classify
from spoolway.worker.stores.errors import StoreError
from spoolway.worker.stores.measured import Measured, PoolUse
from spoolway.worker.stores.retaining import Retention


class PreparedStore:
    """See `Store`; `prepare` may raise anything, and is called until it has worked once.

    `fill_in` returns the items with what their proxies left out.
    """

    def __init__(
        self,
        store: Store,
        prepare: Callable[[Store], Awaitable[None]],
        fill_in: Callable[[Sequence[Item]], Sequence[Item]] | None = None,
    ) -> None:
        self._store = store
        self._prepare = prepare
        self._fill_in = fill_in
        self._one_at_a_time = asyncio.Lock()
        self._is_prepared = False

    async def prepare(self) -> None:
        """Bring the tables up to date. Raises what `prepare` raises."""
        async with self._one_at_a_time:
            if not self._is_prepared:
                await self._prepare(self._store)
                self._is_prepared = True

    async def write(self, items: Sequence[Item]) -> Written:
        """Store all items in one transaction, or none; see `Store`."""
        await self._ready()
        if self._fill_in is None:
            return await self._store.write(items)
        filled = self._fill_in(items)
        written = await self._store.write(filled)
        if written.conflicts:  # the caller knows the items that it gave
            given = {id(one): item for one, item in zip(filled, items, strict=True)}
            for conflict in written.conflicts:
                conflict.item = given.get(id(conflict.item), conflict.item)
        return written

    async def prepare_days(self, first: date, days: int) -> int:
        """Make ready for ids of these days; see `Store`."""
        await self._ready()
        return await self._store.prepare_days(first, days)

    async def link_errors(self) -> int:
        """Link what came at the same time; see `Store`."""
        await self._ready()
        return await self._store.link_errors()

    async def measure(self) -> Measured:
        """Return how large the database is; see `Store`."""
        return await self._store.measure()  # as it is: who only looks migrates nothing

    def pool_use(self) -> PoolUse | None:
        """Return how many connections are open; see `Store`."""
        return self._store.pool_use()

    async def retention(self) -> Retention:
        """Return what removes old rows and bodies; see `Store`."""
        await self._ready()
        return await self._store.retention()

    async def rollup(self) -> Rollup:
        """Return what adds up usage; see `Store`."""
        await self._ready()
        return await self._store.rollup()

    async def close(self) -> None:
        """Close every connection."""
        await self._store.close()

    async def _ready(self) -> None:
        if self._is_prepared:
            return
        try:
            await self.prepare()
        except StoreError:
            raise
        except Exception as error:
            raise classify(error) from error
