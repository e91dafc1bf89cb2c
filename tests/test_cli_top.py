"""`spoolway top`: rates that are right, everything that can be away, and a terminal left as it was."""

import asyncio
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.schema import DEFAULT_STREAM
from spoolway.spool import DeadLetter, DeadLetters
from spoolway.worker.backlog import Backlog
from spoolway.worker.cli.rates import WINDOW_SECONDS, Rates
from spoolway.worker.config import Settings
from spoolway.worker.fleet import Fleet, Folder, Look, activity
from spoolway.worker.reading.last_minute import OfModel, last_minute
from tests.commands import SPOOLWAY, Ended, ended, environment, requests, run, spool, start
from tests.either_database import HOSTILE, either, insert, is_inert, put, url_of
from tests.reading_database import reading
from tests.servers import ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.stores import Database, error, id_at, request
from tests.test_cli_status import Worker, worker
from tests.workers import GROUP, WorkerProcess, drained, ending, push

__all__ = ["either", "worker"]
pytest_plugins = ["tests.store_fixtures"]


# --- Rates --------------------------------------------------------------------


def look(at: float, delivered: int, *, pending: int = 0, workers: tuple[Any, ...] = ()) -> Look:
    """The fleet at one moment, with no more than rates need."""
    backlog = Backlog(pending, pending, 0, 0.0, 0.0, delivered)
    folder = Folder("var", workers=list(workers))
    return Look(at, {"s": backlog}, None, [folder])


def status(at: float, read: int, pid: int = 1) -> dict[str, Any]:
    """A worker's status."""
    return {"consumer": "w", "pid": pid, "written_at": at, "age": 0.0, "read": read}


def test_a_rate_is_what_was_counted_by_the_time_in_between() -> None:
    """Entries by Redis's counts; events by a worker's status and the time at which it was written."""
    rates = Rates()
    first = rates.of(look(100.0, 1_000, workers=(status(99.5, 50_000),)))
    assert (first.added, first.settled, first.events_per_entry) == (None, None, None)
    # The worker has not written again: its rate is not known, and is not 0.
    assert rates.of(look(101.0, 1_100, workers=(status(99.5, 50_000),))).in_all["read"] is None
    speeds = rates.of(look(102.0, 1_200, pending=20, workers=(status(101.5, 60_000),)))
    assert (speeds.added, speeds.settled) == (100.0, 90.0)
    assert speeds.in_all["read"] == 5_000.0
    assert speeds.events_per_entry == pytest.approx(5_000 / 90)


def test_a_rate_is_of_the_last_seconds() -> None:
    """A burst is over when it is."""
    rates = Rates()
    found = [rates.of(look(second, 100 * min(second, 5))).added for second in range(20)]
    assert (found[0], found[5], found[-1]) == (None, 100.0, 0.0)
    assert WINDOW_SECONDS < 14


@pytest.mark.parametrize("after", [status(12.0, 5, pid=2), status(12.0, 5)])
def test_a_counter_that_began_anew_is_no_negative_rate(after: dict[str, Any]) -> None:
    """A worker that was restarted, and Redis that was emptied."""
    rates = Rates()
    rates.of(look(10.0, 500, workers=(status(10.0, 100),)))
    speeds = rates.of(look(12.0, 3, workers=(after,)))
    assert (speeds.added, speeds.in_all["read"]) == (None, None)
    speeds = rates.of(look(14.0, 23, workers=({**after, "written_at": 14.0, "read": 25},)))
    assert (speeds.added, speeds.in_all["read"]) == (10.0, 10.0)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({}, "idle"),
        ({"in_flight": 1}, "draining"),
        ({"last_settled": 999.0}, "draining"),
        ({"breaker": "open", "in_flight": 1}, "spooling"),
        ({"breaker": "half-open"}, "spooling"),
        ({"breaker": "refusing"}, "refusing"),
        ({"age": 15.0, "breaker": "open"}, "wedged"),
        ({"state": "starting"}, "starting"),
        ({"state": "disabled"}, "disabled"),
    ],
)
def test_what_a_worker_does_is_one_word(values: dict[str, Any], word: str) -> None:
    """The worst that is true of it."""
    known = {"age": 0.1, "breaker": "closed", "state": "reading", "last_settled": 100.0, **values}
    assert activity(known, 1000.0) == word


async def test_the_last_minute_is_counted_by_model(either: Database) -> None:
    """By when rows were committed, with outcomes, error events and how long requests took."""
    first = request(model_name="a", duration_ms=100, outcome="error")
    long_ago = request(id_at(datetime.now(UTC) - timedelta(days=3)), model_name="old")
    await insert(
        either,
        first,
        request(model_name="a", duration_ms=300),
        request(model_name="a", outcome="cancelled"),
        request(model_name="b"),
        error(first, model_name="a"),
        error(first, model_name="a"),
        error(None, model_name="c"),
        long_ago,
    )
    async with reading(either) as database:
        found = await last_minute(database)
        later = await last_minute(database, datetime.now(UTC) + timedelta(minutes=2))
    assert found.models == [
        OfModel("a", 3, 1, 1, 2, 200.0, 300.0),
        OfModel("b", 1),
        OfModel("c", errors=1),
    ]
    assert later.models == []


