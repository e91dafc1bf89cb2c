"""`spoolway replay`: everything goes in once, whatever happens on the way, and nothing is lost."""

import asyncio
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.schema import DEFAULT_STREAM, new_id
from spoolway.spool import Chunk, Segment, SegmentFile, SpoolFolder, SpoolWriter
from spoolway.worker import replaying
from spoolway.worker.plan import Done, Halt, Left, Plan, Report, Skip
from spoolway.worker.replaying import Replaying
from tests.commands import (
    SPOOLWAY,
    Ended,
    contents,
    ended,
    environment,
    refusal,
    requests,
    run,
    segments,
    spool,
    start,
)
from tests.pushed import lines_of
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import (
    WorkerProcess,
    count,
    drained,
    ending,
    ids,
    push,
    request_line,
    rows,
    spooled,
    sqlite_in_chaos,
)

Replay = Callable[..., Ended]


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A SQLite database, where the kind does not matter."""
    return f"sqlite:///{tmp_path / 'logs.db'}"


def replay(folder: Path, database: str, *arguments: str, **settings: str) -> Ended:
    """Run `spoolway replay` on a folder and a database, in this process."""
    settings = {"SPOOLWAY_DIR": str(folder), "DATABASE_URL": database, **settings}
    return run("replay", *arguments, **settings)


def damage(path: Path, at: int = 40) -> None:
    """Flip a byte of a segment's first record."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def old_request() -> bytes:
    """Return a request of 800 days ago."""
    then = datetime.now(UTC) - timedelta(days=800)
    return request_line(id=new_id(lambda: int(then.timestamp() * 1e9)))


def dead_reasons(folder: Path) -> list[str]:
    """Return the reasons of the dead letters, in order."""
    files = sorted((folder / "dead").glob("*.jsonl"))
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    return [orjson.loads(line)["reason"] for line in lines]


def ids_of(lines: list[bytes]) -> list[str]:
    """Return the ids of events, sorted."""
    return sorted(orjson.loads(line)["id"] for line in lines)


# --- What it does -------------------------------------------------------------


def test_everything_goes_in_and_nothing_is_left(database: str, folder: Path) -> None:
    """The installed command on a fresh database: tables are made, rows come, segments go."""
    lines = spool(folder, requests(1_050), per_segment=500)

    done = ended(start("replay", SPOOLWAY_DIR=str(folder), DATABASE_URL=database))

    assert done.code == 0, done
    said, left = done.out.splitlines()
    assert said.startswith("replayed 1,050 events in ")
    assert said.endswith(" s: 1,050 inserted, 0 duplicate, 0 dead")
    assert left == "left: nothing"
    assert done.err == ""
    assert sorted(map(str, ids(database))) == ids_of(lines)
    assert segments(folder) == []


def test_json_is_one_value_with_every_count(folder: Path, sqlite: str) -> None:
    """What a program reads; `why` is empty where nothing is left."""
    spool(folder, requests(30), per_segment=10)

    done = replay(folder, sqlite, "--json")

    assert done.code == 0
    assert done.json.pop("seconds") >= 0
    found = done.json
    del found["seconds"]
    assert found == {
        "to": "database",
        "events": 30,
        "inserted": 30,
        "duplicate": 0,
        "sent": 0,
        "dead": 0,
        "segments": 3,
        "torn_bytes": 0,
        "left": {"events": 0, "segments": 0, "why": []},
    }


def test_an_empty_spool_asks_no_database(folder: Path) -> None:
    """Nothing to do is done, also while the database is away."""
    folder.mkdir()
    away = f"postgresql://me@127.0.0.1:{ReservedPort().number}/logs"
    done = replay(folder, away)
    assert (done.code, done.out) == (0, f"nothing to replay in {folder / 'spool'}\n")


def test_again_is_safe_and_says_duplicate(folder: Path, sqlite: str) -> None:
    """--keep leaves the segments; the second time every event is recognised."""
    spool(folder, requests(120))
    before = contents(folder / "spool")

    first = replay(folder, sqlite, "--keep")
    again = replay(folder, sqlite, "--keep", "--json").json

    assert first.code == 0
    assert "120 inserted, 0 duplicate, 0 dead, segments kept" in first.out
    assert (again["inserted"], again["duplicate"]) == (0, 120)
    assert again["left"]["events"] == 0
    assert contents(folder / "spool") == before
    assert count(sqlite) == 120


