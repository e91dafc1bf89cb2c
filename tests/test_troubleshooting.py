"""docs/troubleshooting.md: every message that it quotes is produced here, for real, and got out of.

`quoted` is what the page says of the test that asks for it; the names on the page stand for this
machine's.
"""

import asyncio
import os
import re
import shlex
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import alembic.command
import asyncpg
import pytest
import redis
import typer.main
import zstandard
from alembic.util import CommandError
from sqlalchemy import create_engine

from spoolway.migrations.revisions import config
from spoolway.producer import Producer
from spoolway.schema import DEFAULT_STREAM
from spoolway.schema.frame import MAX_FRAME_BYTES
from spoolway.spool import DeadLetter, DeadLetters
from spoolway.worker.config import Settings
from tests import troubleshooting_page as page
from tests.commands import requests, run, segments, spool
from tests.faults.proxy import Proxy
from tests.faults.test_spool_full import fill as fill_disk
from tests.servers import Pgbouncer, PostgresServer, ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.stores import Database
from tests.troubleshooting_page import Quoted
from tests.workers import (
    GROUP,
    WorkerProcess,
    drained,
    ending,
    push,
    request_line,
    rows,
    spooled,
    waiting,
)

pytest_plugins = ["tests.store_fixtures"]

ROOT = Path(__file__).parent.parent
SECRET = "hunter2"


@pytest.fixture
def quoted(request: pytest.FixtureRequest) -> Quoted:
    """What the page quotes of this test."""
    return Quoted(request.node.originalname)


@pytest.fixture
def logs(newest_logs: Database) -> str:
    """A migrated database of this test's own, on the newest PostgreSQL."""
    return newest_logs.dsn


@pytest.fixture
def file(sqlite_logs: Database, folder: Path) -> str:
    """The migrated SQLite database of a state folder."""
    folder.mkdir(mode=0o700)
    return f"sqlite:///{sqlite_logs.path.rename(folder / 'spoolway.db')}"


def known(server: ValkeyServer, folder: Path, database: str = "") -> dict[str, str]:
    """Return this test's addresses and paths with the names that the page has for them."""
    names = {str(folder): "/var/lib/spoolway", f":{server.port}": ":6379"}
    if match := re.search(r":(\d+)/(\w+)", database):
        names |= {f":{match[1]}": ":5432", match[2]: "logs"}
    return names


def worker_on(database: str, server: ValkeyServer, folder: Path, **settings: str) -> WorkerProcess:
    """Make a worker that logs as an operator sees it; its deadlines are short."""
    return WorkerProcess(
        database,
        server.url,
        folder,
        **{
            "SPOOLWAY_CONSUMER": "worker-0",
            "SPOOLWAY_LOG_FORMAT": "text",
            "SPOOLWAY_WRITE_TIMEOUT": "1",
            **settings,
        },
    )


def on_page(name: str, *commands: str) -> None:
    """Assert that a section gives these commands."""
    shown = page.commands(page.section(name))
    for command in commands:
        assert command in shown, f"#{name} does not have {command!r}, but {shown}"


def said(worker: WorkerProcess, text: str) -> None:
    """Wait until a worker has said something."""
    eventually(lambda: text in worker.output(), timeout=20, what=f"{text!r} in the log")


# --- The page itself ----------------------------------------------------------


ALERTED = {
    "database-locked",
    "connection-refused",
    "not-up-to-date",
    "cannot-locate-revision",
    "slow-queries",
    "pool-exhausted",
    "database-away",
    "spool-growing",
    "lag-growing",
    "dead-letters",
    "redis-full",
    "not-making-progress",
    "disk",
    "lost-entries",
    "refusing",
}
"""Where alerts lead to."""


