"""The servers and databases of one run: real, on this machine's disk, gone when it ends.

As they would be set up for production, as far as a benchmark can be: PostgreSQL with fsync,
full-page writes and synchronous commits, Valkey with its append-only file synced every second,
SQLite in WAL mode with a sync per commit.
"""

import asyncio
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import psutil

from spoolway import migrations
from spoolway.schema import RequestEvent, decode_line
from spoolway.schema.tables import TABLES
from spoolway.spool.record import event_of
from spoolway.worker.config import Settings
from spoolway.worker.stores import open_store
from spoolway.worker.stores.partitions import utc_today
from tests.servers import (
    PostgresServer,
    ValkeyServer,
    eventually,
    postgres_binaries,
    redis_binaries,
)
from tests.servers.local import GUARD

POSTGRES_SETTINGS: Final[Mapping[str, str | int]] = {
    "shared_buffers": "256MB",
    # No checkpoint in the middle of a measurement; there is one before each.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    # It would come at some contestants and not at others: the tables are new every few seconds.
    "autovacuum": "off",
}
VALKEY_SETTINGS: Final = {"auto-aof-rewrite-percentage": "0"}
"""As for checkpoints: the file is rewritten before each measurement."""

_MOST_WORKERS: Final = 4
"""Workers of one measurement."""
_STORED: Final = """
SELECT count(*),
       (SELECT count(*) FROM error_logs),
       (SELECT count(*) FROM error_logs WHERE request_log_id = request_id),
       count(body), coalesce(sum(total_tokens), 0)
FROM request_logs
"""


class Stored(NamedTuple):
    """What is in both tables, or in a spool: enough to see that a contestant did all of its work."""

    requests: int
    errors: int
    linked: int
    """Errors with a link to their request's row."""
    bodies: int
    tokens: int

    @property
    def rows(self) -> int:
        """Rows of both tables."""
        return self.requests + self.errors


class Servers:
    """PostgreSQL with migrated tables, Valkey, and a template for SQLite files."""

    def __init__(self, folder: Path, postgres: PostgresServer, valkey: ValkeyServer) -> None:
        self.folder = folder
        self.postgres = postgres
        self.valkey = valkey
        self.redis_url = valkey.url
        self.postgres_url = postgres.create_database("bench")
        self._sqlite_template = folder / "template.db"
        self._sqlite = folder / "sqlite" / "spoolway.db"
        asyncio.run(self._migrate())

    @property
    def worker_folder(self) -> Path:
        """What a worker is given as its `--dir`: new in each measurement."""
        return self.folder / "worker"

    def worker_folders(self, count: int) -> list[Path]:
        """Return as many, each for a worker of its own."""
        more = [self.folder / f"worker-{number}" for number in range(2, count + 1)]
        return [self.worker_folder, *more]

    @property
    def spool(self) -> Path:
        """The spool in it."""
        return self.worker_folder / "spool"

    @property
    def sqlite(self) -> Path:
        """The SQLite file of the measurement that runs."""
        return self._sqlite

    @property
    def sqlite_url(self) -> str:
        """The same, as a URL."""
        return f"sqlite:///{self._sqlite}"

    async def _migrate(self) -> None:
        settings = Settings(database_url=self.postgres_url)
        await migrations.upgrade(settings.database)
        await migrations.upgrade(
            Settings(database_url=f"sqlite:///{self._sqlite_template}").database
        )
        store = open_store(settings)
        try:
            # Yesterday's and tomorrow's too: a run may begin before midnight.
            await store.prepare_days(utc_today() - timedelta(days=1), 3)
        finally:
            await store.close()

    def clean(self) -> None:
        """Make everything as it was at the start, and let all of it reach the disk."""
        self.postgres.sql(f"TRUNCATE {', '.join(table.name for table in TABLES.values())}", "bench")
        self.postgres.sql("CHECKPOINT")
        for folder in self.worker_folders(_MOST_WORKERS):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._sqlite.parent, ignore_errors=True)
        self._sqlite.parent.mkdir()
        shutil.copyfile(self._sqlite_template, self._sqlite)
        with self.valkey.client(timeout=60) as client:
            client.flushall()
            client.bgrewriteaof()
            eventually(lambda: not _is_rewriting(client), timeout=60, what="the AOF is rewritten")

    def postgres_rows(self) -> Stored:
        """Return what PostgreSQL's tables hold."""
        self._link(self.postgres_url)
        return Stored(*map(int, self.postgres.sql(_STORED, "bench").split("|")))

    def sqlite_rows(self) -> Stored:
        """Return what the tables of the SQLite file hold."""
        self._link(self.sqlite_url)
        connection = sqlite3.connect(self._sqlite)
        try:
            return Stored(*connection.execute(_STORED).fetchone())
        finally:
            connection.close()

    def spool_rows(self) -> Stored:
        """Return what a spool's files hold: every line whose checksum is right."""
        requests = bodies = tokens = 0
        for path in self.spool.glob("*.jsonl*"):
            with path.open("rb") as file:
                for text in filter(None, map(event_of, file)):
                    event = decode_line(text)
                    assert isinstance(event, RequestEvent), "only requests are spooled"
                    requests += 1
                    bodies += bool(bytes(event.body))
                    tokens += event.total_tokens or 0
        return Stored(requests, 0, 0, bodies, tokens)

    def _link(self, url: str) -> None:
        """Do what a worker's cron job does each minute.

        An error and its request that two batches, or two workers, commit at the same moment do not
        see each other.
        """

        async def link() -> None:
            store = open_store(Settings(database_url=url))
            try:
                await store.link_errors()
            finally:
                await store.close()

        asyncio.run(link())

    def described(self) -> dict[str, Any]:
        """Return which servers these are, for the report."""
        kind = "valkey" if "valkey" in self.valkey.binary.name else "redis"
        return {
            "postgresql": self.postgres.version,
            "lz4": self.postgres.has_lz4,
            "postgresql_settings": dict(POSTGRES_SETTINGS),
            kind: self.valkey.version,
            "sqlite": sqlite3.sqlite_version,
            "file_system": _file_system(self.folder),
        }


