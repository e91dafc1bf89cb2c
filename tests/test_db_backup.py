"""`spoolway db backup` and `restore`, and PostgreSQL's own tools: proved by restoring."""

import asyncio
import os
import shlex
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from spoolway.schema import new_id
from tests.commands import ended, refusal, run, start
from tests.servers import ValkeyServer
from tests.stores import Database, error, request
from tests.test_db_copy import rows, shown, sql, store
from tests.workers import WorkerProcess, count, drained, ending, push, request_line

pytest_plugins = ("tests.store_fixtures",)


def ids_of(path: Path) -> set[UUID]:
    """Read the ids in a backup, as any SQLite does."""
    with closing(sqlite3.connect(path)) as file:
        return {UUID(row[0]) for row in file.execute("SELECT id FROM request_logs")}


def test_a_backup_taken_while_a_worker_writes_is_restored_and_written_on(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    """What was there when it began is in it; the worker is not held up; and it is put back whole."""
    folder, file = tmp_path / "state", tmp_path / "backup.db"
    database = f"sqlite:///{folder / 'spoolway.db'}"
    here = {"SPOOLWAY_DIR": str(folder)}
    before = [request_line(body={"text": "x" * 3000}) for _ in range(1500)]
    after = [request_line() for _ in range(300)]
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        push(valkey, before)
        drained(valkey, worker)
        copying = start("db", "backup", str(file), "--json", **here)
        push(valkey, after)
        drained(valkey, worker)
        made = ended(copying)
        assert made.code == 0, made
        there = ids_of(file)
        assert made.json["rows"]["request_logs"] == len(there)
        assert len(there) >= len(before)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.glob("*backup*")] == [file.name]
        assert "exists" in refusal(run("db", "backup", str(file), **here))
        assert "worker runs" in refusal(run("db", "restore", str(file), **here))
        assert worker.terminate() == 0
    with closing(sqlite3.connect(folder / "spoolway.db")) as somebody:
        somebody.execute("SELECT count(*) FROM request_logs").fetchone()
        assert "in use" in refusal(run("db", "restore", str(file), **here))
    done = run("db", "restore", str(file), "--json", **here)
    assert done.code == 0, done
    assert ids_of(folder / "spoolway.db") == there
    assert len(ids_of(Path(done.json["aside"]))) == len(before) + len(after)
    assert stat.S_IMODE((folder / "spoolway.db").stat().st_mode) == 0o600
    assert run("db", "check", **here).code == 0
    with ending(worker):
        worker.started()
        push(valkey, [request_line()])
        drained(valkey, worker)
    assert count(database) == len(there) + 1


