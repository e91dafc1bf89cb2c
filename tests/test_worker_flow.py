"""From the stream to rows, with real processes: counts, kills, takeovers, dead letters."""

import time
from pathlib import Path
from uuid import UUID

import pytest

from spoolway.schema import DEFAULT_STREAM, decode_line, encode_line, new_id
from tests.servers import ValkeyServer, eventually
from tests.workers import (
    GROUP,
    WorkerProcess,
    count,
    drained,
    ending,
    ids,
    pending,
    push,
    request_line,
    rows,
    sqlite_in_chaos,
    waiting,
)


def ids_of(lines: list[bytes]) -> set[UUID]:
    """The ids in JSON lines."""
    return {decode_line(line).id for line in lines}


@sqlite_in_chaos
def test_events_become_rows_and_the_stream_is_empty_afterwards(
    database: str, redis_server: ValkeyServer, folder: Path
) -> None:
    """What is on the stream, Valkey's or Redis's, is committed once, acknowledged and deleted."""
    valkey = redis_server
    lines = [request_line(model_name="gpt-4o", body={"n": n}) for n in range(1_000)]
    push(valkey, lines)
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        drained(valkey, worker)
        assert worker.terminate() == 0
    assert sorted(ids_of(lines)) == sorted(ids(database))
    assert pending(valkey) == 0