def test_what_cannot_become_a_row_is_a_dead_letter(folder: Path, sqlite: str) -> None:
    """A wrong checksum, an id of another age, no event: kept with a reason; the rest goes in."""
    spool(folder, [*requests(3), old_request(), b'"no event"'], per_segment=5)
    spool(folder, requests(5), per_segment=5)
    damage(segments(folder)[1])

    done = replay(folder, sqlite)

    assert done.code == 0
    assert "replayed 10 events" in done.out
    assert "7 inserted, 0 duplicate, 3 dead" in done.out
    assert "the dead: spoolway dead ls" in done.out
    assert sorted(dead_reasons(folder)) == ["damaged", "outside-window", "undecodable"]
    assert segments(folder) == []


def test_a_wider_window_is_heeded(folder: Path, sqlite: str) -> None:
    """The settings are the worker's."""
    spool(folder, [old_request()])
    done = replay(folder, sqlite, "--json", SPOOLWAY_ID_PAST_DAYS="1000")
    assert (done.json["inserted"], done.json["dead"]) == (1, 0)


def test_the_spool_of_a_killed_proxy(folder: Path, sqlite: str) -> None:
    """An open segment whose writer is gone is replayed; its torn end is cut off, and said."""
    alive = folder.with_name("alive")
    writer = SpoolWriter(alive / "spool")
    writer.append(requests(20))
    shutil.copytree(alive, folder)  # the copy has no lock: as if its process had been killed
    [path] = segments(folder)
    with path.open("ab") as file:
        file.write(b'{"crc":"00000000","event":{"ty')
    assert path.name.endswith(".open")

    done = replay(folder, sqlite)

    assert done.code == 0
    assert "20 inserted" in done.out
    assert "30 bytes of torn writes cut off" in done.out
    assert dead_reasons(folder) == []
    writer.close()


# --- How far, how fast --------------------------------------------------------


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param(1, marks=pytest.mark.chaos),
        pytest.param(100, marks=pytest.mark.chaos),
        101,
        pytest.param(299, marks=pytest.mark.chaos),
    ],
)
def test_a_limit_is_exact_and_the_next_run_goes_on_there(
    limit: int, folder: Path, sqlite: str
) -> None:
    """To the event, in the middle of a segment too, where one before it is damaged."""
    spool(folder, requests(300))
    damage(segments(folder)[0], at=60)

    first = replay(folder, sqlite, "--limit", str(limit), "--json")
    rest = replay(folder, sqlite, "--json")

    assert first.code == 1
    assert first.json["events"] == limit
    assert first.json["left"]["events"] == 300 - limit == rest.json["events"]
    assert "limit" in first.json["left"]["why"][0]["reason"]
    assert (rest.code, rest.json["duplicate"]) == (0, 0)
    assert (count(sqlite), dead_reasons(folder)) == (299, ["damaged"])


def test_a_limit_that_reaches_the_end_leaves_nothing(folder: Path, sqlite: str) -> None:
    """Exit 0: there is nothing else."""
    spool(folder, requests(200))
    done = replay(folder, sqlite, "--limit", "200")
    assert (done.code, segments(folder)) == (0, [])


def test_a_rate_is_kept(folder: Path, sqlite: str) -> None:
    """The second that 200 events take at 200 a second is waited before the next ones."""
    spool(folder, requests(300), per_segment=300)
    done = replay(folder, sqlite, "--rate", "200", "--json")
    assert done.json["inserted"] == 300
    assert done.json["seconds"] >= 1.0


# --- Without changing anything ------------------------------------------------


def test_a_dry_run_reads_only_and_needs_no_database(folder: Path) -> None:
    """It says what a replay would do; no file changes, and no database is asked."""
    spool(folder, requests(250))
    before = contents(folder)
    away = f"postgresql://me@127.0.0.1:{ReservedPort().number}/logs"

    done = replay(folder, away, "--dry-run")
    some = replay(folder, away, "--dry-run", "--limit", "120", "--json")

    assert done.code == 0
    assert done.out == "250 events in 3 segments would be replayed; nothing was changed\n"
    assert some.json == {
        "events": 120,
        "segments": 2,
        "dead": {},
        "torn_bytes": 0,
        "unreadable": {},
    }
    assert contents(folder) == before


def test_a_dry_run_names_what_would_become_dead_letters(folder: Path) -> None:
    """Exit 1, with the reasons; nothing is written."""
    spool(folder, [*requests(2), b"[]", b"{}"])
    damage(segments(folder)[0])
    before = contents(folder)

    done = replay(folder, "", "--dry-run")

    assert done.code == 1
    assert "would become dead letters: 2 undecodable\n" in done.out
    assert "would become dead letters: 1 damaged\n" in done.out
    assert contents(folder) == before