def test_a_file_that_is_not_good_is_never_put_in_place(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """A damaged file, one of another program and one of a newer version: the database stays."""
    store(sqlite_logs, [request(body={"text": "x" * 4000}) for _ in range(50)])
    here = {"SPOOLWAY_DIR": str(tmp_path / "state"), "DATABASE_URL": shown(sqlite_logs.url)}
    file = tmp_path / "backup.db"
    assert run("db", "backup", str(file), **here).code == 0
    good = file.read_bytes()
    wrong = tmp_path / "wrong.db"
    for data in (good[: len(good) // 2], b"no database" * 1000, b""):
        wrong.write_bytes(data)
        refusal(run("db", "restore", str(wrong), **here))
    wrong.write_bytes(good)
    with closing(sqlite3.connect(wrong)) as newer, newer:
        newer.execute("UPDATE spoolway_alembic_version SET version_num = '9999'")
    assert "9999" in refusal(run("db", "restore", str(wrong), **here))
    assert asyncio.run(sqlite_logs.count()) == 50
    # A damaged database is what a backup is for: it is kept aside, and no reason to refuse.
    sqlite_logs.path.write_bytes(b"rot" * 10_000)
    assert run("db", "restore", str(file), **here).code == 0
    assert asyncio.run(sqlite_logs.count()) == 50


def test_a_write_ahead_log_goes_with_its_own_file_and_no_other(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """That of the backup comes along; one whose database was removed is not read into the backup."""
    here = {"SPOOLWAY_DIR": str(tmp_path / "state"), "DATABASE_URL": shown(sqlite_logs.url)}
    file, wal = tmp_path / "copied.db", Path(f"{sqlite_logs.path}-wal")
    with closing(sqlite3.connect(sqlite_logs.path)) as reader:  # keeps what is written in the WAL
        reader.execute("PRAGMA journal_mode=WAL")
        reader.execute("SELECT count(*) FROM request_logs").fetchone()
        store(sqlite_logs, [request() for _ in range(50)])
        file.write_bytes(sqlite_logs.path.read_bytes())
        Path(f"{file}-wal").write_bytes(wal.read_bytes())
        store(sqlite_logs, [request() for _ in range(7)])
        newer = wal.read_bytes()
    sqlite_logs.path.unlink()
    wal.write_bytes(newer)

    done = run("db", "restore", str(file), "--json", **here)
    assert (done.code, done.json["rows"]["request_logs"]) == (0, 50), done
    assert asyncio.run(sqlite_logs.count()) == 50
    refused = refusal(run("db", "backup", "--force", str(sqlite_logs.path), **here))
    assert "is the database itself" in refused


def tool(logs: Database, command: str, **environment: str) -> None:
    """Run one of PostgreSQL's own tools, as the command line names it."""
    assert logs.server is not None
    program, *arguments = shlex.split(command)
    binary = logs.server.bin_dir / program
    if not binary.exists():
        pytest.skip(f"there is no {program} beside this PostgreSQL")
    subprocess.run([binary, *arguments], env={**os.environ, **environment}, check=True, timeout=120)


def named(refused: str) -> str:
    """Return the command that a refusal names."""
    return refused.partition("own tools: ")[2]


def test_the_command_that_backup_names_restores_postgresql_with_its_partitions(
    newest_logs: Database, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Dumped and restored, with another day of rows: `db check` is clean, and a worker goes on."""
    server = newest_logs.server
    assert server is not None
    if not (server.bin_dir / "pg_dump").exists():
        pytest.skip("this PostgreSQL comes without pg_dump")
    yesterday = new_id(now_ns=lambda: 1_767_225_600_000_000_000)
    first = request(yesterday, body={"a": [1e2]})
    store(newest_logs, [first, error(first), *(request() for _ in range(20))])
    url, secret = shown(newest_logs.url), newest_logs.url.password or "none"
    dumped = tmp_path / "logs.dump"
    command = named(refusal(run("db", "backup", str(dumped), DATABASE_URL=url)))
    assert secret not in command
    tool(newest_logs, command, PGPASSWORD=secret)
    empty = newest_logs.url.set(database=f"r_{os.urandom(6).hex()}")
    server.create_database(str(empty.database))
    restored = Database(empty, server)
    try:
        command = named(refusal(run("db", "restore", str(dumped), DATABASE_URL=shown(empty))))
        tool(restored, command, PGPASSWORD=secret)
        assert rows(restored) == rows(newest_logs)
        assert asyncio.run(restored.partitions()) == asyncio.run(newest_logs.partitions())
        assert run("db", "check", DATABASE_URL=shown(empty)).code == 0
        worker = WorkerProcess(shown(empty), valkey.url, tmp_path / "state")
        with ending(worker):
            worker.started()
            push(valkey, [request_line(), request_line(id=new_id(lambda: 1_768_000_000 * 10**9))])
            drained(valkey, worker)
        assert asyncio.run(restored.count()) == 23
        assert sql(
            restored, "SELECT count(*) FROM error_logs WHERE request_log_id IS NOT NULL"
        ) == [(1,)]
    finally:
        server.drop_database(str(empty.database))
