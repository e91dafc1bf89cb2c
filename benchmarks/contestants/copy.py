"""The limit: COPY of prepared rows with asyncpg."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

import asyncpg

from benchmarks.contestants.base import ALL, Pace, Target, run
from benchmarks.meter import Measured, Meter
from benchmarks.rows import ERROR_COLUMNS, REQUEST_COLUMNS, Batch
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect

BATCH: Final = 4_000
"""Events of one transaction: as many as the worker aims for."""
SATURATING: Final = 4
"""Connections that keep both processors of a machine busy, from one process. Rows per second with
2, 3, 4 and 6 connections, and with two processes of two connections each:

 1 KB  123,700  138,100  142,800  143,500  118,500
 4 KB   36,100   34,000   36,100   34,400   31,600
32 KB    5,900    5,300    5,700    5,200    5,000
"""


class Copy:
    """Nothing but the driver and the database: rows are made, and JSON is bytes, beforehand."""

    target: Target = "postgres"
    pace: Pace = "batches"
    loads = ALL

    def __init__(self, name: str, connections: int) -> None:
        self.name = name
        several = "s" if connections > 1 else ""
        self.title = f"COPY, {connections} connection{several}, {BATCH} rows"
        self._connections = connections

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, batch by batch on each connection."""
        batches = load.copy_batches(events, BATCH)
        with nothing_to_collect():
            return run(_copy(servers, batches, self._connections))


async def _copy(servers: Servers, batches: Sequence[Batch], count: int) -> Measured:
    connections = [await _connection(servers) for _ in range(count)]
    try:
        left = iter(batches)
        meter = Meter(servers)
        meter.start()
        async with asyncio.TaskGroup() as writers:
            for connection in connections:
                writers.create_task(_write(connection, left))
        return meter.stop()
    finally:
        for connection in connections:
            await connection.close()


async def _connection(servers: Servers) -> Any:
    connection = await asyncpg.connect(servers.postgres_url)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_as_it_is,
        decoder=_as_it_is,
        format="binary",
    )
    return connection


async def _write(connection: Any, left: Iterator[Batch]) -> None:
    for batch in left:
        if batch.errors:
            async with connection.transaction():
                await _copy_rows(connection, "request_logs", batch.requests, REQUEST_COLUMNS)
                await _copy_rows(connection, "error_logs", batch.errors, ERROR_COLUMNS)
        else:  # COPY is a transaction of its own
            await _copy_rows(connection, "request_logs", batch.requests, REQUEST_COLUMNS)


async def _copy_rows(
    connection: Any, table: str, rows: Sequence[Any], columns: Sequence[str]
) -> None:
    await connection.copy_records_to_table(table, records=rows, columns=columns)


def _as_it_is(value: Any) -> Any:
    return value