def test_every_section_is_in_the_table_by_symptom_and_every_link_leads_to_one() -> None:
    """Who is woken up finds the way from what is on the screen; alerts and other pages do, too."""
    anchors = page.anchors()
    table = page.TEXT.split("\n## ")[0]
    assert set(re.findall(r"\(#([\w-]+)\)", table)) == set(anchors)
    assert set(anchors) >= ALERTED
    linked = set(re.findall(r"\(#([\w-]+)\)", page.TEXT))
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").rglob("*.yml")]
    for file in pages:
        linked |= set(re.findall(r"troubleshooting\.md#([\w-]+)", file.read_text()))
    assert linked <= set(anchors)


def test_every_quoted_message_names_a_test_that_produces_it() -> None:
    """No text block without its test, and no test that is not there."""
    blocks = page.TEXT.count("```text")
    assert blocks == len(re.findall(r"<!-- produced: \w+ -->\n```text", page.TEXT))
    assert set(page.produced()) <= set(globals())
    named = set(re.findall(r"`(test_\w+)`", page.TEXT))
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert named
    assert named <= defined


def test_every_command_and_setting_of_the_page_exists() -> None:
    """Each `spoolway` line is one that the command line takes; each variable is a setting."""
    assert run("--help").code == 0  # loads every command
    from spoolway.worker.cli.app import app

    root = typer.main.get_command(app)
    for line in page.commands():
        words = [word for word in _words(line) if not re.match(r"[A-Z_]+=", word)]
        if words[0] == "spoolway" and "--version" not in words:
            _parse(root, words[1:])
    aliases = " ".join(str(field.validation_alias) for field in Settings.model_fields.values())
    variables = set(re.findall(r"\b(?:SPOOLWAY|DATABASE|REDIS)_[A-Z_]+\b", page.TEXT))
    assert variables - set(re.findall(r"[A-Z_]+", aliases)) == set()


def _words(line: str) -> list[str]:
    """Return the words of a command line's first command."""
    words = list(shlex.shlex(line, posix=True, punctuation_chars=True))
    return words[: words.index("|")] if "|" in words else shlex.split(line)


def _parse(command: object, words: list[str]) -> None:
    """Let the command line's own parser read the words; it raises what it does not know."""
    name = "spoolway"
    while (inner := getattr(command, "commands", None)) is not None:
        name, *words = words
        assert name in inner, f"there is no command {name}"
        command = inner[name]
    command.make_context(name, words, resilient_parsing=False)  # type: ignore[attr-defined]  # a click command by now


# --- It does not start --------------------------------------------------------


def test_mistakes_in_the_settings(quoted: Quoted, folder: Path) -> None:
    """What cannot be an address, or leads nowhere, is one line that names the setting."""
    for url in (
        "postgresql//me@db/logs",
        "mysql://me@db/logs",
        "postgresql://me@nowhere.invalid/logs",
    ):
        quoted.heard(run("db", "current", DATABASE_URL=url).err)
    quoted.heard(run("worker", REDIS_URL="localhost:6379", SPOOLWAY_DIR=str(folder)).err)
    quoted.verify()


def test_nobody_listens(quoted: Quoted, folder: Path, newest_postgres: PostgresServer) -> None:
    """A worker spools without its database, and ends without Redis; commands name the server."""
    port = ReservedPort()
    database = f"postgresql://me:{SECRET}@127.0.0.1:{port.number}/logs"
    settings = {
        "DATABASE_URL": database,
        "REDIS_URL": f"redis://127.0.0.1:{port.number}/0",
        "SPOOLWAY_DIR": str(folder),
        "SPOOLWAY_STARTUP_TIMEOUT": "0.1",
    }
    names = {
        f"PostgreSQL at 127.0.0.1:{port.number}": "PostgreSQL at 127.0.0.1:5432",
        f":{port.number}": ":6379",
        str(folder): "/var/lib/spoolway",
    }
    started = run("worker", **settings)
    assert started.code == 2
    quoted.heard(started.err, names)
    on_page("connection-refused", "spoolway db current", "spoolway status")
    quoted.heard(run("db", "current", **settings).err, names)
    quoted.heard(run("status", **settings).out, names)
    quoted.verify()
    assert run("db", "current", DATABASE_URL=newest_postgres.url()).code == 0, "over"


