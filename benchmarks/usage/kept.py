"""The databases of a run in a folder that outlives it, so that measuring can be repeated."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec
import orjson

from benchmarks.rounds import say
from benchmarks.servers import POSTGRES_SETTINGS, preferred_postgres
from benchmarks.usage.stock import Stock, fill
from spoolway.worker.config import Settings
from spoolway.worker.rollup.proving import proved, walk
from spoolway.worker.stores import open_store
from tests.servers import PostgresServer, postgres_binaries

Kind = Literal["postgresql", "sqlite"]
KINDS: Final[tuple[Kind, ...]] = ("postgresql", "sqlite")

_SETTINGS: Final = {
    **POSTGRES_SETTINGS,
    # As it is where it serves: it is what keeps the roll-ups' tables small.
    "autovacuum": "on",
}
_MANIFEST: Final = "stock.json"


@dataclass(slots=True)
class Kept:
    """What is in the folder, and how long it took to make."""

    stock: Stock
    fill_seconds: dict[Kind, float] = field(default_factory=dict)
    rebuild_seconds: dict[Kind, float] = field(default_factory=dict)


@contextmanager
def postgres(folder: Path, label: str | None = None) -> Iterator[PostgresServer]:
    """Run the folder's PostgreSQL."""
    folder.chmod(0o711)  # it does not run as root: its account must be able to pass
    bin_dir = postgres_binaries()[label or preferred_postgres()]
    server = PostgresServer(bin_dir, folder / "postgres", fsync=True, settings=_SETTINGS)
    try:
        server.start()
        yield server
    finally:
        server.stop(timeout=120)


def url_of(kind: Kind, folder: Path, server: PostgresServer) -> str:
    """Return the database's URL."""
    return server.url("usage") if kind == "postgresql" else f"sqlite:///{folder / 'usage.db'}"


def prepared(folder: Path, server: PostgresServer, kinds: tuple[Kind, ...], requests: int) -> Kept:
    """Fill what is not filled yet, with its roll-ups; `requests` counts in a new folder alone."""
    manifest = folder / _MANIFEST
    if manifest.exists():
        kept = msgspec.convert(orjson.loads(manifest.read_bytes()), Kept)
    else:
        kept = Kept(Stock(requests, time.time_ns() // 1_000_000))
    for kind in kinds:
        settings = Settings(database_url=url_of(kind, folder, server))
        if kind not in kept.fill_seconds:
            if kind == "postgresql":
                server.drop_database("usage")
                server.create_database("usage")
            else:
                (folder / "usage.db").unlink(missing_ok=True)
            kept.fill_seconds[kind] = asyncio.run(fill(settings, kept.stock))
            manifest.write_bytes(orjson.dumps(asdict(kept)))
        if kind not in kept.rebuild_seconds:
            kept.rebuild_seconds[kind] = asyncio.run(_rebuilt(settings))
            manifest.write_bytes(orjson.dumps(asdict(kept)))
    return kept


async def _rebuilt(settings: Settings) -> float:
    """Make the roll-ups, as `spoolway rollup rebuild` does."""
    store = open_store(settings)
    began = time.monotonic()
    try:
        rollup = await store.rollup()
        walked = await walk(rollup, None, None)
        assert walked is not None
        async for done in proved(rollup, walked, rebuild=True, is_stopped=lambda: False):
            if done.hours % 24 == 0 or done.days:
                say(f"{done.hours} hours, {done.days} days rolled up")
    finally:
        await store.close()
    return time.monotonic() - began
