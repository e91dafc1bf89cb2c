"""`spoolway retention` and the workers' cron: the same rules, by hand and by themselves."""

import asyncio
import signal
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from arq.jobs import Job

from spoolway.worker.config import database_url
from spoolway.worker.host import jobs_pool
from spoolway.worker.stores import Item
from tests.commands import ended, refusal, run, start
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.stores import Database, error, id_at, request
from tests.workers import WorkerProcess, count, ending, rows

pytest_plugins = ["tests.store_fixtures"]

NOW = datetime.now(UTC)


def old(days: float, **fields: object) -> Item:
    """A request of so many days ago."""
    return request(id_at(NOW - timedelta(days=days)), body={"said": "x" * 500}, **fields)


def write(logs: Database, items: list[Item]) -> None:
    """Store them."""

    async def write_all() -> None:
        async with logs.opened() as store:
            await store.write(items)

    asyncio.run(write_all())


def url_of(logs: Database) -> str:
    """The database as an operator gives it."""
    return logs.url.render_as_string(hide_password=False)


def test_dry_run_says_what_the_run_then_does(sqlite_logs: Database, newest_logs: Database) -> None:
    """Flags win over the environment; a look changes nothing; numbers, days and exit codes agree."""
    for logs in (sqlite_logs, newest_logs):
        owners = [old(40), old(39), old(20), old(0)]
        write(logs, [*owners, *(error(one) for one in owners)])
        settings = {"DATABASE_URL": url_of(logs), "SPOOLWAY_REQUEST_RETENTION_DAYS": "1"}
        flags = ("--request-days", "30", "--body-days", "10", "--json")
        looked = run("retention", "--dry-run", *flags, **settings)
        assert count(url_of(logs)) == 4
        done = run("retention", *flags, **settings)

        assert (looked.code, done.code) == (0, 0), looked.err + done.err
        assert looked.json == {**done.json, "dry_run": True}
        first = (datetime.now(UTC).date() - timedelta(days=30)).isoformat()
        assert done.json["request_logs"]["first_day_kept"] == first
        assert [done.json[part]["rows"] for part in ("request_logs", "error_logs", "bodies")] == [
            2,
            0,
            1,
        ]
        assert done.json["error_logs"]["keep_days"] == 0
        assert count(url_of(logs)) == 2
        shown = run("retention", "--dry-run", **settings)
        assert "request_logs" in shown.out
        assert count(url_of(logs), "error_logs") == 4


@pytest.mark.chaos
def test_killed_in_the_middle_and_run_again(sqlite_logs: Database) -> None:
    """SIGKILL leaves whole rows and a whole file; Ctrl-C is code 130; the next run does the rest."""
    write(sqlite_logs, [*(old(40) for _ in range(10_000)), old(0)])

    def left() -> int:
        with closing(sqlite3.connect(sqlite_logs.path, timeout=10)) as connection:
            return int(connection.execute("SELECT count(*) FROM request_logs").fetchone()[0])

    def is_fewer(than: int) -> bool:
        return left() < than

    settings = {"DATABASE_URL": url_of(sqlite_logs)}
    for number in (signal.SIGKILL, signal.SIGINT):
        process = start("retention", "--request-days", "30", **settings)
        eventually(partial(is_fewer, left()), timeout=30, every=0.005)
        process.send_signal(number)
        done = ended(process)
        assert done.code in ({-signal.SIGKILL} if number == signal.SIGKILL else {130, 0}), done
    done = run("retention", "--request-days", "30", **settings)
    assert done.code == 0
    assert left() == 1
    assert rows(url_of(sqlite_logs), "PRAGMA integrity_check") == [("ok",)]


@pytest.mark.chaos
def test_workers_do_it_by_themselves(
    newest_postgres: PostgresServer, newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """The control job of the workers' cron keeps what the settings say, and logs what it removed."""
    worker = WorkerProcess(
        newest_postgres_url, valkey.url, folder, SPOOLWAY_REQUEST_RETENTION_DAYS="30"
    )
    with ending(worker):
        worker.started()

        write(Database(database_url(newest_postgres_url), newest_postgres), [old(40), old(0)])

        async def work() -> object:
            pool = jobs_pool(valkey.url)
            try:
                job = await pool.enqueue_job("remove_old")
                assert isinstance(job, Job)
                return await job.result(timeout=20)
            finally:
                await pool.aclose(close_connection_pool=True)

        assert asyncio.run(work()) == "request_logs of 1 row in 1 partition"
        assert count(newest_postgres_url) == 1
        eventually(lambda: (worker.status() or {})["removed_rows"] == 1, timeout=10)
        assert "retention removed request_logs of 1 row" in worker.output()


def test_a_file_of_an_earlier_version_shrinks_after_one_vacuum(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """--vacuum writes it anew once; for PostgreSQL it is refused."""
    write(sqlite_logs, [old(40) for _ in range(500)])
    asyncio.run(sqlite_logs.sql("PRAGMA auto_vacuum = NONE", "VACUUM"))
    settings = {"DATABASE_URL": url_of(sqlite_logs)}
    flags = ("retention", "--request-days", "30")
    assert run(*flags, **settings).code == 0
    assert rows(url_of(sqlite_logs), "PRAGMA freelist_count")[0][0] > 50, "its room is used again"
    assert run(*flags, "--vacuum", **settings).code == 0
    assert rows(url_of(sqlite_logs), "PRAGMA freelist_count") == [(0,)]
    assert rows(url_of(sqlite_logs), "PRAGMA auto_vacuum") == [(2,)]

    postgres = "postgresql://me@127.0.0.1:1/logs"
    refused = run("retention", "--vacuum", DATABASE_URL=postgres)
    assert "SQLite" in refusal(refused)


def test_a_database_that_is_away_is_one_line(tmp_path: Path) -> None:
    """Nothing is removed, and the exit code says so."""
    done = run(
        "retention",
        "--request-days",
        "30",
        DATABASE_URL="postgresql://me@127.0.0.1:1/logs",
        SPOOLWAY_DIR=str(tmp_path),
    )
    assert done.code == 1
    assert "127.0.0.1:1" in done.out


def test_nothing_is_removed_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Without a setting or a flag everything is kept for ever."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    assert run("db", "upgrade", DATABASE_URL=database).code == 0
    done = run("retention", "--json", DATABASE_URL=database)
    assert done.code == 0
    assert all(done.json[part]["rows"] == 0 for part in ("request_logs", "error_logs", "bodies"))
    assert rows(database, "PRAGMA auto_vacuum") == [(2,)], "made so that it can shrink"
