"""A database that hangs, dies, locks or fills up: each in its kind, within the deadline, no leak."""

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from spoolway.worker.stores import (
    PostgresStore,
    Retryable,
    SqliteStore,
    Store,
    StoreError,
    Unknown,
    Unreachable,
)
from tests.servers import PostgresServer, aeventually
from tests.stores import (
    Database,
    counts,
    delay,
    error,
    postgres_transaction,
    request,
    requests,
    within,
)

pytest_plugins = ["tests.store_fixtures"]

DEADLINE = 0.8
"""Seconds; what is cut off by it has to be over a second later."""
LATEST = DEADLINE + 1.0
POOL = 3


@pytest.fixture
async def pg(private_logs: Database) -> AsyncIterator[Store]:
    """A store with a short deadline and a few open connections on a server to be broken."""
    async with private_logs.opened(write_timeout=DEADLINE, pool_size=POOL) as store:
        await _until_written(store)
        # Every connection of the pool is open from now on.
        await asyncio.gather(*(_until_written(store) for _ in range(2 * POOL)))
        yield store


async def _until_written(store: Store) -> None:
    """Write something; a busy machine may take longer than the short deadline."""

    async def written() -> bool:
        return counts(await store.write(requests(1))) == (1, 0, 0)

    await aeventually(written, ignoring=(StoreError,))


def _server(logs: Database) -> PostgresServer:
    assert logs.server is not None
    return logs.server


async def _no_backend(logs: Database) -> bool:
    return await logs.backends() == 0


async def _no_more_than_the_pool(logs: Database) -> bool:
    return await logs.backends() <= POOL


# --- PostgreSQL hangs ---------------------------------------------------------------


async def test_a_hung_server_is_unreachable_within_the_deadline(
    private_logs: Database, pg: Store
) -> None:
    """Suspended, it takes connections and never answers: every call ends in time, and works after."""
    server = _server(private_logs)
    await asyncio.to_thread(server.suspend)
    for step in (
        lambda: pg.write(requests(3)),
        lambda: pg.write([error(request())]),
        pg.link_errors,
    ):
        async with within(LATEST):
            with pytest.raises(Unreachable):
                await step()
    async with within(LATEST):  # more at once than the pool has connections
        results = await asyncio.gather(
            *(pg.write(requests(1)) for _ in range(2 * POOL)), return_exceptions=True
        )
    assert {type(result) for result in results} == {Unreachable}

    await asyncio.to_thread(server.resume)
    await _until_written(pg)
    await aeventually(lambda: _no_more_than_the_pool(private_logs))


async def test_a_server_that_hangs_in_the_middle_of_a_write(
    private_logs: Database, pg: Store
) -> None:
    """Suspended while rows are under way: nothing of them is there afterwards, or all of it."""
    server = _server(private_logs)
    batches = []
    for moment in (0.001, 0.01, 0.02):
        batch = requests(2_000, body={"text": "x" * 1_000})
        batches.append(batch)
        writing = asyncio.create_task(pg.write(batch))
        await asyncio.wait({writing}, timeout=moment)
        await asyncio.to_thread(server.suspend)
        async with within(LATEST):
            await asyncio.wait({writing})
        await asyncio.to_thread(server.resume)
        if problem := writing.exception():
            assert isinstance(problem, (Unreachable, Retryable))
    there = set(await private_logs.ids())
    assert {sum(item.event.id in there for item in batch) for batch in batches} <= {0, 2_000}
    await _until_written(pg)
    await aeventually(lambda: _no_more_than_the_pool(private_logs))


async def test_a_server_that_hangs_while_a_partition_is_made(
    private_logs: Database, pg: Store
) -> None:
    """Suspended during the wait for a lock: the deadline holds, nobody waits on after it."""
    server = _server(private_logs)
    await private_logs.sql(
        "ALTER TABLE request_logs DETACH PARTITION " + (await private_logs.partitions())[0],
    )
    async with postgres_transaction(private_logs, "LOCK TABLE request_logs"):
        loop = asyncio.get_running_loop()
        start = loop.time()
        writing = asyncio.create_task(pg.write(requests(1)))
        await asyncio.wait({writing}, timeout=DEADLINE / 4)
        await asyncio.to_thread(server.suspend)
        with pytest.raises((Unreachable, Retryable)):
            await writing
        assert loop.time() - start < LATEST
        await asyncio.to_thread(server.resume)
    await aeventually(lambda: _no_more_than_the_pool(private_logs))