def test_tables_that_are_not_up_to_date(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, newest_postgres_url: str
) -> None:
    """Who must not migrate says what must be done, and then it starts."""
    settings = {
        "DATABASE_URL": newest_postgres_url,
        "REDIS_URL": valkey.url,
        "SPOOLWAY_DIR": str(folder),
        "DATABASE_AUTO_MIGRATE": "false",
    }
    started = run("worker", **settings)
    assert started.code == 2
    quoted.heard(started.err)
    on_page("not-up-to-date", "spoolway db current", "spoolway db upgrade", "spoolway db check")
    quoted.heard(run("db", "current", **settings).out)
    assert run("db", "upgrade", **settings).code == 0
    quoted.heard(run("db", "check", **settings).out)
    rows(newest_postgres_url, "DROP INDEX ix_request_logs_model_name")
    missing = run("db", "check", **settings)
    assert missing.code == 1
    quoted.heard(missing.out)
    [make] = [one for one in page.sql("slow-queries") if one.startswith("CREATE INDEX")]
    rows(newest_postgres_url, make)
    assert run("db", "check", **settings).code == 0
    quoted.verify()


def test_tables_of_a_newer_version(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, file: str
) -> None:
    """A revision that this version does not know is left alone; Alembic says it in its own words."""
    rows(file, "UPDATE spoolway_alembic_version SET version_num = '0099'")
    settings = {
        "DATABASE_URL": file,
        "REDIS_URL": valkey.url,
        "SPOOLWAY_DIR": str(folder),
    }
    for command in (("worker",), ("db", "current"), ("db", "downgrade", "0042", "--yes")):
        done = run(*command, **settings)
        quoted.heard(done.out + done.err)
    quoted.heard(in_alembics_words(folder / "spoolway.db"))
    on_page("cannot-locate-revision", "spoolway db current", "spoolway db history")
    quoted.verify()


def in_alembics_words(database: Path) -> str:
    """Return what Alembic itself says of a database at a revision that it has no file of."""
    engine = create_engine(f"sqlite:///{database}")
    settings = config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        with pytest.raises(CommandError) as raised:
            alembic.command.upgrade(settings, "head")
    engine.dispose()
    return str(raised.value)


def test_folders_of_others(
    quoted: Quoted, folder: Path, tmp_path: Path, valkey: ValkeyServer, logs: str
) -> None:
    """A folder that is not ours, or everybody's, is refused with what to do about it."""
    settings = {"DATABASE_URL": logs, "REDIS_URL": valkey.url, "SPOOLWAY_DIR": str(folder)}
    names = {str(folder): "/var/lib/spoolway"}
    folder.mkdir(mode=0o700)
    spool(folder, requests(1))
    folder.chmod(0o777)
    quoted.heard(run("worker", **settings).err, names)
    folder.chmod(0o700)
    with another_user(folder):
        quoted.heard(run("worker", **settings).err, names)
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, 12345, 12345)
        quoted.heard(run("replay", **settings).err, names)
        os.chown(folder / "spool", 0, 0)
    else:
        quoted.heard(_OF_ANOTHER_USER)
    assert run("replay", **settings).code == 0, "over"
    quoted.verify()


_OF_ANOTHER_USER = (
    "spoolway: /var/lib/spoolway/spool belongs to user 12345, who could not use what root writes "
    "there: run this as that user (sudo -u '#12345' spoolway ...)"
)
"""Only root can hand a folder to somebody else."""


@contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """Be somebody who may not write to a folder."""
    if os.geteuid() == 0:
        os.seteuid(12345)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


# --- The database -------------------------------------------------------------


