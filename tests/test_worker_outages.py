"""Databases and Redis that go away under a worker: it sits that out, and goes on by itself."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from spoolway.schema import DEFAULT_STREAM
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.workers import (
    GROUP,
    WorkerProcess,
    count,
    drained,
    ending,
    pending,
    push,
    request_line,
    spooled,
    waiting,
)


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Hold a lock that lets no batch commit."""
    held, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE request_logs IN ACCESS EXCLUSIVE MODE")
            held.set()
            await asyncio.to_thread(release.wait)
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    try:
        assert held.wait(30)
        yield
    finally:
        release.set()
        thread.join()


def test_nothing_is_acknowledged_before_commit(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """No commit, and no room in the spool: entries stay pending in Redis and none is deleted."""
    worker = WorkerProcess(
        newest_postgres_url,
        valkey.url,
        folder,
        SPOOLWAY_WRITE_TIMEOUT="2",
        SPOOLWAY_SPOOL_MAX_BYTES="0",
    )
    with ending(worker):
        worker.started()
        with locked(newest_postgres_url):
            push(valkey, [request_line() for _ in range(500)])
            eventually(
                lambda: (worker.status() or {})["write_failures"] >= 1,
                timeout=20,
                what="a write that met its deadline",
            )
            eventually(lambda: "nothing is acknowledged" in worker.output())
            assert waiting(valkey) == 5, "no entry was deleted"
            assert pending(valkey) > 0, "what was read is still pending"
        drained(valkey, worker)
        assert worker.terminate() == 0
    assert count(newest_postgres_url) == 500


def test_worker_that_starts_while_the_database_is_away_spools(
    private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """Restarted in the middle of an outage: it takes over, spools, and migrates when it can."""
    database = private_postgres.create_database("logs")
    private_postgres.kill()
    worker = WorkerProcess(database, valkey.url, folder, SPOOLWAY_STARTUP_TIMEOUT="0.5")
    with ending(worker):
        worker.started()
        push(valkey, [request_line() for _ in range(300)])
        drained(valkey, worker, timeout=20)
        assert spooled(folder) == 300
        private_postgres.start()
        eventually(lambda: spooled(folder) == 0, timeout=30)
        assert worker.terminate() == 0
    assert count(database) == 300


def test_entries_in_flight_are_not_claimed_by_another_worker(
    newest_postgres_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """A worker that waits for its database keeps touching what it holds: it is not abandoned."""
    database = newest_postgres_url
    holder = WorkerProcess(database, valkey.url, tmp_path / "holder", SPOOLWAY_SPOOL_MAX_BYTES="0")
    with ending(holder):
        holder.started()
        with locked(database):
            push(valkey, [request_line() for _ in range(100)])
            eventually(lambda: pending(valkey) == 1)
            with valkey.client() as client:

                def idle() -> int:
                    (entry,) = client.xpending_range(DEFAULT_STREAM, GROUP, "-", "+", 1)
                    return int(entry["time_since_delivered"])

                eventually(lambda: idle() > 4_000, timeout=15, what="an entry held for a while")
                eventually(lambda: idle() < 1_000, timeout=15, what="a touch")
        drained(valkey, holder)
    assert count(database) == 100