async def test_closing_a_store_does_not_wait_for_a_hung_server(private_logs: Database) -> None:
    """A worker stops in time, whatever its database does."""
    store = private_logs.store(write_timeout=DEADLINE)
    await _until_written(store)
    await asyncio.gather(*(_until_written(store) for _ in range(5)))
    await asyncio.to_thread(_server(private_logs).suspend)
    try:
        async with within(2):
            await store.close()
    finally:
        await asyncio.to_thread(_server(private_logs).resume)
    await aeventually(lambda: _no_backend(private_logs))


@pytest.mark.parametrize("table", ["request_logs", "error_logs"])
async def test_a_locked_table_is_retryable_and_nobody_stays_in_the_queue(
    private_logs: Database, pg: Store, table: str
) -> None:
    """Someone's ALTER TABLE: the server itself gives up in time, and no backend waits on."""
    owner = request()
    batch = [owner, error(owner)]
    async with postgres_transaction(private_logs, f"LOCK TABLE {table}"):
        for _ in range(2):
            async with within(LATEST):
                with pytest.raises(Retryable) as raised:
                    await pg.write(batch)
            assert raised.value.sqlstate == "55P03"
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        assert await private_logs.sql(waiting) == [(0,)]
    assert counts(await pg.write(batch)) == (2, 0, 0)
    assert await _no_more_than_the_pool(private_logs)


async def test_a_cut_connection_leaves_no_backend_waiting(
    private_logs: Database, pg: Store
) -> None:
    """A worker that is gone while its backend waits for a lock: the backend gives up by itself."""
    async with postgres_transaction(private_logs, "LOCK TABLE request_logs"):
        writing = asyncio.create_task(pg.write(requests(1)))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

        async def waits(backends: int) -> bool:
            return await private_logs.sql(waiting) == [(backends,)]

        await aeventually(lambda: waits(1), every=0.001)
        writing.cancel()
        await asyncio.wait({writing})
        await aeventually(lambda: waits(0), timeout=LATEST)


# --- PostgreSQL dies ----------------------------------------------------------------


async def test_a_killed_server_is_unreachable_and_then_written_to_again(
    private_logs: Database, pg: Store
) -> None:
    """SIGKILL of all of PostgreSQL: unreachable at once; after its start the first writes work."""
    server = _server(private_logs)
    batch = requests(5)
    await asyncio.to_thread(server.kill)
    for _ in range(POOL + 1):
        async with within(LATEST):
            with pytest.raises(Unreachable):
                await pg.write(batch)

    await asyncio.to_thread(server.start)
    try:
        written = await pg.write(batch)
    except Unreachable:  # one connection may still have been on its way out
        written = await pg.write(batch)
    assert counts(written) == (5, 0, 0)
    await asyncio.gather(*(_until_written(pg) for _ in range(2 * POOL)))
    assert await _no_more_than_the_pool(private_logs)


async def test_a_server_that_restarts_between_two_writes_is_not_noticed(
    private_logs: Database, pg: Store
) -> None:
    """Connections that went stale in the pool are replaced before they are used."""
    server = _server(private_logs)
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)

    async def once() -> bool:
        try:
            return counts(await pg.write(requests(2))) == (2, 0, 0)
        except Unreachable:
            return False

    results = [await once() for _ in range(POOL + 2)]
    assert results.count(False) <= 1


async def test_terminated_backends_are_replaced(newest_logs: Database) -> None:
    """pg_terminate_backend in the middle of a write is unreachable, and the next write works."""
    await delay(newest_logs)
    async with newest_logs.opened() as store:
        writing = asyncio.create_task(store.write([*requests(3), request(model_name="slow")]))
        kill = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )

        async def killed() -> bool:
            return await newest_logs.sql(kill) == [(1,)]

        await aeventually(killed)
        with pytest.raises(Unreachable) as raised:
            await writing
        assert raised.value.sqlstate in ("57P01", "08003")  # told, or found out
        assert counts(await store.write(requests(2))) == (2, 0, 0)
    assert await newest_logs.count() == 2


