"""Who can read what is written: whole requests of people, so their owner alone, whatever the umask."""

import os
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from spoolway.producer import Producer
from spoolway.schema import DEFAULT_STREAM, FrameEncoder
from tests.commands import SPOOLWAY, refusal, requests, run, segments, spool
from tests.confined import confined
from tests.servers import eventually
from tests.workers import WorkerProcess, ending, request_line, spooled

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Files get the mode that is asked for, here and in what is started from here."""
    before = os.umask(0)
    yield
    os.umask(before)


class Seen:
    """Every file that was looked at, and those that others could read or folders they could enter."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.open: set[str] = set()

    def look(self, *roots: Path) -> None:
        """Look at the folders and at everything in them, as it is now."""
        for root in roots:
            for path in [root, *root.rglob("*")]:
                try:
                    mode = path.lstat().st_mode
                except FileNotFoundError:
                    continue  # a segment that has just been replayed
                self.names.add(re.sub(r"\d{8}T[\w.]+Z-[0-9a-f]+(-\d+)?", "SEGMENT", path.name))
                wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
                if stat.S_IMODE(mode) != wanted:
                    self.open.add(f"{stat.S_IMODE(mode):o} {path}")


def modes(*paths: Path) -> set[int]:
    """Return their modes."""
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


def push(url: str, *lines: bytes) -> None:
    """Put one frame on the stream."""
    with closing(redis.Redis.from_url(url)) as client:
        fields: dict[Any, Any] = dict(FrameEncoder().encode(lines, len(lines)))
        client.xadd(DEFAULT_STREAM, fields)


def test_everything_that_is_written_is_for_its_owner_alone(no_umask: None, tmp_path: Path) -> None:
    """Under umask 000, in use and afterwards: a worker, its Valkey, a proxy, and the commands.

    SQLite with its WAL, its backup, Valkey's append-only file, segments, dead letters, archive.
    """
    folder, proxy = tmp_path / "a" / "b" / "var", tmp_path / "c" / "proxy"
    seen = Seen()
    up = WorkerProcess(
        "",
        "",
        folder,
        command=("spoolway", "up", "--port", "0"),
        DATABASE_URL="",
        SPOOLWAY_API_PORT="0",
        SPOOLWAY_ARCHIVE="true",
        SPOOLWAY_WRITE_TIMEOUT="0.5",
    )
    up.log = tmp_path / "up.log"
    with ending(up):
        up.started()
        url = re.findall(r"redis://127\.0\.0\.1:\d+/0", up.output())[0]
        push(url, request_line(), b'{"type":"request"}')
        eventually(lambda: (up.status() or {})["inserted"] == 1, timeout=20)
        seen.look(folder)
        with closing(sqlite3.connect(folder / "spoolway.db")) as database:
            database.execute("BEGIN IMMEDIATE")
            push(url, request_line())
            eventually(lambda: spooled(folder), timeout=30, what="a spool")
            seen.look(folder)
            database.rollback()
        assert up.terminate() == 0
    for command in ("backup", "restore"):
        done = run("db", command, str(folder / "backup.db"), SPOOLWAY_DIR=str(folder))
        assert done.code == 0, done
    with Producer(NOWHERE, folder=proxy) as producer:
        assert producer.emit({"type": "request"})
    [segment] = (proxy / "spool").iterdir()
    seen.look(folder, proxy)
    # Half of it rots, half of it comes back: both write to the proxy's folder.
    segment.write_bytes(segment.read_bytes() * 2 + b"rotten\n")
    settings = {"SPOOLWAY_DIR": str(proxy), "DATABASE_URL": f"sqlite:///{tmp_path}/d/e/logs.db"}
    assert run("db", "upgrade", **settings).code == 0
    replayed = run("replay", "--json", **settings)
    assert replayed.json["inserted"] == 1, replayed
    assert run("dead", "replay", **settings).code == 1
    seen.look(*(tmp_path / name for name in "acd"))

    assert seen.open == set()
    assert seen.names >= {
        *("spoolway.db", "spoolway.db-wal", "spoolway.db-shm", "logs.db", "backup.db", "archive"),
        *("worker-0.lock", "worker-0.json", "dead", "spool", "SEGMENT.jsonl"),
        *("valkey.log", "valkey.lock", "appendonlydir", "appendonly.aof.1.incr.aof"),
    }


def test_what_others_were_let_into_is_closed_to_them(no_umask: None, tmp_path: Path) -> None:
    """A spool or dead letters that were put back from a backup, or made by a script, with 0777."""
    for name in ("spool", "dead"):
        (tmp_path / name).mkdir()
    with Producer(NOWHERE, folder=tmp_path) as producer:
        assert producer.emit({"type": "request"})
    [segment] = (tmp_path / "spool").iterdir()
    segment.write_bytes(b"rotten\n")
    run("replay", SPOOLWAY_DIR=str(tmp_path), DATABASE_URL=f"sqlite:///{tmp_path}/logs.db")

    assert list((tmp_path / "dead").iterdir())
    assert modes(tmp_path / "spool", tmp_path / "dead") == {0o700}


@pytest.mark.parametrize("command", ["worker", "up"])
def test_a_folder_that_everybody_can_write_to_is_refused(
    command: str, no_umask: None, tmp_path: Path
) -> None:
    """Whoever can rename in it can put a link where a file is written: not in /tmp itself."""
    folder = tmp_path / "open"
    folder.mkdir(0o777)

    said = refusal(run(command, SPOOLWAY_DIR=str(folder), REDIS_URL=NOWHERE))

    assert "chmod o-w" in said
    assert list(folder.iterdir()) == []
    assert modes(folder) == {0o777}, "it may hold what is not ours"


def test_a_folder_that_others_can_list_keeps_its_mode(no_umask: None, tmp_path: Path) -> None:
    """Made by hand with 0755, or a group's with 0775 (a volume's): used as it is, and closed below."""
    folder = tmp_path / "shared"
    folder.mkdir(0o775)
    settings = {"SPOOLWAY_DIR": str(folder), "REDIS_URL": NOWHERE, "SPOOLWAY_STARTUP_TIMEOUT": "0"}

    assert "Redis" in run("worker", **settings).err

    assert modes(folder) == {0o775}
    assert modes(*folder.iterdir()) == {0o600}


def test_a_segment_that_somebody_else_put_there_holds_nobody_up(private_folder: Path) -> None:
    """Of another user and closed to us: it is counted and stays; ours beside it are replayed."""
    folder = private_folder / "state"
    spool(folder, requests(3), per_segment=1)
    foreign = segments(folder)[0]
    settings = {
        "PATH": "/usr/bin:/bin",
        "SPOOLWAY_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder}/logs.db",
    }
    command = confined([SPOOLWAY, "replay", "--json"], folder)
    os.chown(foreign, 12345, 12345)
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert orjson.loads(done.stdout)["inserted"] == 2
    assert "Permission denied" in done.stdout
    assert segments(folder) == [foreign]
