"""`spoolway serve` on a database, with a Redis beside it, and what has just come in."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.children import Child, running, spoolway
from benchmarks.servers import now
from benchmarks.usage.traffic import Traffic
from spoolway.schema import decode_line, encode_line
from spoolway.worker.config import Settings
from spoolway.worker.stores import Item, open_store

FRESH: Final = 2_000
"""Requests that came in in the last seconds: in nobody's roll-up yet."""
_BATCH: Final = 250
_START_SECONDS: Final = 60.0
_ADDRESS: Final = re.compile(r"http://\S+")


@contextmanager
def serving(folder: Path, redis_url: str, database_url: str) -> Iterator[tuple[str, Child]]:
    """Serve for the length of a block, with the defaults; yields the URL and the process."""
    log = folder / "serve.log"
    command = [*spoolway("serve", folder, redis_url, database_url), "--port", "0"]
    # The rate is for strangers; this asks as fast as it can.
    environment = {"SPOOLWAY_API_RATE": "0", "SPOOLWAY_LOG_LEVEL": "WARNING"}
    with running(command, log, environment) as child:
        ends = now() + _START_SECONDS
        while not (found := _ADDRESS.search(log.read_text())):
            child.must_run()
            if now() > ends:
                raise TimeoutError(f"nothing was served within {_START_SECONDS:.0f} s: {log}")
            time.sleep(0.01)
        yield found.group().rstrip("/"), child


def add_fresh(database_url: str) -> None:
    """Write some requests of this moment, as a worker does, and leave them to be merged."""
    asyncio.run(_add_fresh(Settings(database_url=database_url)))


def merge(database_url: str) -> int:
    """Merge everything, as a worker's job does; return how many batches that were."""
    return asyncio.run(_merged(Settings(database_url=database_url)))


async def _add_fresh(settings: Settings) -> None:
    store = open_store(settings)
    lines = [encode_line(event) for event in Traffic(time.time_ns()).events(FRESH)]
    events = [decode_line(line) for line in lines]
    items = [
        Item(event, line, (event.id.int >> 80) // 86_400_000)
        for event, line in zip(events, lines, strict=True)
    ]
    try:
        for first in range(0, FRESH, _BATCH):
            await store.write(items[first : first + _BATCH])
    finally:
        await store.close()


async def _merged(settings: Settings) -> int:
    store = open_store(settings)
    try:
        rollup = await store.rollup()
        merged = 0
        while some := await rollup.merge():
            merged += some
    finally:
        await store.close()
    return merged
