"""What who knows SQLAlchemy does next: its bulk insert, and a commit for 500 rows."""

from typing import Final

import orjson
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from benchmarks.contestants.base import PLAIN, Pace, Target, run
from benchmarks.contestants.orm import RequestLog
from benchmarks.events import Fields
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.worker.config import database_url

BATCH: Final = 500


class SqlalchemyBulk:
    """`session.execute(insert(RequestLog), rows)`: one multi-row statement, as asyncpg takes it."""

    name = "bulk"
    title = f"SQLAlchemy bulk insert, commit per {BATCH}"
    target: Target = "postgres"
    pace: Pace = "hundreds"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, batch by batch."""
        columns = load.columns(events)
        with nothing_to_collect():
            return run(_insert(servers, columns))


async def _insert(servers: Servers, events: list[Fields]) -> Measured:
    engine = create_async_engine(
        database_url(servers.postgres_url),
        json_serializer=lambda value: orjson.dumps(value).decode(),
    )
    try:
        async with AsyncSession(engine) as session:
            await session.execute(select(1))
            meter = Meter(servers)
            meter.start()
            for start in range(0, len(events), BATCH):
                await session.execute(insert(RequestLog), events[start : start + BATCH])
                await session.commit()
            return meter.stop()
    finally:
        await engine.dispose()