# --- One sample ---------------------------------------------------------------


def top(server: ValkeyServer | str, folder: Path, *arguments: str, database: str = "") -> Ended:
    """Run `spoolway top` for a short sample, in this process."""
    url = server if isinstance(server, str) else server.url
    return run(
        *("top", "--interval", "0.1", "--dir", str(folder), *arguments),
        REDIS_URL=url,
        DATABASE_URL=database,
    )


def test_everything_is_in_one_sample(
    worker: Worker, folder: Path, valkey: ValkeyServer, sqlite_logs: Database
) -> None:
    """Without a terminal it is printed once: queue, spool, dead letters, worker, last minute."""
    worker(breaker="open")
    spool(folder, requests(40), per_segment=20)
    DeadLetters(folder / "dead").keep([DeadLetter("refused", "m", b"a")])
    put(sqlite_logs, [request(model_name="gpt-4o", outcome="error", duration_ms=1_500)])
    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0", mkstream=True)
        for _ in range(3):
            client.xadd(DEFAULT_STREAM, {"v": 1})
        client.xreadgroup(GROUP, "somebody", {DEFAULT_STREAM: ">"}, count=1)
    done = top(valkey, folder, database=url_of(sqlite_logs))
    found = top(valkey, folder, "--json", "--once", database=url_of(sqlite_logs)).json
    assert done.code == 0
    assert "queue     3 entries; 2 not read, lag " in done.out
    assert "database  available, answered in " in done.out
    assert "  spool   2 segments, 40 events, " in done.out
    assert "  dead    1 refused\n" in done.out
    assert [line.split()[:2] for line in done.out.splitlines() if line.startswith("w-0")] == [
        ["w-0", "spooling"]
    ]
    last = next(line for line in done.out.splitlines() if line.startswith("gpt-4o"))
    assert last.split() == ["gpt-4o", "1", "1", "0", "0", "1.50", "s", "1.50", "s"]
    assert (found["redis"]["length"], found["redis"]["pending"]) == (3, 1)
    assert found["redis"]["added_per_second"] == 0
    assert found["database"] == {"state": "available", "error": None}
    assert found["last_minute"]["models"][0]["failed"] == 1
    [one] = found["folders"]
    assert (one["spool"]["events"], one["dead"]) == (40, {"refused": 1})
    assert one["workers"][0]["activity"] == "spooling"
    assert found["wrong"] == []


def test_what_is_away_is_said_and_the_rest_is_shown(worker: Worker, folder: Path) -> None:
    """Neither Redis nor the database, nor a password of theirs."""
    worker(turned_at=0.0)
    port = ReservedPort().number
    done = top(
        f"redis://:s3cret@127.0.0.1:{port}",
        folder,
        database=f"postgresql://me:s3cret@127.0.0.1:{port}/logs",
    )
    assert done.code == 0
    assert "redis     unavailable, see below" in done.out
    assert "database  unavailable: " in done.out
    assert "wrong     Redis at redis://:***@127.0.0.1" in done.out
    assert "wrong     w-0 has not turned for" in done.out
    assert "  spool   0 segments" in done.out
    assert "s3cret" not in done.out + done.err


def test_nothing_from_files_and_the_database_reaches_the_terminal_but_text(
    worker: Worker, folder: Path, valkey: ValkeyServer, sqlite_logs: Database
) -> None:
    """A worker's name, a dead letter's reason, a model that a client asked for."""
    worker(consumer=HOSTILE, state=HOSTILE, breaker=HOSTILE)
    DeadLetters(folder / "dead").keep([DeadLetter(HOSTILE, "m", b"a")])
    put(sqlite_logs, [request(model_name=HOSTILE.replace("\x00", ""))])
    for arguments in ((), ("--json", "--once")):
        done = top(valkey, folder, *arguments, database=url_of(sqlite_logs))
        assert is_inert(done.out)
        assert "owned" in done.out


@pytest.mark.chaos
def test_rates_of_a_real_worker(tmp_path: Path, folder: Path, valkey: ValkeyServer) -> None:
    """What was pushed between two samples came in and went out."""
    real = WorkerProcess(f"sqlite:///{tmp_path / 'logs.db'}", valkey.url, folder)
    settings = Settings(redis_url=valkey.url, dir=folder)

    def has_counted() -> bool:
        return bool((real.status() or {})["inserted"] == 2_000)

    async def watch() -> tuple[float, float]:
        fleet, rates = Fleet(settings, [folder], every=0.0), Rates()
        try:
            rates.of(await fleet.look())
            began = time.time()
            await asyncio.to_thread(push, valkey, requests(2_000))
            await asyncio.to_thread(drained, valkey, real)
            await asyncio.to_thread(eventually, has_counted, timeout=10)
            found = await fleet.look()
            speeds = rates.of(found)
        finally:
            await fleet.close()
        took = found.at - began
        assert speeds.added == speeds.settled
        [one] = speeds.workers.values()
        return (speeds.added or 0.0) * took, (one["inserted"] or 0.0) * took

    with ending(real):
        real.started()
        entries, events = asyncio.run(watch())
        real.terminate()
    assert entries == pytest.approx(20, rel=0.2)
    assert 1_000 < events < 100_000  # its clock is the status file's: every 2 s


