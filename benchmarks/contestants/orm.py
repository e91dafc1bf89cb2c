"""What proxies do today: an ORM object and a commit for each request, from a connection pool."""

import asyncio
from collections.abc import Iterator
from typing import Final

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from benchmarks.contestants.base import PLAIN, Pace, Target, run
from benchmarks.events import Fields
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.schema.tables import metadata, request_logs
from spoolway.worker.config import database_url

REQUESTS_AT_ONCE: Final = 4
"""Requests that end at the same time, each with a session of its own. With 1 it is half as fast, with
10 or 20 no faster."""


class _Mapped(DeclarativeBase):
    metadata = metadata


class RequestLog(_Mapped):
    """A row of `request_logs` as an object."""

    __table__ = request_logs


class OrmCommitPerEvent:
    """SQLAlchemy's asyncio ORM over asyncpg, with orjson instead of the slower default."""

    name = "orm"
    title = f"SQLAlchemy ORM, commit per event, {REQUESTS_AT_ONCE} at once"
    target: Target = "postgres"
    pace: Pace = "one by one"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, one by one in each session."""
        columns = load.columns(events)
        with nothing_to_collect():
            return run(_insert(servers, columns))


async def _insert(servers: Servers, events: list[Fields]) -> Measured:
    engine = create_async_engine(
        database_url(servers.postgres_url),
        pool_size=REQUESTS_AT_ONCE,
        json_serializer=lambda value: orjson.dumps(value).decode(),
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    try:
        await asyncio.gather(*(_connect(sessions) for _ in range(REQUESTS_AT_ONCE)))
        left = iter(events)
        meter = Meter(servers)
        meter.start()
        async with asyncio.TaskGroup() as requests:
            for _ in range(REQUESTS_AT_ONCE):
                requests.create_task(_requests(sessions, left))
        return meter.stop()
    finally:
        await engine.dispose()


async def _requests(sessions: async_sessionmaker[AsyncSession], left: Iterator[Fields]) -> None:
    for event in left:
        async with sessions() as session:
            session.add(RequestLog(**event))
            await session.commit()


async def _connect(sessions: async_sessionmaker[AsyncSession]) -> None:
    async with sessions() as session:
        await session.execute(select(1))