def test_a_database_that_is_away(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, newest_postgres: PostgresServer, logs: str
) -> None:
    """No worker, entries that somebody has deleted, a database that is away: said, and over."""
    settings = {"DATABASE_URL": logs, "REDIS_URL": valkey.url, "SPOOLWAY_DIR": str(folder)}
    folder.mkdir(mode=0o700)
    push(valkey, requests(400))
    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        ((_, entries),) = client.xreadgroup(GROUP, "worker-0", {DEFAULT_STREAM: ">"}, count=3)
        client.xdel(DEFAULT_STREAM, *[entry_id for entry_id, _ in entries])
        looks = [reply(client, command) for command in redis_commands("lost-entries")]
        assert any("cmdstat_xdel" in look for look in looks), "who did it"
        [consumers] = [reply(client, command) for command in redis_commands("same-name")]
        assert "worker-0" in consumers
    behind = run("status", "--check", **settings)
    assert behind.code == 1
    names = known(valkey, folder, logs)
    quoted.heard(behind.out, names)
    with Proxy("127.0.0.1", newest_postgres.port).running() as proxy:
        worker = worker_on(proxy.url(logs), valkey, folder)
        names |= known(valkey, folder, proxy.url(logs))
        with ending(worker):
            worker.started()
            drained(valkey, worker)
            proxy.refuse()
            push(valkey, requests(300))
            eventually(lambda: spooled(folder) == 300, timeout=20)
            on_page("spool-growing", "spoolway status", "spoolway spool ls")
            quoted.heard(run("status", **settings).out, names)
            quoted.heard(run("spool", "ls", **settings).out, names)
            proxy.restore()
            said(worker, "replayed ")
            eventually(lambda: not segments(folder))
            quoted.heard(run("spool", "ls", **settings).out, names)
        quoted.heard(worker.output(), names)
    quoted.verify()