@contextmanager
def started(folder: Path | None, label: str | None = None) -> Iterator[Servers]:
    """Start the servers with their data in a new folder below `folder` (default: the system's).

    `label` chooses PostgreSQL ("postgresql-16"); by default the newest that has lz4. Whatever
    ends this process, the servers end and their folder goes.
    """
    ours = Path(tempfile.mkdtemp(prefix="spoolway-bench-", dir=folder))
    ours.chmod(0o711)  # PostgreSQL does not run as root: its account must be able to pass
    GUARD.remove(str(ours))
    try:
        bin_dir = postgres_binaries()[label or preferred_postgres()]
        postgres = PostgresServer(
            bin_dir, ours / "postgres", fsync=True, settings=POSTGRES_SETTINGS
        )
        binary = next(iter(redis_binaries().values()))
        valkey = ValkeyServer(
            binary, ours / "valkey", append_only="everysec", extra=VALKEY_SETTINGS
        )
        with postgres, valkey:
            yield Servers(ours, postgres, valkey)
    finally:
        shutil.rmtree(ours, ignore_errors=True)


def preferred_postgres() -> str:
    """Return the label of the newest PostgreSQL with lz4, or of the newest where none has it."""
    labels = [*reversed(postgres_binaries())]
    return next((label for label in labels if _has_lz4(postgres_binaries()[label])), labels[0])


def _has_lz4(bin_dir: Path) -> bool:
    """Ask the program, without a server: it checks its settings before it looks for data."""
    setting = "default_toast_compression"
    done = subprocess.run(
        [bin_dir / "postgres", "-C", setting, "-c", f"{setting}=lz4", "-D", "/nonexistent"],
        capture_output=True,
        text=True,
        check=False,
    )
    return setting not in done.stderr


def _is_rewriting(client: Any) -> bool:
    info = cast("dict[str, Any]", client.info("persistence"))
    return bool(info["aof_rewrite_in_progress"] or info["aof_rewrite_scheduled"])


def _file_system(folder: Path) -> str:
    """Return the type of the file system that a folder is on; a sync in memory costs nothing."""
    mounts = psutil.disk_partitions(all=True)
    above = [mount for mount in mounts if folder.is_relative_to(mount.mountpoint)]
    return max(above, key=lambda mount: len(mount.mountpoint)).fstype if above else "unknown"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process and its children, gone or living, have used."""
    process = psutil.Process(pid)
    used = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        try:
            used += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return used


def now() -> float:
    """Return the clock that everything is timed with, in seconds."""
    return time.perf_counter()
