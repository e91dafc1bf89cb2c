"""The limit: COPY of prepared rows with asyncpg, on one connection."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from benchmarks.contestants.base import ALL_SIZES, Pace, Target, run
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Row, Workload, nothing_to_collect
from spoolway.worker.stores.rows import REQUESTS

BATCH: Final = 1_000
"""Rows of one COPY, which is one transaction: as many as the worker aims for."""


class Copy:
    """Nothing but the driver and the database: rows are made, and JSON is bytes, beforehand."""

    name = "copy"
    title = f"COPY, 1 connection, {BATCH} rows"
    target: Target = "postgres"
    pace: Pace = "batches"
    kilobytes = ALL_SIZES

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in, batch by batch."""
        rows = load.copy_rows(events)
        with nothing_to_collect():
            return run(_copy(servers, rows))


async def _copy(servers: Servers, rows: Sequence[Row]) -> Measured:
    connection = await asyncpg.connect(servers.postgres_url)
    try:
        await connection.set_type_codec(
            "jsonb",
            schema="pg_catalog",
            encoder=_as_it_is,
            decoder=_as_it_is,
            format="binary",
        )
        meter = Meter(servers)
        meter.start()
        for start in range(0, len(rows), BATCH):
            await connection.copy_records_to_table(
                REQUESTS.table, records=rows[start : start + BATCH], columns=REQUESTS.columns
            )
        return meter.stop()
    finally:
        await connection.close()


def _as_it_is(value: Any) -> Any:
    return value
