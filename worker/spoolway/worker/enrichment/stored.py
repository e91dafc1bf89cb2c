"""Rows that are stored already: read in the order of their ids, filled in batch by batch.

A batch is a transaction of its own: it locks its rows, fills in what is still null in them, and adds
the same to the roll-ups. So it may run beside workers, retention and itself, be killed anywhere, and
be run again: what is filled in is not looked at any more.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Raw
from sqlalchemy import (
    Select,
    Text,
    and_,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from spoolway.migrations.connection import connected
from spoolway.schema import RequestEvent, lower_bound, new_id, time_of
from spoolway.schema.events import ABSENT
from spoolway.schema.tables import request_logs
from spoolway.schema.usage import DIMENSIONS, FOOTPRINT, REQUEST_FACT, TOKENS, usage_pending
from spoolway.worker.config import Settings
from spoolway.worker.enrichment.enricher import Enricher
from spoolway.worker.opening import bring_up_to_date
from spoolway.worker.stores.base import Item
from spoolway.worker.stores.rows import FILLED_IN

KIND: Final = "enrichment"
BATCH: Final = 1000
"""Rows of a transaction: some tenths of a second, for which retention may have to wait."""
_WINDOW: Final = timedelta(days=32)
"""Of ids that one statement asks for: it locks the partitions that it may read, and of years of them
there are more than PostgreSQL's lock table holds."""
_NAMED: Final = 1000
"""Models that are counted one by one."""
_LIMITS: Final = {"statement_timeout": "60s", "lock_timeout": "10s"}
_NULLS: Final = dict.fromkeys(FILLED_IN)
_AS_THEY_ARE: Final = (
    "id",
    "request_time",
    *DIMENSIONS,
    "provider_model",
    *TOKENS,
    "duration_ms",
    *FILLED_IN,
)

_rows: Final = request_logs.c
_lacks_cost: Final = _rows.cost.is_(None)
_lacks_footprint: Final = and_(*(_rows[name].is_(None) for name in FOOTPRINT))
# What an answer says of its price, out of a body that may be a megabyte.
_TIER: Final = {
    "postgresql": """
        coalesce(response ->> 'service_tier', stream_chunks -> -1 ->> 'service_tier',
                 stream_chunks -> -1 -> 'response' ->> 'service_tier')
    """,
    "sqlite": """
        coalesce(CASE WHEN json_valid(response) THEN json_extract(response, '$.service_tier') END,
                 CASE WHEN json_valid(stream_chunks) THEN coalesce(
                     json_extract(stream_chunks, '$[#-1].service_tier'),
                     json_extract(stream_chunks, '$[#-1].response.service_tier')) END)
    """,
}
_update: Final = (
    update(request_logs)
    .where(_rows.id == bindparam("of_id"))
    .values({name: bindparam(f"to_{name}") for name in (*FILLED_IN, "enriched")})
)


@dataclass(slots=True)
class Report:
    """What was found and done."""

    rows: int = 0
    """That lacked a cost or a footprint."""
    cost: int = 0
    """Whose cost was filled in, or would be."""
    footprint: int = 0
    unknown: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    """Provider and model of rows whose tokens are known and whose cost is not."""
    reached: datetime | None = None
    """All rows up to there were looked at."""
    is_whole: bool = False


class Postponed(Exception):
    """A library does not answer: what it would fill in would be left out."""