async def test_nobody_there_is_unreachable() -> None:
    """A port where nothing listens, a name that nobody has: unreachable, and no password told."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for host in (f"127.0.0.1:{unused.getsockname()[1]}", "no-such-host.invalid:5432"):
            url = make_url(f"postgresql+asyncpg://user:s3cret@{host}/logs")
            store = PostgresStore(url, pool_size=2, write_timeout=5)
            with pytest.raises(Unreachable) as raised:
                await store.write(requests(1))
            assert "s3cret" not in str(raised.value)
            await store.close()


async def test_a_server_that_takes_no_more_connections_is_unreachable(
    private_logs: Database,
) -> None:
    """Its limit reached: unreachable, and written to as soon as there is room."""
    name = private_logs.url.database
    _server(private_logs).sql("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 0")
    url = private_logs.url.set(username="guest", password="guest")
    store = PostgresStore(url, pool_size=2, write_timeout=5)
    with pytest.raises(Unreachable) as raised:
        await store.write(requests(1))
    assert raised.value.sqlstate == "53300"

    _server(private_logs).sql("ALTER ROLE guest CONNECTION LIMIT -1 SUPERUSER")
    assert counts(await store.write(requests(1))) == (1, 0, 0), name
    await store.close()


async def test_a_standby_is_unreachable(newest_logs: Database) -> None:
    """A database that only reads, as a standby does, holds the batch."""
    await newest_logs.sql(
        f'ALTER DATABASE "{newest_logs.url.database}" SET default_transaction_read_only = on'
    )
    async with newest_logs.opened() as store:
        with pytest.raises(Unreachable) as raised:
            await store.write(requests(1))
    assert raised.value.sqlstate == "25006"


async def test_a_missing_permission_is_nobodys_row(newest_logs: Database) -> None:
    """A role that may not insert: the batch is held, and the message says what is missing."""
    role = f"r_{os.urandom(4).hex()}"
    await newest_logs.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'", f"GRANT SELECT ON request_logs TO {role}"
    )
    async with newest_logs.opened() as owner:
        await owner.write(requests(1))  # makes the partition, which only the owner can
    store = PostgresStore(
        newest_logs.url.set(username=role, password="x"), pool_size=1, write_timeout=5
    )
    with pytest.raises(Unknown) as raised:
        await store.write(requests(1))
    await store.close()
    assert raised.value.sqlstate == "42501"
    assert "permission denied" in str(raised.value)
    await newest_logs.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_a_stricter_default_isolation_changes_nothing(
    newest_logs: Database, level: str
) -> None:
    """Whatever isolation a database has by default, concurrent duplicates are counted exactly."""
    await newest_logs.sql(
        f"ALTER DATABASE \"{newest_logs.url.database}\" SET default_transaction_isolation = '{level}'"
    )
    batch = requests(50)
    async with newest_logs.opened() as one, newest_logs.opened() as other:
        await one.write(batch[:1])
        results = await asyncio.gather(*(store.write(batch) for store in (one, other, one, other)))
    assert sum(result.inserted for result in results) == 49
    assert sum(result.duplicates for result in results) == 151


# --- SQLite -------------------------------------------------------------------------


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold SQLite's write lock in another process."""
    holding = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
    holding += "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holding, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            process.kill()


async def test_a_locked_file_is_retryable_within_the_deadline(sqlite_logs: Database) -> None:
    """Another process in the middle of a transaction: try again, and it works when that is over."""
    async with sqlite_logs.opened(write_timeout=DEADLINE) as store:
        batch = requests(3)
        with _locked(sqlite_logs.path):
            for _ in range(2):
                async with within(LATEST):
                    with pytest.raises(Retryable):
                        await store.write(batch)
            async with within(LATEST):
                results = await asyncio.gather(
                    *(store.write(batch) for _ in range(3)), return_exceptions=True
                )
            assert {type(result) for result in results} <= {Retryable, Unreachable}
        assert counts(await store.write(batch)) == (3, 0, 0)


async def test_a_reader_does_not_hold_up_a_writer(sqlite_logs: Database) -> None:
    """A report that reads for hours: in WAL mode it and the writer do not meet."""
    with closing(sqlite3.connect(sqlite_logs.path, isolation_level=None)) as reader:
        async with sqlite_logs.opened(write_timeout=DEADLINE) as store:
            await store.write(requests(1))
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM request_logs").fetchone() == (1,)
            assert counts(await store.write(requests(2))) == (2, 0, 0)
            assert reader.execute("SELECT count(*) FROM request_logs").fetchone() == (1,)


def _asked(statement: str, connection: sqlite3.Connection) -> object:
    return connection.execute(statement).fetchone()[0]


async def test_sqlite_commits_are_on_disk_before_write_returns(sqlite_logs: Database) -> None:
    """WAL with synchronous=FULL, foreign keys on: asked of the connection that writes."""
    store = sqlite_logs.store()
    assert isinstance(store, SqliteStore)
    await store.write(requests(1))
    found = {}
    for pragma in ("journal_mode", "synchronous", "foreign_keys"):
        asked = partial(_asked, f"PRAGMA {pragma}")
        found[pragma] = await store._connected().run(asked)
    await store.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


async def test_a_file_that_cannot_be_opened_is_unreachable(tmp_path: Path) -> None:
    """A folder that is missing, a folder instead of a file, a file of something else."""
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("this is no database, but long enough to be one\n" * 100)
    for name in ("missing/logs.db", "folder.db", "text.db"):
        store = SqliteStore(make_url(f"sqlite+aiosqlite:///{tmp_path / name}"), write_timeout=5)
        with pytest.raises(Unreachable):
            await store.write(requests(1))
        await store.close()