@contextmanager
def psql_that_holds_a_lock(server: PostgresServer, database: str) -> Iterator[None]:
    """Somebody's transaction, in which a table is altered."""
    name = database.rpartition("/")[2]
    statement = "BEGIN; LOCK TABLE request_logs; SELECT pg_sleep(600)"
    psql = subprocess.Popen(
        [server.bin_dir / "psql", "-Xqc", statement, server.socket_url(name)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(
            lambda: server.sql(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND wait_event = 'PgSleep'"
            ),
            timeout=20,
        )
        yield
        psql.wait(20)
    finally:
        psql.kill()
        psql.wait()


@pytest.mark.chaos
def test_locks_and_an_exhausted_pool(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, newest_postgres: PostgresServer, logs: str
) -> None:
    """The page's query names who holds the lock; when that is ended, the spool comes back."""
    database = logs.rpartition("/")[2]
    who_waits, end = page.sql("slow-queries")[:2]
    worker = worker_on(
        logs,
        valkey,
        folder,
        DATABASE_POOL_SIZE="1",
        DATABASE_POOL_TIMEOUT="0.2",
        SPOOLWAY_BATCH_EVENTS="10",
    )
    with ending(worker):
        worker.started()
        for said_then, frames in (("own pool", 30), ("gave up a statement", 1)):
            with psql_that_holds_a_lock(newest_postgres, logs):
                push(valkey, requests(10 * frames), per_frame=10)
                [blocker] = eventually(
                    lambda: re.findall(
                        r"Lock\|.*\|{(\d+)}", newest_postgres.sql(who_waits, database)
                    )[:1],
                    timeout=20,
                )
                said(worker, said_then)
                assert newest_postgres.sql(end.replace("4711", blocker), database) == "t"
            eventually(
                lambda: worker.output().count("works again") and not segments(folder), timeout=20
            )
            eventually(lambda: waiting(valkey) == 0, timeout=20)
    quoted.heard(worker.output(), known(valkey, folder, logs))
    quoted.verify()


def test_what_the_database_does_not_take(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, newest_postgres: PostgresServer, logs: str
) -> None:
    """A dead letter of each reason, and its way back; then a database that refuses everything."""
    settings = {"DATABASE_URL": logs, "REDIS_URL": valkey.url, "SPOOLWAY_DIR": str(folder)}
    names = known(valkey, folder, logs)
    worker = worker_on(logs, valkey, folder, SPOOLWAY_REFUSED_COUNT="20")
    rows(logs, "ALTER TABLE request_logs ADD CONSTRAINT no_poison CHECK (model_name <> 'poison')")
    first = request_line(model_name="one")
    with valkey.client() as client:
        client.xadd(DEFAULT_STREAM, {"v": 1, "codec": "lz9", "n": 1, "data": "x"})
        bomb = zstandard.compress(bytes(MAX_FRAME_BYTES + 1))
        client.xadd(DEFAULT_STREAM, {"v": 1, "codec": "zstd", "n": 1, "data": bomb})
    push(valkey, [*requests(90), first, first.replace(b'"one"', b'"two"')])
    push(valkey, [*_BAD, request_line(model_name="poison")])
    with ending(worker):
        worker.started()
        drained(valkey, worker)
        damage(folder)
        assert run("replay", **settings).code == 0
        on_page("dead-letters", "spoolway dead ls", "spoolway dead replay --reason refused")
        listed = run("dead", "ls", **settings)
        quoted.heard(without_columns(listed.out), names)
        rows(logs, "DELETE FROM request_logs WHERE model_name = 'one'")
        assert run("dead", "replay", "--reason", "conflict", **settings).code == 0
        assert run("dead", "replay", "--reason", "refused", **settings).code == 1

        push(valkey, requests(100, model_name="poison"))
        said(worker, "STOPPED")
        rows(logs, "ALTER TABLE request_logs DROP CONSTRAINT no_poison")
        assert worker.terminate() == 0
    quoted.heard(worker.output(), names)
    assert run("dead", "replay", "--reason", "refused", **settings).code == 0
    quoted.heard(run("dead", "purge", "--yes", **settings).out, names)
    quoted.heard(run("dead", "ls", **settings).out, names)
    quoted.verify()


_BAD = [
    b'{"type":"nothing"}',
    b'{"type":"request","id":"9b2e7d1c-8f0a-4c3e-9d55-000000000001"}',
    b'{"type":"request","id":"00000000-0001-7000-8000-000000000001"}',
]
"""No kind of event, no UUIDv7, an id of 1970."""


def damage(folder: Path) -> None:
    """Let a byte of a spooled event rot."""
    spool(folder, requests(2))
    [segment] = [path for path in segments(folder) if path.suffix == ".jsonl"]
    data = bytearray(segment.read_bytes())
    data[-20] ^= 1
    segment.write_bytes(data)


def without_columns(listed: str) -> str:
    """Return a listing with one space where it has many: widths are not on the page."""
    return re.sub(r" {2,}", "  ", listed)


@contextmanager
def sqlite_lock(path: Path) -> Iterator[None]:
    """Somebody's transaction on the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("ROLLBACK")
    connection.close()


@pytest.mark.chaos
def test_a_locked_file_and_a_redis_that_is_full_or_away(
    quoted: Quoted,
    folder: Path,
    file: str,
    start_valkey: Callable[..., ValkeyServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full Redis is drained by starting a worker; that sits out Redis and a locked file."""
    valkey = start_valkey(max_memory="4mb")
    settings = {"DATABASE_URL": file, "REDIS_URL": valkey.url, "SPOOLWAY_DIR": str(folder)}
    names = known(valkey, folder)
    fill(valkey)
    spool(other := folder.with_name("other"), requests(1))
    *looks, more = redis_commands("redis-full")
    with valkey.client() as client:
        with pytest.raises(redis.exceptions.OutOfMemoryError) as raised:
            client.xadd(DEFAULT_STREAM, {"v": 1})
        quoted.heard(f"(error) OOM {raised.value}")
        for command in looks:
            quoted.heard(reply(client, command))
    back = run("replay", "--to", "stream", "--dir", str(other), **settings)
    quoted.heard(back.out, names)
    with caplog.at_level("WARNING", "spoolway.producer"), Producer(valkey.url) as producer:
        producer.emit({"type": "request"})
        eventually(lambda: caplog.records, timeout=20)
        quoted.heard(
            "\n".join(f"WARNING {r.name}: {r.getMessage()}" for r in caplog.records), names
        )
        worker = worker_on(file, valkey, folder)
        with ending(worker):
            worker.started()
            said(worker, "the consumer group is made anew when it answers")
            with valkey.client() as client:
                assert reply(client, more) == "OK"
            drained(valkey, worker)
            valkey.kill()
            said(worker, "reading goes on when it answers again")
            valkey.start()
            eventually(lambda: worker.output().count("works again") == 2, timeout=20)
            with sqlite_lock(folder / "spoolway.db"):
                push(valkey, requests(10))
                eventually(lambda: spooled(folder) >= 10, timeout=20)
            eventually(lambda: worker.output().count("database: works again") == 1, timeout=20)
            eventually(lambda: not segments(folder), timeout=20)
            assert worker.terminate() == 0
        quoted.heard(worker.output(), names)
    quoted.verify()


def fill(server: ValkeyServer) -> None:
    """Push until Redis takes no more."""
    with suppress(redis.exceptions.OutOfMemoryError):
        while True:
            large = [request_line(body={"text": os.urandom(8_000).hex()}) for _ in range(20)]
            push(server, large, per_frame=20)
    with server.client() as client:
        client.config_set("maxmemory", "1mb")  # not a few bytes less than it takes


def redis_commands(name: str) -> list[str]:
    """Return what a section asks of Redis."""
    return [line for line in page.commands(page.section(name)) if line.startswith("redis-cli")]


def reply(client: Any, command: str) -> str:
    """Return what redis-cli would print of a command."""
    words = [word for word in shlex.split(command) if word not in ("redis-cli", "-u", "$REDIS_URL")]
    found = client.execute_command(*words)
    lines = found if isinstance(found, list) else [found]
    return "\n".join(line.decode() if isinstance(line, bytes) else str(line) for line in lines)


# --- What takes longer --------------------------------------------------------


@pytest.mark.chaos
def test_a_worker_that_stands_still(
    quoted: Quoted, folder: Path, valkey: ValkeyServer, file: str
) -> None:
    """SIGSTOP: health and status say so within 20 s; a restart ends it."""
    settings = {"DATABASE_URL": file, "REDIS_URL": valkey.url, "SPOOLWAY_DIR": str(folder)}
    names = known(valkey, folder)
    quoted.heard(run("health", **settings).out, names)
    worker = worker_on(file, valkey, folder)
    with ending(worker):
        worker.started()
        os.kill(worker.pid, signal.SIGSTOP)
        eventually(lambda: run("health", **settings).code == 1, timeout=30, every=0.5)
        quoted.heard(run("health", **settings).out, names)
        quoted.heard(run("status", "--check", **settings).out, names)
        worker.kill()
        worker.started()
        assert run("health", **settings).code == 0
    quoted.verify()


@pytest.mark.chaos
def test_two_workers_of_one_name(
    quoted: Quoted, folder: Path, tmp_path: Path, valkey: ValkeyServer, file: str
) -> None:
    """Two folders on one machine, and the same SPOOLWAY_CONSUMER: status sees it."""
    other = tmp_path / "other"
    workers = [worker_on(file, valkey, each) for each in (folder, other)]
    asked = ("status", "--check", "--dir", str(folder), "--dir", str(other))
    with ending(*workers):
        for worker in workers:
            worker.started()
        done = run(*asked, REDIS_URL=valkey.url)
        assert done.code == 1
        quoted.heard(done.out)
        workers[1].terminate()
        again = worker_on(file, valkey, other, SPOOLWAY_CONSUMER="worker-1")
        with ending(again):
            again.started()
            assert run(*asked, REDIS_URL=valkey.url).code == 0
    quoted.verify()


@pytest.mark.chaos
def test_no_connection_is_left(
    quoted: Quoted,
    folder: Path,
    valkey: ValkeyServer,
    start_postgres: Callable[..., PostgresServer],
    start_pgbouncer: Callable[..., Pgbouncer],
) -> None:
    """max_connections of the server, and max_client_conn of pgbouncer: said, and over with room."""
    few = {"max_connections": 5, "superuser_reserved_connections": 0}
    server = start_postgres(settings=few)
    database = server.create_database("logs")
    pooler = start_pgbouncer(server, settings={"max_client_conn": 1})
    for url in (database, pooler.url(database)):
        worker = worker_on(url, valkey, folder, SPOOLWAY_STARTUP_TIMEOUT="0.1")
        with ending(worker), taken(url):
            worker.started()
            said(worker, "events go to the spool until it can")
        quoted.heard(worker.output(), known(valkey, folder, url))
        assert run("db", "current", DATABASE_URL=url).code == 0, "over"
    counted, limit = page.sql("pool-exhausted")
    assert "client backend" not in server.sql(counted)
    assert server.sql(limit) == "5"
    quoted.verify()


@contextmanager
def taken(url: str) -> Iterator[None]:
    """Take every connection that a server has."""

    async def take(connections: list[asyncpg.Connection]) -> None:
        while True:
            connections.append(await asyncpg.connect(url, statement_cache_size=0))

    async def leave(connections: list[asyncpg.Connection]) -> None:
        for connection in connections:
            await connection.close()

    held: list[asyncpg.Connection] = []
    with asyncio.Runner() as runner:
        with pytest.raises(asyncpg.PostgresError):
            runner.run(take(held))
        yield
        runner.run(leave(held))


@pytest.mark.chaos
def test_a_disk_without_room(
    quoted: Quoted,
    small_disk: Path,
    valkey: ValkeyServer,
    newest_postgres: PostgresServer,
    logs: str,
) -> None:
    """Neither spool nor dead letters find room: nothing is acknowledged until there is some."""
    folder = small_disk / "var"
    names = known(valkey, folder, logs)
    with Proxy("127.0.0.1", newest_postgres.port).running() as proxy:
        worker = worker_on(proxy.url(logs), valkey, folder, SPOOLWAY_SPOOL_MIN_FREE_BYTES="0")
        with ending(worker):
            worker.started()
            ballast = small_disk / "ballast"
            fill_disk(ballast)
            push(valkey, _BAD)
            said(worker, "dead letters: ")
            proxy.refuse()
            push(valkey, requests(100))
            said(worker, "spool: ")
            assert waiting(valkey) > 0
            ballast.unlink()
            drained(valkey, worker)
            proxy.restore()
            eventually(lambda: not segments(folder), timeout=20)
        quoted.heard(worker.output(), names)
    quoted.verify()


# --- What is sent with a report -----------------------------------------------


def test_a_report_has_no_secret_in_it(folder: Path, valkey: ValkeyServer) -> None:
    """The commands that the page asks for print neither passwords nor what was said to a model."""
    password = "hunter2:/@%"
    spool(folder, requests(2, body="whisper"))
    DeadLetters(folder / "dead").keep([DeadLetter("undecodable", "near 'whisper'", b"whisper")])
    port = ReservedPort()
    out = ""
    for command in page.commands(page.section("what-to-send-with-a-report")):
        done = run(
            *_words(command)[1:],
            DATABASE_URL=f"postgresql://me:{quote(password, safe='')}@127.0.0.1:{port.number}/logs",
            REDIS_URL=valkey.url.replace("://", f"://:{quote(password, safe='')}@"),
            SPOOLWAY_DIR=str(folder),
        )
        out += "" if "jq" in command else done.out + done.err
    assert str(port.number) in out, "it says where it looked"
    for secret in (password, "hunter2", "whisper"):
        assert secret not in out