class StoredRows:
    """A database's rows that lack something. One connection; not for several tasks at once."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_sqlite = connection.dialect.name == "sqlite"

    async def fill(
        self,
        enricher: Enricher,
        since: datetime,
        until: datetime,
        *,
        dry_run: bool = False,
        stop: asyncio.Event | None = None,
        progressed: Callable[[int], None] = lambda _rows: None,
        report: Report | None = None,
    ) -> Report:
        """Fill in what rows from `since` on lack, until the end or the `stop`.

        Raises:
            Postponed: a library does not answer.
            and what the driver raises. The report says how far it came all the same.
        """
        report = report if report is not None else Report()
        report.reached = since
        after, end = lower_bound(since), lower_bound(until)
        while after < end and not (stop is not None and stop.is_set()):
            window = min(end, lower_bound(report.reached + _WINDOW))
            items = await self._page(after, window, enricher)
            if items:
                await self._fill(enricher, items, report, dry_run=dry_run)
                progressed(len(items))
            if len(items) < BATCH:
                after = window
                report.reached = min(until, report.reached + _WINDOW)
            else:
                last = items[-1].event.id
                after, report.reached = UUID(int=last.int + 1), time_of(last)
        report.is_whole = after >= end
        return report

    async def _page(self, first: UUID, end: UUID, enricher: Enricher) -> list[Item]:
        lacks = [
            condition
            for condition, is_filled in (
                (_lacks_cost, enricher.fills_cost),
                (_lacks_footprint, enricher.fills_footprint),
            )
            if is_filled
        ]
        asked: Select[Any] = (
            select(
                *(_rows[name] for name in _AS_THEY_ARE),
                # As the text it is: nobody here wants it parsed.
                cast(_rows.usage_stats, Text).label("usage_stats"),
                literal_column(_TIER[self._connection.dialect.name]).label("service_tier"),
            )
            .where(_rows.id >= first, _rows.id < end, or_(*lacks))
            .order_by(_rows.id)
            .limit(BATCH)
        )
        async with self._transaction():
            found = (await self._connection.execute(asked)).mappings().all()
        return [_item(row) for row in found]

    async def _fill(
        self, enricher: Enricher, items: Sequence[Item], report: Report, *, dry_run: bool
    ) -> None:
        before = enricher.counts.postponed
        filled = await asyncio.to_thread(enricher.enrich, items)
        if enricher.counts.postponed != before:
            raise Postponed
        changed = [new for old, new in zip(items, filled, strict=True) if new is not old]
        if dry_run:
            for new in changed:
                _count(report, _filled_in(_NULLS, _told(new)))
        elif changed:
            await self._write(changed, report)
        report.rows += len(items)
        for item in filled:
            if isinstance(event := item.event, RequestEvent) and event.cost is None:
                _count_unknown(report, event)

    async def _write(self, changed: Sequence[Item], report: Report) -> None:
        by_id = {new.event.id: new for new in changed}
        names = ("id", *FILLED_IN, "enriched")
        asked = select(*(_rows[name] for name in names)).where(_rows.id.in_(list(by_id)))
        if not self._is_sqlite:  # where the whole file is locked
            asked = asked.order_by(_rows.id).with_for_update()
        changes: list[dict[str, Any]] = []
        facts: list[list[Any]] = []
        done: list[list[str]] = []
        async with self._transaction(writes=True):
            for row in (await self._connection.execute(asked)).mappings():
                new = by_id[row["id"]]
                filled_in = _filled_in(row, _told(new))
                if filled_in and isinstance(new.event, RequestEvent):
                    changes.append(_change(row, new, filled_in))
                    facts.append(_fact(new.event, filled_in))
                    done.append(filled_in)
            if changes:
                await self._connection.execute(_update, changes)
                pending = {"id": new_id(), "kind": KIND, "facts": _json(facts)}
                await self._connection.execute(insert(usage_pending), pending)
        for filled_in in done:  # committed
            _count(report, filled_in)

    @asynccontextmanager
    async def _transaction(self, *, writes: bool = False) -> AsyncIterator[None]:
        try:
            if self._is_sqlite:
                # IMMEDIATE: a reader that turned writer would not be waited for.
                await self._connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
            else:
                limits = [func.set_config(name, value, True) for name, value in _LIMITS.items()]
                await self._connection.execute(select(*limits))
            yield
        except BaseException:
            await self._connection.rollback()
            raise
        await self._connection.commit()


@asynccontextmanager
async def opened_rows(settings: Settings) -> AsyncIterator[StoredRows]:
    """Bring the database up to date as a worker does, and connect.

    Raises UsageError, MigrationError, and what the drivers raise.
    """
    await bring_up_to_date(settings)
    async with connected(settings.database) as connection:
        yield StoredRows(connection)


def _item(row: Mapping[Any, Any]) -> Item:
    stats, tier = row["usage_stats"], row["service_tier"]
    response = {"service_tier": tier} if isinstance(tier, str) else None
    event = RequestEvent(
        **{name: row[name] for name in _AS_THEY_ARE},
        usage_stats=ABSENT if stats is None else Raw(stats.encode()),
        response=ABSENT if response is None else Raw(msgspec.json.encode(response)),
    )
    return Item(event, b"", 0)


def _told(new: Item) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.json.decode(new.enriched)
    return told


def _json(facts: Sequence[list[Any]]) -> str:
    return msgspec.json.encode(facts).decode()


def _filled_in(row: Mapping[Any, Any], told: Mapping[str, Any]) -> list[str]:
    """Return which columns of a row are to be filled in: not those that somebody else has by now."""
    names: list[str] = []
    if "cost" in told and row["cost"] is None:
        names.append("cost")
    if "footprint" in told and all(row[name] is None for name in FOOTPRINT):
        names += FOOTPRINT
    return names


def _change(row: Mapping[Any, Any], new: Item, names: Sequence[str]) -> dict[str, Any]:
    """Return what an UPDATE takes."""
    told = _told(new)
    parts = dict.fromkeys("cost" if name == "cost" else "footprint" for name in names)
    kept = row["enriched"] if isinstance(row["enriched"], dict) else {}
    return {
        "of_id": row["id"],
        "to_enriched": {**kept, **{part: told[part] for part in parts}},
        **{
            f"to_{name}": getattr(new.event, name) if name in names else row[name]
            for name in FILLED_IN
        },
    }


def _fact(event: RequestEvent, names: Sequence[str]) -> list[Any]:
    """Return what was filled in as a fact: null, where it is counted already."""
    told = ("request_time", *DIMENSIONS, *names)
    return [getattr(event, name) if name in told else None for name in REQUEST_FACT]


def _count(report: Report, names: Sequence[str]) -> None:
    report.cost += "cost" in names
    report.footprint += FOOTPRINT[0] in names


def _count_unknown(report: Report, event: RequestEvent) -> None:
    if event.prompt_tokens is None and event.completion_tokens is None:
        return
    model = event.provider, event.provider_model or event.model_name
    if model in report.unknown or len(report.unknown) < _NAMED:
        report.unknown[model] += 1
