"""What all rounds of a run share: its folder, PostgreSQL if somebody writes to it."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from benchmarks.proxied.recording import DATABASE, Contestant
from benchmarks.servers import POSTGRES_SETTINGS, preferred_postgres
from spoolway import migrations
from spoolway.worker.config import Settings
from spoolway.worker.stores import open_store
from spoolway.worker.stores.partitions import utc_today
from tests.servers import PostgresServer, postgres_binaries
from tests.servers.local import GUARD


@contextmanager
def folder_of_run(parent: Path | None) -> Iterator[Path]:
    """Make the folder of everything that runs, which goes whatever ends this process."""
    folder = Path(tempfile.mkdtemp(prefix="spoolway-bench-", dir=parent))
    folder.chmod(0o711)  # PostgreSQL does not run as root: its account must be able to pass
    GUARD.remove(str(folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres(folder: Path, contestants: Sequence[Contestant]) -> Iterator[PostgresServer | None]:
    """Start PostgreSQL with migrated tables, if one of these writes to it."""
    if not any(one.recorder == "orm" for one in contestants):
        yield None
        return
    server = PostgresServer(
        postgres_binaries()[preferred_postgres()],
        folder / "postgres",
        fsync=True,
        settings=POSTGRES_SETTINGS,
    )
    with server:
        asyncio.run(_migrate(server.create_database(DATABASE)))
        yield server


async def _migrate(url: str) -> None:
    settings = Settings(database_url=url)
    await migrations.upgrade(settings.database)
    store = open_store(settings)
    try:
        # Yesterday's and tomorrow's too: a run may begin before midnight.
        await store.prepare_days(utc_today() - timedelta(days=1), 3)
    finally:
        await store.close()