@pytest.mark.parametrize(
    "way", ["password", "unix socket", pytest.param("TLS", marks=pytest.mark.chaos)]
)
def test_redis_is_reached_as_its_url_says(
    way: str, newest_postgres_url: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    """A password with special characters, a unix socket, TLS: the drain loop and arq take both."""
    if way == "TLS":
        server = request.getfixturevalue("tls_server")
    else:
        options = {"password": "p@ss:w/rd%1"} if way == "password" else {"unix_socket": True}
        server = request.getfixturevalue("start_valkey")(**options)
    push(server, [request_line() for _ in range(10)])
    worker = WorkerProcess(newest_postgres_url, server.url, folder)
    with ending(worker):
        worker.started()
        drained(server, worker)
        with server.client() as client:
            eventually(lambda: client.get("spoolway:jobs:health"), what="arq's health key")
        assert worker.terminate() == 0
        assert "p@ss" not in worker.output()
    assert count(newest_postgres_url) == 10


@sqlite_in_chaos
def test_smallest_legal_producer_is_one_xadd(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Any language can push: one XADD with one JSON line is a row."""
    event_id = new_id()
    with valkey.client() as client:
        client.xadd(
            DEFAULT_STREAM,
            {
                "v": "1",
                "codec": "json",
                "n": "1",
                "data": f'{{"type":"request","id":"{event_id}"}}',
            },
        )
    worker = WorkerProcess(database, valkey.url, folder).anew()
    with ending(worker):
        worker.started()
        drained(valkey, worker)
    assert ids(database) == [event_id]


@sqlite_in_chaos
def test_worker_killed_in_the_middle_of_50_000_events_leaves_exactly_50_000_rows(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """SIGKILL between any two steps loses nothing and doubles nothing."""
    lines = [request_line(body={"n": n, "text": "lorem ipsum " * 8}) for n in range(50_000)]
    push(valkey, lines)
    first = WorkerProcess(database, valkey.url, folder)
    second = WorkerProcess(database, valkey.url, folder)
    with ending(first, second):
        first.start()
        eventually(lambda: waiting(valkey) < 400, timeout=60, every=0.001, what="part of the work")
        first.kill()
        left = waiting(valkey)
        assert 0 < left < 500, "the kill came in the middle"
        second.started()
        drained(valkey, second)
        assert second.terminate() == 0
    assert count(database) == 50_000
    assert ids_of(lines) == set(ids(database))


@sqlite_in_chaos
def test_successor_on_the_same_folder_takes_over_what_was_pending_at_once(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A worker that was killed has a successor with its name, which reads its entries first."""
    lines = [request_line() for _ in range(300)]
    push(valkey, lines)
    first = WorkerProcess(database, valkey.url, folder)
    second = WorkerProcess(database, valkey.url, folder)
    with ending(first, second):
        name = (first.started().status() or {})["consumer"]
        drained(valkey, first)
        first.kill()
        push(valkey, [request_line() for _ in range(100)])
        with valkey.client() as client:  # delivered to the dead worker, and never acknowledged
            delivered = client.xreadgroup(GROUP, name, {DEFAULT_STREAM: ">"}, count=10)
            assert delivered
        began = time.monotonic()
        second.started()
        drained(valkey, second)
        assert time.monotonic() - began < 10
        assert (second.status() or {})["consumer"] == name
    assert count(database) == 400


@sqlite_in_chaos
def test_entries_of_a_worker_that_went_away_are_claimed(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """What a consumer of another name has not touched for CLAIM_IDLE_MS is taken over."""
    push(valkey, [request_line() for _ in range(100)])
    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        ((_, entries),) = client.xreadgroup(GROUP, "gone", {DEFAULT_STREAM: ">"})
        entry_ids = [entry_id for entry_id, _ in entries]
        # Valkey lets us say how long ago that was.
        client.xclaim(DEFAULT_STREAM, GROUP, "gone", 0, entry_ids, idle=60_000)
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        drained(valkey, worker)
        eventually(lambda: (worker.status() or {})["entries_claimed"] == 1)
    assert count(database) == 100


@pytest.mark.chaos
def test_sigterm_under_load_is_clean(database: str, valkey: ValkeyServer, folder: Path) -> None:
    """SIGTERM in the middle of the work: exit 0 within 10 s, and what was committed was acked."""
    lines = [request_line(body={"n": n}) for n in range(30_000)]
    push(valkey, lines)
    worker = WorkerProcess(database, valkey.url, folder)
    successor = WorkerProcess(database, valkey.url, folder)
    with ending(worker, successor):
        worker.start()
        eventually(lambda: waiting(valkey) < 250, timeout=60, every=0.001)
        assert worker.terminate(timeout=10) == 0
        assert pending(valkey) == 0, "what was in flight was finished"
        assert waiting(valkey) > 0, "it stopped in the middle"
        assert count(database) + 100 * waiting(valkey) == 30_000
        successor.started()
        drained(valkey, successor)
        assert (successor.status() or {})["duplicate"] == 0
    assert set(ids(database)) == ids_of(lines)


@sqlite_in_chaos
def test_undecodable_input_becomes_dead_letters_and_the_rest_goes_on(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Bad frames and bad lines are kept with raw bytes and reason; every good event lands."""
    good = [request_line() for _ in range(10)]
    bad_id = b'{"type":"request","id":"9b2e7d1c-8f0a-4c3e-9d55-0a1b2c3d4e5f"}'
    push(valkey, [*good[:5], bad_id, b"{not json", *good[5:]])
    with valkey.client() as client:
        client.xadd(DEFAULT_STREAM, {"v": "9", "codec": "json", "n": "1", "data": "{}"})
        client.xadd(DEFAULT_STREAM, {"v": "1", "codec": "zstd", "n": "1", "data": b"\xff\xfe"})
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        drained(valkey, worker)
        eventually(lambda: (worker.status() or {})["dead"] == 4)
    assert set(ids(database)) == ids_of(good)
    letters = [
        line for file in (folder / "dead").glob("*") for line in file.read_text().splitlines()
    ]
    reasons = sorted(letter.split('"reason":"')[1].split('"')[0] for letter in letters)
    assert reasons == ["bad-frame", "bad-frame", "not-uuid7", "undecodable"]
    assert any("9b2e7d1c-8f0a-4c3e-9d55-0a1b2c3d4e5f" in letter for letter in letters)


@pytest.mark.chaos
def test_two_workers_share_one_stream(database: str, valkey: ValkeyServer, folder: Path) -> None:
    """Workers on one folder get names of their own, and no event is written twice."""
    workers = [WorkerProcess(database, valkey.url, folder) for _ in range(2)]
    with ending(*workers):
        for worker in workers:
            worker.started()
        names = {(worker.status() or {})["consumer"] for worker in workers}
        assert len(names) == 2
        lines = [request_line() for _ in range(20_000)]
        push(valkey, lines)
        drained(valkey, workers[0])
        eventually(lambda: sum((worker.status() or {})["inserted"] for worker in workers) == 20_000)
        assert [worker.terminate() for worker in workers] == [0, 0]
    assert set(ids(database)) == ids_of(lines)


@sqlite_in_chaos
def test_errors_are_linked_whichever_comes_first(
    database: str, valkey: ValkeyServer, folder: Path
) -> None:
    """An error never waits for its request, and is linked to it when both are there."""
    request_ids = [new_id() for _ in range(3)]
    errors = [
        encode_line({"type": "error", "id": new_id(), "request_id": one, "error_type": "Timeout"})
        for one in request_ids
    ]
    requests = [encode_line({"type": "request", "id": one}) for one in request_ids]
    worker = WorkerProcess(database, valkey.url, folder)
    with ending(worker):
        worker.started()
        for lines in (
            [errors[0]],
            [requests[0], requests[1], errors[1]],
            [requests[2]],
            [errors[2]],
        ):
            push(valkey, lines)
            drained(valkey, worker)
    linked = rows(database, "SELECT request_id, request_log_id FROM error_logs")
    assert {str(request) for request, _ in linked} == {str(one) for one in request_ids}
    assert all(str(request) == str(log) for request, log in linked)