# --- On a terminal ------------------------------------------------------------


def of_terminal(settings: dict[str, str]) -> dict[str, str]:
    """The environment of a command whose terminal says how large it is."""
    found = environment(**{"TERM": "xterm-256color", **settings})
    return {name: value for name, value in found.items() if name not in {"COLUMNS", "LINES"}}


# What reads the keys of a terminal gets its signals only if it is the terminal of its session.
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, *arguments: str, **settings: str) -> None:
        self.keyboard, screen = pty.openpty()
        self.resize(24, 100)
        self.before = termios.tcgetattr(self.keyboard)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, SPOOLWAY, *arguments],
            env=of_terminal(settings),
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
        )
        os.close(screen)

    def resize(self, lines: int, columns: int) -> None:
        """Change the window."""
        fcntl.ioctl(self.keyboard, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self) -> bytes:
        """Return all that was written so far."""
        while select.select([self.keyboard], [], [], 0)[0]:
            try:
                self.seen += os.read(self.keyboard, 65_536)
            except OSError:  # the other end is closed
                break
        return self.seen

    def shows(self, text: bytes) -> None:
        """Wait until it was written."""
        eventually(lambda: text in self.read(), timeout=30, what=text.decode())

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.keyboard, keys)

    def ended(self) -> int:
        """Wait for its end, and return the exit code."""
        eventually(lambda: (self.read(), self.process.poll() is not None)[1], timeout=15)
        self.read()
        return int(self.process.returncode)


@contextmanager
def on_terminal(*arguments: str, **settings: str) -> Iterator[Terminal]:
    """Run a command on a terminal for the length of a block."""
    terminal = Terminal(*arguments, **settings)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.keyboard)


ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_the_terminal_is_as_it_was_after_the_end(
    key: bytes, worker: Worker, folder: Path, valkey: ValkeyServer
) -> None:
    """Another screen, redrawn each second and at once in a new size; then q, or Ctrl-C, and exit 0."""
    worker()
    with on_terminal("top", "--dir", str(folder), REDIS_URL=valkey.url) as terminal:
        terminal.shows(b"queue     0 entries")
        assert terminal.seen.count(ENTER) == 1
        assert termios.tcgetattr(terminal.keyboard)[3] & termios.ECHO == 0
        terminal.seen = terminal.seen[:0]
        terminal.resize(24, 60)
        terminal.shows(b"w-0")
        terminal.press(b"\x1b[A")  # an arrow is no Escape
        terminal.shows(b"UTC")
        assert terminal.process.poll() is None
        terminal.press(key)
        assert terminal.ended() == 0
        assert terminal.seen.count(LEAVE) == 1
        assert b"Traceback" not in terminal.seen
        assert termios.tcgetattr(terminal.keyboard) == terminal.before


def test_it_can_be_put_aside_and_taken_up_again(
    worker: Worker, folder: Path, valkey: ValkeyServer
) -> None:
    """Ctrl-Z gives the terminal's own screen back; fg draws anew."""
    worker()
    with on_terminal("top", "--dir", str(folder), REDIS_URL=valkey.url) as terminal:
        terminal.shows(b"queue     0 entries")
        os.kill(terminal.process.pid, signal.SIGTSTP)
        terminal.shows(LEAVE)
        terminal.seen = terminal.seen[:0]
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.shows(ENTER)
        terminal.shows(b"queue     0 entries")
        terminal.press(b"q")
        assert terminal.ended() == 0


def test_a_terminal_that_can_do_nothing_gets_one_sample(
    worker: Worker, folder: Path, valkey: ValkeyServer
) -> None:
    """TERM=dumb: lines, and the end."""
    worker()
    arguments = ("top", "--interval", "0.1", "--dir", str(folder))
    with on_terminal(*arguments, REDIS_URL=valkey.url, TERM="dumb") as terminal:
        assert terminal.ended() == 0
        assert b"queue     0 entries" in terminal.seen
        assert b"\x1b" not in terminal.seen


def test_samples_as_lines_of_json_until_a_signal(
    worker: Worker, folder: Path, valkey: ValkeyServer
) -> None:
    """--json --interval: NDJSON, each line flushed; SIGINT in the middle is a clean end."""
    worker()
    process = start(
        *("top", "--json", "--interval", "0.2", "--dir", str(folder)), REDIS_URL=valkey.url
    )
    try:
        assert process.stdout is not None
        ats = [orjson.loads(process.stdout.readline())["at"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
    finally:
        done = ended(process)
    assert ats == sorted(ats)
    assert (done.code, done.err) == (0, "")