# --- Something is away --------------------------------------------------------


def test_a_database_that_is_away_is_one_line_and_nothing_is_removed(folder: Path) -> None:
    """Exit 1: what is left, where and why."""
    spool(folder, requests(250))
    before = contents(folder)
    port = ReservedPort().number

    done = replay(folder, f"postgresql://me:s3cret@127.0.0.1:{port}/logs")

    assert done.code == 1
    [line] = done.out.splitlines()
    assert line.startswith("left: 250 events in 3 segments: ")
    assert f"127.0.0.1:{port}" in line
    assert "s3cret" not in line + done.err
    assert contents(folder) == before


def test_a_database_that_cannot_be_used_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    """What does not mend itself is exit 2, in one line."""
    (tmp_path / "text").write_text("this is not a database file at all" * 100)
    spool(folder, requests(1))
    done = replay(folder, f"sqlite:///{tmp_path / 'text'}")
    assert "is not a SQLite database" in refusal(done)
    assert spooled(folder) == 1


def test_tables_are_not_touched_where_the_owner_said_so(folder: Path, sqlite: str) -> None:
    """DATABASE_AUTO_MIGRATE=false: the command that does it is named."""
    spool(folder, requests(1))
    done = replay(folder, sqlite, DATABASE_AUTO_MIGRATE="false")
    assert "spoolway db upgrade" in refusal(done)
    assert spooled(folder) == 1


def test_a_run_of_refusals_stops_and_keeps_everything(
    folder: Path, newest_postgres_url: str
) -> None:
    """A bad deploy makes no dead letters: exit 1, the reason, and what to look at."""
    assert run("db", "upgrade", DATABASE_URL=newest_postgres_url).code == 0
    rows(newest_postgres_url, "ALTER TABLE request_logs ADD CONSTRAINT nothing CHECK (false)")
    spool(folder, requests(300), per_segment=300)

    done = replay(folder, newest_postgres_url)

    assert done.code == 1
    assert "left: 300 events in 1 segment: the database refuses 100 of " in done.out
    assert spooled(folder) == 300
    assert dead_reasons(folder) == []

    rows(newest_postgres_url, "ALTER TABLE request_logs DROP CONSTRAINT nothing")
    assert replay(folder, newest_postgres_url, "--json").json["inserted"] == 300


class Failing:
    """A destination that takes so many chunks, and then raises."""

    def __init__(self, taken: int, error: Exception) -> None:
        self.taken = taken
        self.error = error
        self.lines: list[bytes] = []

    async def put(self, chunk: Chunk, segment: Path) -> Done:  # noqa: ARG002 - a destination is told the segment
        """Take it, or not."""
        if not self.taken:
            raise self.error
        self.taken -= 1
        self.lines += chunk.lines
        return Done(len(chunk.lines), inserted=len(chunk.lines))


def replayed_into(folder: Path, to: Any, **plan: Any) -> Report:
    """Run the command's engine with a destination of the test's own."""

    async def go() -> Report:
        steps = Plan(**{"batch_events": 10, "batch_bytes": 1 << 20, "lanes": 1, **plan})
        return await Replaying(SpoolFolder(folder / "spool"), to, steps, asyncio.Event()).run()

    return asyncio.run(go())


def test_what_was_replayed_before_the_database_went_away_does_not_come_again(
    folder: Path,
) -> None:
    """The segment is cut where it ended: counted once."""
    lines = spool(folder, requests(100))
    first, second = Failing(3, Halt("it went away")), Failing(100, Halt(""))

    report = replayed_into(folder, first)
    assert report.done.inserted == 30
    assert report.left == [Left("it went away", 1, 70)]

    assert replayed_into(folder, second).left == []
    assert first.lines + second.lines == lines


def test_a_segment_that_fails_does_not_hold_up_the_others(folder: Path) -> None:
    """Unless three in a row do: then it is not the segments."""
    spool(folder, requests(50), per_segment=10)

    class Picky(Failing):
        async def put(self, chunk: Chunk, segment: Path) -> Done:
            if segment == second:
                raise Skip("not this one")
            return await super().put(chunk, segment)

    second = segments(folder)[1]
    assert replayed_into(folder, Picky(9, Halt(""))).left == [Left("not this one", 1, 10)]
    assert segments(folder) == [second]

    spool(folder, requests(50), per_segment=10)
    none = Failing(0, Skip("no"))
    assert replayed_into(folder, none).left == [Left("no", 6, 60)]


