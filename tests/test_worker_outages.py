"""Databases and Redis that go away under a worker: it sits that out, and goes on by itself."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest
import redis

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
    rows,
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


def test_worker_spools_while_the_database_is_down_and_replays_when_it_is_back(
    start_postgres: Callable[..., PostgresServer], valkey: ValkeyServer, folder: Path
) -> None:
    """Killed: everything goes to the disk, Redis is empty; back again: it returns by itself."""
    server = start_postgres(fsync=True)
    database = server.create_database("logs")
    worker = WorkerProcess(database, valkey.url, folder, SPOOLWAY_WRITE_TIMEOUT="2")
    with ending(worker):
        worker.started()
        push(valkey, [request_line() for _ in range(200)])
        drained(valkey, worker)
        server.kill()
        push(valkey, [request_line() for _ in range(2_000)])
        drained(valkey, worker, timeout=20)
        assert spooled(folder) == 2_000
        eventually(lambda: (worker.status() or {})["breaker"] == "open")
        server.start()
        eventually(lambda: spooled(folder) == 0, timeout=30)
        assert worker.terminate() == 0
    assert count(database) == 2_200
    messages = [record["message"] for record in worker.logged()]
    assert any("events go to the spool" in message for message in messages)
    assert any("works again" in message for message in messages)


def test_worker_spools_while_the_database_hangs(
    private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """A suspended PostgreSQL is an unreachable one after the write deadline; then it goes on."""
    database = private_postgres.create_database("logs")
    worker = WorkerProcess(database, valkey.url, folder, SPOOLWAY_WRITE_TIMEOUT="1")
    with ending(worker):
        worker.started()
        private_postgres.suspend()
        push(valkey, [request_line() for _ in range(1_000)])
        drained(valkey, worker, timeout=20)
        assert spooled(folder) == 1_000
        private_postgres.resume()
        eventually(lambda: spooled(folder) == 0, timeout=30)
    assert count(database) == 1_000


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


def test_without_the_automatic_replay_the_spool_stays(
    private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """SPOOLWAY_SPOOL_DRAIN=false: live events go on, what is spooled waits, sealed, for a replay."""
    database = private_postgres.create_database("logs")
    worker = WorkerProcess(
        database, valkey.url, folder, SPOOLWAY_SPOOL_DRAIN="false", SPOOLWAY_WRITE_TIMEOUT="2"
    )
    with ending(worker):
        worker.started()
        private_postgres.kill()
        push(valkey, [request_line() for _ in range(300)])
        drained(valkey, worker, timeout=20)
        eventually(lambda: (worker.status() or {})["breaker"] == "open")
        private_postgres.start()
        eventually(lambda: (worker.status() or {})["breaker"] != "open", timeout=20)
        push(valkey, [request_line() for _ in range(100)])
        drained(valkey, worker)
        eventually(lambda: not list((folder / "spool").glob("*.open")))
        assert spooled(folder) == 300
        assert worker.terminate() == 0
    assert count(database) == 100


def test_a_run_of_refusals_stops_the_worker_and_keeps_the_events(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Every row refused is a bad deploy: nothing is acknowledged, no dead letter, and it shouts."""
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder, SPOOLWAY_REFUSED_COUNT="50")
    with ending(worker):
        worker.started()
        rows(newest_postgres_url, "ALTER TABLE request_logs ADD CONSTRAINT no CHECK (path <> '/')")
        push(valkey, [request_line(path="/") for _ in range(300)])
        eventually(lambda: "STOPPED" in worker.output(), timeout=20)
        eventually(lambda: (worker.status() or {})["breaker"] == "refusing")
        assert waiting(valkey) == 3
        assert not (folder / "dead").exists()
        assert not (folder / "spool").exists()
        rows(newest_postgres_url, "ALTER TABLE request_logs DROP CONSTRAINT no")
        assert worker.terminate() == 0
        worker.started()
        drained(valkey, worker)
    assert count(newest_postgres_url) == 300


