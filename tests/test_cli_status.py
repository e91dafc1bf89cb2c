"""`spoolway status`: what waits where, whether it all adds up, and what is wrong."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.schema import DEFAULT_STREAM
from spoolway.spool import DeadLetter, DeadLetters, SpoolWriter
from tests.commands import Ended, ended, requests, run, spool, start
from tests.servers import ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import GROUP, WorkerProcess, drained, ending, push


def ask(server: ValkeyServer | str, *arguments: str | Path) -> Ended:
    """Run `spoolway status`, in this process."""
    url = server if isinstance(server, str) else server.url
    return run("status", *map(str, arguments), REDIS_URL=url)


def wrong(server: ValkeyServer | str, *folders: Path) -> list[str]:
    """Return what --check finds wrong, and assert that it ends accordingly."""
    arguments = [part for folder in folders for part in ("--dir", folder)]
    done = ask(server, "--check", *arguments)
    found = [line[7:] for line in done.out.splitlines() if line.startswith("wrong: ")]
    assert done.code == (1 if found else 0), done.out
    assert found or "nothing is wrong" in done.out
    assert len(ask(server, "--json", *arguments).json["wrong"]) == len(found)
    return found


Worker = Callable[..., Path]


@pytest.fixture
def worker(folder: Path) -> Iterator[Worker]:
    """Make the status file of a worker that lives (its slot is locked): `worker(breaker="open")`."""
    with ExitStack() as stack:

        def make(folder: Path = folder, **status: object) -> Path:
            folder.mkdir(exist_ok=True)
            lock = os.open(folder / "worker-0.lock", os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            now = time.time()
            values = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "consumer": "w-0",
                "state": "reading",
                "turned_at": now,
                "breaker": "closed",
                "last_commit": now,
                "last_settled": now,
                "read": 10,
                "inserted": 4,
                "duplicate": 1,
                "dead": 1,
                "spooled": 2,
                "given_back": 1,
                "in_flight": 1,
                **status,
            }
            (folder / "worker-0.json").write_bytes(orjson.dumps(values))
            return folder

        yield make


def old_entry(server: ValkeyServer, seconds: float) -> str:
    """Push an entry whose id says that it was pushed so long ago."""
    with server.client() as client:
        now, _ = client.time()
        entry = f"{int((now - seconds) * 1000)}-0"
        client.xadd(DEFAULT_STREAM, {"v": 1}, id=entry)
    return entry


# --- What it shows ------------------------------------------------------------


def test_a_worker_that_has_drained_everything(
    tmp_path: Path, folder: Path, valkey: ValkeyServer
) -> None:
    """The installed command beside a real worker: nothing waits, and the equation holds."""
    real = WorkerProcess(f"sqlite:///{tmp_path / 'logs.db'}", valkey.url, folder)
    with ending(real):
        real.started()
        push(valkey, requests(150))
        drained(valkey, real)
        eventually(lambda: (real.status() or {})["inserted"] == 150, timeout=10)
        done = ended(start("status", "--check", SPOOLWAY_DIR=str(folder), REDIS_URL=valkey.url))
        found = ask(valkey, "--json", "--dir", folder).json
        assert real.terminate() == 0
    assert done.code == 0, done
    assert "nothing is wrong" in done.out
    assert "queue   0 entries; 0 not read, lag 0.0 s; 0 pending" in done.out
    assert (
        "150 read = 150 inserted + 0 duplicate + 0 dead + 0 spooled + 0 given back + 0 in flight: "
        "holds"
    ) in done.out
    assert "0 replayed = 0 inserted + 0 duplicate + 0 dead: holds" in done.out
    [status] = found["folders"][0]["workers"]
    assert status["holds"]
    assert status["breaker"] == "closed"


def test_the_queue_its_lag_and_what_is_pending(folder: Path, valkey: ValkeyServer) -> None:
    """Ages come from the entries' ids and Redis's clock: no worker has to run for that."""
    folder.mkdir()
    for seconds in (500, 300, 100):
        old_entry(valkey, seconds)
    before = ask(valkey, "--json", "--dir", folder).json["redis"]
    assert (before["length"], before["pending"], before["undelivered"]) == (3, 0, 3)
    assert 500 <= before["lag_seconds"] < 520

    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        client.xreadgroup(GROUP, "somebody", {DEFAULT_STREAM: ">"}, count=1)
    after = ask(valkey, "--json", "--dir", folder).json["redis"]
    assert (after["length"], after["pending"], after["undelivered"]) == (3, 1, 2)
    assert 300 <= after["lag_seconds"] < 320
    assert 500 <= after["pending_seconds"] < 520
    said = ask(valkey, "--dir", folder).out
    assert "queue   3 entries; 2 not read, lag 5 min; 1 pending, the oldest for 8 min" in said


def test_no_stream_is_an_empty_queue(folder: Path, valkey: ValkeyServer) -> None:
    """Nobody has pushed yet."""
    folder.mkdir()
    found = ask(valkey, "--json", "--dir", folder).json["redis"]
    assert (found["length"], found["pending"], found["lag_seconds"]) == (0, 0, 0.0)


def test_folders_of_a_worker_and_of_a_proxy(
    worker: Worker, tmp_path: Path, valkey: ValkeyServer
) -> None:
    """--dir as often as you like: spool and dead letters of each."""
    first, second = worker(), tmp_path / "proxy"
    then = datetime.now(UTC) - timedelta(hours=3)
    writer = SpoolWriter(second / "spool", now=lambda: then)
    writer.append(requests(20))
    spool(second, requests(40), per_segment=20)
    letters = [DeadLetter("refused", "m", b"a"), DeadLetter("\x1b[2J", "m", b"b")]
    DeadLetters(second / "dead").keep(letters)

    done = ask(valkey, "--dir", first, "--dir", second)
    found = ask(valkey, "--json", "--dir", first, "--dir", second).json["folders"]

    assert done.code == 0
    assert f"folder    {first}\n  spool   0 segments, 0 events, 0 B\n" in done.out
    assert "  spool   3 segments, 60 events, " in done.out
    assert ", the oldest for 3 h\n" in done.out
    assert "  dead    1 refused, 1 \\x1b[2J\n" in done.out
    assert "  worker  none runs here" in done.out
    assert [one["spool"]["events"] for one in found] == [0, 60]
    assert 3 * 3600 <= found[1]["spool"]["oldest_seconds"] < 3 * 3600 + 60
    assert found[1]["dead"] == {"refused": 1, "\x1b[2J": 1}
    writer.close()


def test_redis_away_is_one_line_and_the_rest_is_shown(worker: Worker) -> None:
    """Exit 0 without --check; never the password."""
    folder = worker()
    spool(folder, requests(5))
    url = f"redis://:s3cret@127.0.0.1:{ReservedPort().number}"
    done = ask(url, "--dir", folder)
    assert done.code == 0
    first, *rest = done.out.splitlines()
    assert first.startswith("redis     Redis at redis://:***@127.0.0.1:")
    assert "cannot be used" in first
    assert "1 segment, 5 events" in "".join(rest)
    assert "s3cret" not in done.out
    assert wrong(url, folder)[0].startswith("Redis at ")


def test_what_is_no_stream_cannot_be_asked(worker: Worker, valkey: ValkeyServer) -> None:
    """Somebody else's key has the stream's name."""
    with valkey.client() as client:
        client.set(DEFAULT_STREAM, "x")
    [said] = wrong(valkey, worker())
    assert "cannot be used" in said
    assert "WRONGTYPE" in said


def test_a_folder_that_cannot_be_read_is_said(worker: Worker, valkey: ValkeyServer) -> None:
    """And the rest is still shown."""
    folder = worker()
    (folder / "spool").write_text("in the way")
    (folder / "dead").write_text("in the way")
    assert [line.partition(": ")[2] for line in wrong(valkey, folder)] == [
        "the spool cannot be read: Not a directory",
        "the dead letters cannot be read: Not a directory",
    ]


# --- What is wrong ------------------------------------------------------------


def test_an_outage_that_the_spool_sits_out_is_not_wrong(
    worker: Worker, valkey: ValkeyServer
) -> None:
    """Breaker open, no commit for an hour, but events were settled just now."""
    old_entry(valkey, 300)
    assert wrong(valkey, worker(breaker="open", last_commit=time.time() - 3600)) == []


def test_no_worker_is_wrong(folder: Path, tmp_path: Path, valkey: ValkeyServer) -> None:
    """And so is a folder that is not there."""
    folder.mkdir()
    assert wrong(valkey, folder) == [f"no worker runs in {folder}: start one with spoolway worker"]
    assert any("there is no folder" in line for line in wrong(valkey, tmp_path / "none"))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            {"inserted": 3},
            "10 read = 3 inserted + 1 duplicate + 1 dead + 2 spooled + 1 given back ",
        ),
        ({"inserted": 3}, "+ 1 in flight: does not hold, they are 9"),
        ({"replayed": 2, "replay_inserted": 1}, "2 replayed = 1 inserted + 0 duplicate + 0 dead: "),
        ({"turned_at": 0.0}, "has not turned for"),
        ({"breaker": "refusing"}, "is stopped by a run of refusals"),
        ({"lost_entries": 1}, "w-0 lost 1 entry: something trims the stream"),
        ({"lost_entries": 2}, "w-0 lost 2 entries: something trims the stream"),
    ],
)
def test_what_a_worker_says_of_itself_is_checked(
    status: dict[str, Any], said: str, worker: Worker, valkey: ValkeyServer
) -> None:
    """One line each, and exit 1."""
    [line] = wrong(valkey, worker(**status))
    assert "w-0" in line
    assert said in line


def test_two_workers_of_one_name_are_wrong(
    worker: Worker, tmp_path: Path, valkey: ValkeyServer
) -> None:
    """They take from each other what they have in hand; each folder alone looks right."""
    [line] = wrong(valkey, worker(), worker(tmp_path / "other"))
    assert line == "2 workers are called w-0: give each a SPOOLWAY_CONSUMER of its own"


@pytest.mark.parametrize("delivered", [False, True], ids=["not read", "pending"])
@pytest.mark.parametrize("settled", [None, 3600.0], ids=["never", "an hour ago"])
def test_a_backlog_that_does_not_move_is_wrong(
    delivered: bool, settled: float | None, worker: Worker, valkey: ValkeyServer
) -> None:
    """Older than a minute, and nothing has become safe for a minute."""
    at = None if settled is None else time.time() - settled
    folder = worker(last_settled=at)
    old_entry(valkey, 30)
    assert wrong(valkey, folder) == [], "it is not that old"

    with valkey.client() as client:
        client.delete(DEFAULT_STREAM)
        old_entry(valkey, 300)
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        if delivered:
            client.xreadgroup(GROUP, "w-0", {DEFAULT_STREAM: ">"})
    [line] = wrong(valkey, folder)
    since = "since the start" if settled is None else "for 60 min"
    assert line == (
        f"the oldest entry waits for 5 min, and no event was settled {since}: the workers' logs "
        "say why"
    )


def test_help_has_examples() -> None:
    """How it is used."""
    assert "spoolway status --check" in run("status", "--help").out