def test_a_dead_letter_that_cannot_be_written_keeps_the_segment(folder: Path, sqlite: str) -> None:
    """A disk that fails for the letters: exit 1, and nothing is removed."""
    spool(folder, [b"no event"])
    (folder / "dead").write_text("in the way")
    done = replay(folder, sqlite)
    assert done.code == 1
    assert "left: 1 event in 1 segment: cannot be read, or a dead letter not be written" in done.out
    assert spooled(folder) == 1


def test_a_segment_that_cannot_be_removed_is_named(
    folder: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its events are rows; they come again as duplicates."""

    def fails(_segment: Segment) -> None:
        raise OSError(30, "Read-only file system")

    spool(folder, requests(10))
    with monkeypatch.context() as patched:
        patched.setattr(Segment, "remove", fails)
        done = replay(folder, sqlite)
    assert done.code == 1
    assert "10 inserted" in done.out
    assert "is replayed, but cannot be removed: Read-only file system" in done.out
    assert replay(folder, sqlite, "--json").json["duplicate"] == 10


# --- Beside others ------------------------------------------------------------


def test_a_segment_that_a_worker_writes_is_waited_for(folder: Path) -> None:
    """It is sealed when the database is back; then it is replayed, too."""
    lines = spool(folder, requests(10))
    writer = SpoolWriter(folder / "spool")
    writer.append(requests(5))
    taken = Failing(9, Halt(""))

    async def go() -> Report:
        return await Replaying(
            SpoolFolder(folder / "spool"),
            taken,
            Plan(10, 1 << 20),
            asyncio.Event(),
            waiting=lambda _segments: writer.seal(),
        ).run()

    report = asyncio.run(go())
    assert report.left == []
    assert taken.lines[:10] == lines
    assert len(taken.lines) == 15


def test_a_segment_that_stays_in_use_is_left_and_said(
    folder: Path, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while it says so, once on the way and at the end; exit 1."""
    monkeypatch.setattr(replaying, "LOCKED_WAIT", 0.3)
    spool(folder, requests(10))
    writer = SpoolWriter(folder / "spool")
    writer.append(requests(7))

    done = replay(folder, sqlite)

    assert done.code == 1
    assert done.err == "spoolway: waiting up to 15 s for 1 segment in use by others\n"
    assert "10 inserted" in done.out
    assert "left: 7 events in 1 segment: in use: another replay has it, or a worker" in done.out
    writer.close()
    assert replay(folder, sqlite, "--json").json["inserted"] == 7


@sqlite_in_chaos
def test_two_replays_at_once_share_the_work(database: str, folder: Path) -> None:
    """No event is written twice, and their sums are exact."""
    lines = spool(folder, requests(2_000), per_segment=50)
    settings = {"SPOOLWAY_DIR": str(folder), "DATABASE_URL": database}
    assert run("db", "upgrade", DATABASE_URL=database).code == 0

    both = [start("replay", "--json", **settings) for _ in range(2)]
    done = [ended(process) for process in both]

    assert [one.code for one in done] == [0, 0], done
    assert sum(one.json["inserted"] for one in done) == 2_000
    assert sum(one.json["duplicate"] for one in done) == 0
    assert sorted(map(str, ids(database))) == ids_of(lines)


@pytest.mark.chaos
def test_beside_a_worker_and_a_live_writer(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A worker drains the stream while somebody spools and the command replays: each event once."""
    lines = requests(600)
    push(valkey, lines[:300])
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder)
    writer = SpoolWriter(folder / "spool")
    with ending(worker):
        worker.started()
        spool(folder, lines[300:500], per_segment=10)
        process = start(
            "replay", "--json", SPOOLWAY_DIR=str(folder), DATABASE_URL=newest_postgres_url
        )
        for line in lines[500:]:
            writer.append([line])
        writer.close()
        done = ended(process)
        assert done.code in (0, 1), done
        eventually(lambda: spooled(folder) == 0, timeout=30)
        drained(valkey, worker)
        assert worker.terminate() == 0
    assert sorted(map(str, ids(newest_postgres_url))) == ids_of(lines)
    assert done.json["duplicate"] == 0


# --- Stopped in the middle ----------------------------------------------------


def replaying_slowly(folder: Path, database: str) -> "subprocess.Popen[str]":
    """Start a replay that takes a while, and return when it is in the middle."""
    # 100 events a chunk, one chunk a second.
    process = start(
        "replay", "--json", "--rate", "100", SPOOLWAY_DIR=str(folder), DATABASE_URL=database
    )
    eventually(lambda: count(database) > 0, timeout=30, every=0.05, ignoring=(Exception,))
    return process


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_stop_finishes_the_step_in_hand_and_the_next_run_goes_on(
    signum: signal.Signals, code: int, folder: Path, sqlite: str
) -> None:
    """What is done and what is left is printed; nothing is counted twice."""
    lines = spool(folder, requests(1_000), per_segment=1_000)
    process = replaying_slowly(folder, sqlite)
    process.send_signal(signum)
    first = ended(process)
    rest = replay(folder, sqlite, "--json")

    assert first.code == code, first
    assert 0 < first.json["inserted"] < 1_000
    assert first.json["left"]["events"] == 1_000 - first.json["inserted"]
    assert first.json["left"]["why"][0]["reason"].startswith("interrupted")
    assert rest.code == 0
    assert first.json["inserted"] + rest.json["inserted"] == 1_000
    assert first.json["duplicate"] + rest.json["duplicate"] == 0
    assert sorted(map(str, ids(sqlite))) == ids_of(lines)


@pytest.mark.parametrize("taken", range(1, 7))
def test_a_stop_cuts_every_segment_that_is_begun(taken: int, folder: Path) -> None:
    """Two at once, each where it is: what is left comes in order, and nothing comes twice."""
    lines = spool(folder, requests(80), per_segment=40)
    stop = asyncio.Event()

    class Stopping(Failing):
        async def put(self, chunk: Chunk, segment: Path) -> Done:
            await asyncio.sleep(0)
            if len(self.lines) >= 10 * (taken - 1):
                stop.set()
            return await super().put(chunk, segment)

    first, second = Stopping(99, Halt("")), Failing(99, Halt(""))

    async def go() -> Report:
        steps = Plan(batch_events=10, batch_bytes=1 << 20)
        return await Replaying(SpoolFolder(folder / "spool"), first, steps, stop).run()

    report = asyncio.run(go())
    left = 80 - report.done.inserted
    assert sum(one.events for one in report.left) == left > 0
    replayed_into(folder, second)
    assert len(second.lines) == left
    assert sorted(first.lines + second.lines) == sorted(lines)


def test_a_kill_loses_nothing(folder: Path, sqlite: str) -> None:
    """SIGKILL in the middle: what was in comes again, and is a duplicate."""
    lines = spool(folder, requests(1_000), per_segment=1_000)
    process = replaying_slowly(folder, sqlite)
    process.kill()
    ended_by_kill = process.wait()
    process.communicate()
    before = count(sqlite)
    rest = replay(folder, sqlite, "--json")

    assert ended_by_kill == -signal.SIGKILL
    assert 0 < before < 1_000
    assert (rest.code, rest.json["duplicate"], rest.json["inserted"]) == (0, before, 1_000 - before)
    assert sorted(map(str, ids(sqlite))) == ids_of(lines)


@pytest.mark.chaos
def test_a_second_signal_cuts_it_off(folder: Path, private_postgres: PostgresServer) -> None:
    """A database that hangs is not waited for: exit 130 at once, nothing is removed."""
    database = private_postgres.create_database("logs")
    assert run("db", "upgrade", DATABASE_URL=database).code == 0
    lines = spool(folder, requests(1_000), per_segment=1_000)
    process = replaying_slowly(folder, database)
    began = time.monotonic()
    private_postgres.suspend()
    try:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        done = ended(process, timeout=9)
    finally:
        private_postgres.resume()
    assert done.code in (130, 143)
    assert time.monotonic() - began < 9
    assert replay(folder, database, "--json").code == 0
    assert sorted(map(str, ids(database))) == ids_of(lines)


# --- Back to the stream -------------------------------------------------------


def on_stream(server: ValkeyServer) -> list[bytes]:
    """Return every event on the stream."""
    with server.client() as client:
        entries: Any = client.xrange(DEFAULT_STREAM)
    return [line for _id, fields in entries for line in lines_of(fields)]


def test_to_the_stream_in_frames(folder: Path, valkey: ValkeyServer) -> None:
    """As a producer would have pushed them; what is damaged is a dead letter and not pushed."""
    lines = spool(folder, requests(250), per_segment=250)
    damage(segments(folder)[0])

    done = run("replay", "--to", "stream", SPOOLWAY_DIR=str(folder), REDIS_URL=valkey.url)

    assert done.code == 0
    assert "replayed 250 events" in done.out
    assert "249 sent to the stream, 1 dead" in done.out
    assert on_stream(valkey) == lines[1:]
    with valkey.client() as client:
        assert client.xlen(DEFAULT_STREAM) == 3
    assert dead_reasons(folder) == ["damaged"]
    assert segments(folder) == []


def test_a_full_redis_is_said_and_every_segment_stays(
    folder: Path, start_valkey: Callable[..., ValkeyServer]
) -> None:
    """OOM: what to do instead; exit 1."""
    server = start_valkey()
    with server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
    spool(folder, requests(10))
    done = run("replay", "--to", "stream", SPOOLWAY_DIR=str(folder), REDIS_URL=server.url)
    assert done.code == 1
    assert "is full" in done.out
    assert "--to database" in done.out
    assert spooled(folder) == 10


def test_a_redis_that_is_away_is_said(folder: Path) -> None:
    """Exit 1, one line, and nothing is removed."""
    spool(folder, requests(10))
    url = f"redis://:s3cret@127.0.0.1:{ReservedPort().number}"
    done = run("replay", "--to", "stream", "--redis-url", url, SPOOLWAY_DIR=str(folder))
    assert done.code == 1
    [line] = done.out.splitlines()
    assert line.startswith("left: 10 events in 1 segment: Redis at redis://:***@127.0.0.1:")
    assert "REDIS_URL is right" in line
    assert spooled(folder) == 10


# --- Wrong use, and a terminal ------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "0"], "--limit"),
        (["--rate", "0"], "--rate"),
        (["--to", "nowhere"], "--to"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(
    arguments: list[str], said: str, folder: Path, sqlite: str
) -> None:
    """Exit 2."""
    folder.mkdir()
    done = replay(folder, sqlite, *arguments)
    assert done.code == 2
    assert said in done.err


def test_a_dry_run_takes_no_option_that_changes_something(folder: Path, sqlite: str) -> None:
    """Exit 2, and which to leave out."""
    folder.mkdir()
    assert "--keep" in refusal(replay(folder, sqlite, "--dry-run", "--keep"))


def test_a_folder_that_is_not_there_is_no_empty_spool(folder: Path, sqlite: str) -> None:
    """A misspelt --dir must not look as if all were done."""
    assert str(folder) in refusal(replay(folder, sqlite))


def test_a_spool_that_is_no_folder_is_said(folder: Path, sqlite: str) -> None:
    """Exit 2 with what is wrong."""
    folder.mkdir()
    (folder / "spool").write_text("in the way")
    for options in ([], ["--dry-run"]):
        assert "cannot be read: Not a directory" in refusal(replay(folder, sqlite, *options))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write what others cannot use")
def test_root_does_not_replay_the_folder_of_somebody_else(folder: Path, sqlite: str) -> None:
    """What root would write there, its worker could not append to or replay."""
    spool(folder, requests(1))
    os.chown(folder / "spool", 12345, 12345)
    assert "sudo -u '#12345'" in refusal(replay(folder, sqlite))
    assert replay(folder, sqlite, "--dry-run").code == 0


def test_a_terminal_sees_rate_and_time_left(folder: Path, sqlite: str) -> None:
    """On stderr, and only there: stdout is the result."""
    spool(folder, requests(300))
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.append(data)
        except OSError:
            pass  # EIO: the other side is closed

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [SPOOLWAY, "replay", "--rate", "200"],
        env=environment(SPOOLWAY_DIR=str(folder), DATABASE_URL=sqlite, TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        timeout=60,
        check=True,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    shown = b"".join(seen).decode()
    assert "/300 events" in shown
    assert "events/s" in shown
    assert "\x1b" not in done.stdout.decode()


def test_counting_needs_no_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first event is replayed no segment is read to be counted: names hold the counts."""
    spool(folder, requests(20), per_segment=10)

    def counted(_file: SegmentFile) -> int:
        raise AssertionError("counted by reading")

    class First(Failing):
        async def put(self, chunk: Chunk, segment: Path) -> Done:
            monkeypatch.undo()
            return await super().put(chunk, segment)

    monkeypatch.setattr(SegmentFile, "count_events", counted)
    assert replayed_into(folder, First(9, Halt(""))).done.inserted == 20