async def test_a_file_that_was_removed_is_not_written_to_unseen(sqlite_logs: Database) -> None:
    """Rm of an open database: an event that went into the nameless file would be nowhere."""
    copy = sqlite_logs.path.with_suffix(".copy")
    async with sqlite_logs.opened() as store:
        shutil.copy(sqlite_logs.path, copy)
        await store.write(requests(1))
        for file in sqlite_logs.path.parent.glob(f"{sqlite_logs.path.name}*"):
            file.unlink()
        with pytest.raises(StoreError):
            await store.write(requests(1))

        for file in sqlite_logs.path.parent.glob(f"{sqlite_logs.path.name}*"):
            file.unlink()
        shutil.copy(copy, sqlite_logs.path)
        assert counts(await store.write(requests(2))) == (2, 0, 0)
    assert await sqlite_logs.count() == 2


async def test_a_full_database_is_unreachable_and_works_again_with_room(
    sqlite_logs: Database,
) -> None:
    """SQLITE_FULL holds the batch; nothing of it is there, and it goes in when there is room."""
    batch = requests(200, body={"text": "x" * 2_000})
    store = sqlite_logs.store()
    assert isinstance(store, SqliteStore)
    await store.write(requests(1))
    await store._connected().run(partial(_asked, "PRAGMA max_page_count = 1"))  # what is there
    with pytest.raises(Unreachable) as raised:
        await store.write(batch)
    assert "full" in str(raised.value)
    assert await sqlite_logs.count() == 1

    assert counts(await store.write(batch)) == (200, 0, 0)  # the new connection has no such limit
    await store.close()


SCRIPT = """
import asyncio, os, resource, signal, sys
from sqlalchemy.engine import make_url
from spoolway.schema import decode_line, encode_line, new_id
from spoolway.worker.stores import Item, SqliteStore, StoreError

async def main():
    store = SqliteStore(make_url("sqlite+aiosqlite:///" + sys.argv[1]), write_timeout=20)
    fields = [{{"type": "request", "id": new_id(), "body": "x" * 5_000}} for _ in range(100)]
    lines = [encode_line(one) for one in fields]
    try:
        print((await store.write([Item(decode_line(line), line, 0) for line in lines])).inserted)
    except StoreError as error:
        print(type(error).__name__, error)
    await store.close()

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{setup}
asyncio.run(main())
"""


def _in_another_process(path: Path, setup: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(setup=setup), path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_disk_that_fills_up_is_unreachable(sqlite_logs: Database) -> None:
    """The operating system refuses to write (EFBIG, as ENOSPC): nothing lands, nothing breaks."""
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))"
    assert _in_another_process(sqlite_logs.path, limit).startswith("Unreachable")
    assert _in_another_process(sqlite_logs.path, "") == "100"
    with closing(sqlite3.connect(sqlite_logs.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM request_logs").fetchone() == (100,)


@pytest.mark.parametrize(
    ("mode", "said"), [(0o000, "unable to open"), (0o444, "readonly database")]
)
def test_a_file_without_permission_is_unreachable(
    sqlite_logs: Database, private_folder: Path, mode: int, said: str
) -> None:
    """A file that may not be read, or not be written to, holds the batch."""
    path = private_folder / "logs.db"
    shutil.copy(sqlite_logs.path, path)
    private_folder.chmod(0o555)
    path.chmod(mode)
    as_nobody = "os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))"
    try:
        found = _in_another_process(path, as_nobody)
        assert found.startswith("Unreachable OperationalError: ")
        assert said in found
    finally:
        private_folder.chmod(0o755)


async def test_a_hung_disk_is_unreachable_and_its_connection_is_left_behind(
    sqlite_logs: Database,
) -> None:
    """A thread that never comes back costs its own write the deadline, and no other one."""
    await sqlite_logs.sql(
        "CREATE TRIGGER hang BEFORE INSERT ON request_logs WHEN NEW.path = '/hang'"
        " BEGIN SELECT hang(); END"
    )
    hung, released = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        released.wait(30)

    store = sqlite_logs.store(write_timeout=DEADLINE)
    assert isinstance(store, SqliteStore)
    await store._connected().run(lambda connection: connection.create_function("hang", 0, hang))
    async with within(LATEST):
        with pytest.raises(Unreachable):
            await store.write([*requests(2), request(path="/hang")])
    assert hung.is_set()
    with pytest.raises(Retryable):  # it still holds the lock
        await store.write(requests(1))

    released.set()
    await sqlite_logs.sql("DROP TRIGGER hang")
    await _until_written(store)
    await store.close()
    assert await sqlite_logs.count() == 1