def test_worker_stops_within_10_s_while_the_database_hangs(
    private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """SIGTERM while no batch can be written: exit 0 within 10 s, everything still pending."""
    database = private_postgres.create_database("logs")
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        private_postgres.suspend()
        push(valkey, [request_line() for _ in range(1_000)])
        eventually(lambda: pending(valkey) > 0)
        assert worker.terminate(timeout=10) == 0
        private_postgres.resume()
        assert waiting(valkey) == 10


def test_worker_survives_valkey_being_killed_and_coming_back(
    database: str, private_valkey: ValkeyServer, folder: Path
) -> None:
    """SIGKILL of Valkey and its return: draining resumes by itself within 5 s."""
    worker = WorkerProcess(database, private_valkey.url, folder)
    with ending(worker):
        worker.started()
        push(private_valkey, [request_line() for _ in range(500)])
        drained(private_valkey, worker)
        for _ in range(2):
            private_valkey.kill()
            eventually(lambda: (worker.status() or {})["redis_failures"] > 0, timeout=15)
            private_valkey.start()
            push(private_valkey, [request_line() for _ in range(500)])
            drained(private_valkey, worker, timeout=5)
        assert worker.terminate() == 0
    assert count(database) == 1_500


@pytest.mark.parametrize("accident", ["FLUSHALL", "XGROUP DESTROY", "DEL"])
def test_worker_makes_a_lost_group_anew(
    accident: str, database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """FLUSHALL, a deleted group, a deleted stream: recreated from the first entry, and counted."""
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        push(valkey, [request_line() for _ in range(100)])
        drained(valkey, worker)
        with valkey.client() as client:
            if accident == "FLUSHALL":
                client.flushall()
            elif accident == "DEL":
                client.delete(DEFAULT_STREAM)
            else:
                client.xgroup_destroy(DEFAULT_STREAM, GROUP)
        push(valkey, [request_line() for _ in range(100)])
        drained(valkey, worker, timeout=5)
        eventually(lambda: (worker.status() or {})["groups_recreated"] == 1)
    assert count(database) == 200


def test_entries_deleted_while_pending_are_counted_as_lost(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Somebody trims the stream: what can no longer be read is counted and logged loudly."""
    push(valkey, [request_line() for _ in range(300)])
    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        ((_, entries),) = client.xreadgroup(GROUP, "gone", {DEFAULT_STREAM: ">"})
        entry_ids = [entry_id for entry_id, _ in entries]
        client.xclaim(DEFAULT_STREAM, GROUP, "gone", 0, entry_ids, idle=60_000)
        client.xdel(DEFAULT_STREAM, entry_ids[0])
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder)
    with ending(worker):
        worker.started()
        drained(valkey, worker)
        eventually(lambda: (worker.status() or {})["lost_entries"] == 1)
        assert any("LOST" in record["message"] for record in worker.logged())
    assert count(newest_postgres_url) == 200


def _fill(server: ValkeyServer) -> int:
    """Push until Redis is full; return how many events it took."""
    pushed = 0
    try:
        while True:
            push(server, [request_line(body={"text": os.urandom(1_500).hex()}) for _ in range(100)])
            pushed += 100
    except redis.exceptions.OutOfMemoryError:
        return pushed


def test_full_redis_is_drained(
    newest_postgres_url: str,
    start_valkey: Callable[..., ValkeyServer],
    folder: Path,
) -> None:
    """Full under noeviction: a backlog that fills Redis does not prevent its own draining."""
    server = start_valkey(max_memory="24mb")
    pushed = _fill(server)
    worker = WorkerProcess(newest_postgres_url, server.url, folder)
    with ending(worker):
        # XGROUP CREATE is refused by a full Redis: the group was there before it filled up.
        with server.client() as client:
            client.config_set("maxmemory", "64mb")
            client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
            client.config_set("maxmemory", "1mb")
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                client.set("full", "1")
        worker.started()
        drained(server, worker)
    assert count(newest_postgres_url) == pushed > 1_000


def test_entries_in_flight_are_not_claimed_by_another_worker(
    newest_postgres_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """A worker that waits for its database keeps touching what it holds: it is not abandoned."""
    database = newest_postgres_url
    holder = WorkerProcess(database, valkey.url, tmp_path / "holder")
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
