"""What a worker does with a spool: its own, a dead one's, a proxy's, a damaged one."""

import shutil
import subprocess
from pathlib import Path

import orjson
import pytest

from spoolway.schema import new_id
from spoolway.spool import SpoolFolder, SpoolWriter
from tests.servers import PostgresServer, ValkeyServer, eventually
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


def spool(folder: Path, lines: list[bytes], *, per_append: int = 1_000) -> None:
    """Write a spool as a worker does, and leave it sealed."""
    writer = SpoolWriter(folder / "spool")
    for start in range(0, len(lines), per_append):
        writer.append(lines[start : start + per_append])
    writer.close()


def dead(folder: Path) -> list[dict[str, object]]:
    """All dead letters of a state folder."""
    files = sorted((folder / "dead").glob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


@sqlite_in_chaos
def test_a_worker_replays_the_spool_it_finds(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A proxy's, or a killed worker's: each event is a row once, also what was stored before."""
    lines = [request_line(path=f"/{n}") for n in range(3_000)]
    spool(folder, lines)
    spool(folder, lines[:500])
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        eventually(lambda: spooled(folder) == 0, timeout=30)
        eventually(lambda: (worker.status() or {})["replayed"] == 3_500)
        status = worker.status() or {}
        assert (status["replay_inserted"], status["replay_duplicate"]) == (3_000, 500)
        assert worker.terminate() == 0
    assert count(database) == 3_000


def test_an_open_segment_of_a_killed_writer_is_replayed_and_its_torn_tail_is_cut(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Half a line at the end is a write that nobody was told had succeeded."""
    lines = [request_line() for _ in range(100)]
    writer = SpoolWriter(folder / "spool")
    writer.append(lines)
    writer.forget()
    [segment] = SpoolFolder(folder / "spool").segments()
    with segment.path.open("ab") as file:
        file.write(b'{"crc":"00000000","event":{"type":"requ')
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        eventually(lambda: not segment.path.exists(), timeout=30)
        assert worker.terminate() == 0
    assert count(database) == 100
    assert dead(folder) == []


@sqlite_in_chaos
def test_what_cannot_come_back_is_a_dead_letter_and_the_rest_comes_back(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A wrong checksum, another content for an id, no event at all: each with its reason."""
    lines = [request_line(path="/good") for _ in range(10)]
    known = new_id()
    first, second = (request_line(id=known, path=path) for path in ("/first", "/second"))
    spool(folder, [*lines, first])
    spool(folder, [second, b'{"no":"event"}'])
    damaged = request_line(path="/damaged")
    spool(folder, [damaged])
    last = SpoolFolder(folder / "spool").segments()[-1].path
    last.write_bytes(last.read_bytes().replace(b"/damaged", b"/damagee"))
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        eventually(lambda: not SpoolFolder(folder / "spool").segments(), timeout=30)
        eventually(lambda: (worker.status() or {})["replay_dead"] == 3)
        assert worker.terminate() == 0

    stored = {row[0] for row in rows(database, "SELECT path FROM request_logs")}
    assert "/good" in stored
    assert count(database) == 11
    letters = {str(letter["reason"]): letter for letter in dead(folder)}
    assert set(letters) == {"damaged", "conflict", "undecodable"}
    assert "/damagee" in str(letters["damaged"]["raw"])
    assert last.name in str(letters["damaged"]["message"])


def test_live_events_do_not_wait_for_a_large_spool(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Replay goes on beside live traffic: what is pushed now is a row before the spool is empty."""
    text = {"text": "x" * 3_000}
    spool(folder, [request_line(path="/old", body=text) for _ in range(40_000)])
    live = [request_line(path="/live", body=text) for _ in range(2_000)]
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder)
    with ending(worker):
        worker.started()
        eventually(lambda: spooled(folder) < 40_000, timeout=30)
        push(valkey, live)
        drained(valkey, worker)
        left = spooled(folder)
        assert left > 0, "the spool was empty before the live events came"
        eventually(lambda: spooled(folder) == 0, timeout=60)
        assert worker.terminate() == 0
    assert count(newest_postgres_url) == 42_000


@pytest.mark.chaos
def test_a_worker_that_stops_in_the_middle_of_a_replay_loses_and_doubles_nothing(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """SIGTERM: exit 0; the segment in hand stays, and is recognised when it is replayed again."""
    lines = [request_line(body={"text": "x" * 2_000}) for _ in range(20_000)]
    spool(folder, lines)
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        eventually(lambda: spooled(folder) < 20_000, timeout=30)
        assert worker.terminate() == 0
        assert spooled(folder) > 0, "the replay was over before the stop"
        worker.started()
        eventually(lambda: spooled(folder) == 0, timeout=60)
        assert worker.terminate() == 0
    found = ids(database)
    assert len(found) == len(set(found)) == 20_000


def test_what_another_language_sent_is_spooled_as_json(
    private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """NaN and half a character are no JSON: what was made of them is spooled, and jq reads it."""
    database = private_postgres.create_database("logs")
    known = new_id()
    line = b'{"type":"request","id":"%b","body":{"n":NaN,"s":"\xff"}}' % str(known).encode()
    worker = WorkerProcess(database, valkey.url, folder, SPOOLWAY_WRITE_TIMEOUT="2")
    with ending(worker):
        worker.started()
        private_postgres.kill()
        push(valkey, [line, request_line()])
        drained(valkey, worker, timeout=20)
        [segment] = SpoolFolder(folder / "spool").segments()
        records = [orjson.loads(text) for text in segment.path.read_bytes().splitlines()]
        assert records[0]["event"]["body"] == {"n": None, "s": "\ufffd"}
        if jq := shutil.which("jq"):
            done = subprocess.run(
                [jq, "-c", ".event.id", segment.path], capture_output=True, check=True
            )
            assert str(known) in done.stdout.decode()
        private_postgres.start()
        eventually(lambda: spooled(folder) == 0, timeout=30)
        assert worker.terminate() == 0
    [[body]] = rows(database, f"SELECT body FROM request_logs WHERE id = '{known}'")
    assert body == {"n": None, "s": "\ufffd"}


@pytest.mark.parametrize("when", ["spool", pytest.param("stream", marks=pytest.mark.chaos)])
def test_the_counts_of_a_worker_add_up(
    when: str, private_postgres: PostgresServer, valkey: ValkeyServer, folder: Path
) -> None:
    """Read = inserted + duplicate + dead + spooled + given back + in flight, to the unit."""
    database = private_postgres.create_database("logs")
    lines = [request_line() for _ in range(400)]
    worker = WorkerProcess(database, valkey.url, folder, SPOOLWAY_WRITE_TIMEOUT="2")
    with ending(worker):
        worker.started()
        if when == "spool":
            private_postgres.kill()
        push(valkey, [*lines, *lines[:100], b"no event"])
        drained(valkey, worker, timeout=20)
        if when == "spool":
            private_postgres.start()
            eventually(lambda: spooled(folder) == 0, timeout=30)
        eventually(lambda: (worker.status() or {})["read"] == 501)
        eventually(lambda: when == "stream" or (worker.status() or {})["replayed"] == 500)
        status = worker.status() or {}
        assert worker.terminate() == 0
    names = ("inserted", "duplicate", "dead", "spooled", "given_back", "in_flight")
    counted = [status[name] for name in names]
    replayed = [status[f"replay_{name}"] for name in names[:3]]
    if when == "stream":
        assert (counted, replayed) == ([400, 100, 1, 0, 0, 0], [0, 0, 0])
    else:
        assert (counted, replayed) == ([0, 0, 1, 500, 0, 0], [400, 100, 0])
