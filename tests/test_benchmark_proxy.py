"""`make bench-proxy` works, and measures what it says: what a proxy loses by being recorded."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest

from benchmarks.proxied import traffic
from benchmarks.proxied.cli import main as benchmark
from benchmarks.proxied.connection import WrongAnswer
from benchmarks.proxied.floors import costs, verdicts
from benchmarks.proxied.load import load
from benchmarks.proxied.memory import Held
from benchmarks.proxied.others import undisturbed, watched
from benchmarks.proxied.recording import CONTESTANTS, LostRequests, recording
from benchmarks.proxied.turns import Latency, Turn, summed
from benchmarks.proxied.upstream import Upstream
from spoolway.producer import Producer
from spoolway.schema.caps import MIB
from tests.servers import ValkeyServer, eventually

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "benchmarks/proxy.py"]


@contextlib.asynccontextmanager
async def serving(protocol: type[Upstream] = Upstream) -> AsyncIterator[str]:
    """Serve a protocol on this loop; yields its URL."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(loop), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def turn(name: str, number: int, answered: int, p99: float) -> Turn:
    """One second of one contestant, both kinds of answers with the same slowest one."""
    latency = Latency(100, 1.0, p99, p99)
    return Turn(
        name,
        number,
        seconds=1.0,
        answered=answered,
        cpu_seconds=0.5,
        cpu_requests=100,
        latency={"whole": latency, "stream": latency},
    )


@pytest.mark.chaos
def test_a_quick_run_measures_every_contestant(private_folder: Path) -> None:
    """--quick loads every proxy, breaks every Redis, finds all requests, and writes every figure."""
    path = private_folder / "result.json"
    done = subprocess.run(
        [*COMMAND, "--quick", "--dir", private_folder, "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    result = json.loads(path.read_text())
    assert [one["contestant"] for one in result["turns"]] == [one.name for one in CONTESTANTS]
    assert [one for one in result["turns"] if one["throughput"] <= 0 or one["cpu_ms"] <= 0] == []
    assert [one for one in result["turns"] if one["latency"]["stream"]["p99"] <= 0] == []
    assert [one["contestant"] for one in result["costs"]] == [c.name for c in CONTESTANTS[1:]]
    assert result["memory"]["growth"] > 0
    assert all(f"| {one.title} |" in done.stdout for one in CONTESTANTS)
    assert f"JSON: {path}" in done.stdout
    assert result["floors"] == []
    assert list(private_folder.iterdir()) == [path]


@pytest.mark.chaos
def test_a_tiny_run_compares_two_proxies_and_leaves_nothing_behind(private_folder: Path) -> None:
    """The proxy that is recorded stands beside the one that is not; all requests were recorded."""
    path = private_folder / "result.json"
    done = subprocess.run(
        [*COMMAND, "--quick", "--contestant", "spoolway", "--dir", private_folder, "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    result = json.loads(path.read_text())
    assert [one["contestant"] for one in result["turns"]] == ["none", "spoolway"]
    assert [one["contestant"] for one in result["costs"]] == ["spoolway"]
    assert "| not recorded |" in done.stdout
    assert "| Spoolway |" in done.stdout
    assert list(private_folder.iterdir()) == [path]


@pytest.mark.chaos
def test_a_run_that_is_ended_stops_all_it_has_started(private_folder: Path) -> None:
    """SIGTERM in the middle of a load stops proxies, upstream, servers; the folder goes."""
    log = private_folder / "log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            [*COMMAND, "--contestant", "hung", "--dir", private_folder],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        process = psutil.Process(run.pid)
        # Guard, upstream, two proxies, Valkey, the load.
        eventually(lambda: len(process.children(recursive=True)) >= 6, timeout=30)
        started = process.children(recursive=True)
        run.send_signal(signal.SIGTERM)
        assert run.wait(40) == 128 + signal.SIGTERM, log.read_text()
    finally:
        run.kill()
        run.wait()

    eventually(lambda: not [child for child in started if child.is_running()], timeout=30)
    assert list(private_folder.iterdir()) == [log]


def test_streams_hold_no_more_memory_than_their_caps(valkey: ValkeyServer) -> None:
    """A hundred streams of 5 MB at once: what is kept of each, and not what has passed by."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.proxied.memory", "--redis-url", valkey.url),
            *("--streams", "100", "--megabytes", "5"),
        ],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        check=True,
    )
    held = msgspec.json.decode(done.stdout, type=Held)

    assert held.recorded == 100
    # Each really holds something, so that the bound proves something: all would be 500 MB.
    assert 10 * MIB < held.growth <= held.bound < 128 * MIB


async def test_the_load_generator_counts_and_times_both_kinds_of_answers() -> None:
    """At a fixed rate each request that is due in the time that counts is answered and timed."""
    async with serving() as url:
        loaded = await load(url, connections=8, seconds=0.5, rate=40, seed=1)

    assert sum(map(len, loaded.latencies_ms.values())) == 20
    assert loaded.in_all == 32
    assert min(loaded.latencies_ms["stream"]) > 80
    assert {kind for kind, found in loaded.latencies_ms.items() if found} == {"whole", "stream"}


async def test_the_load_generator_saturates_with_all_of_its_connections() -> None:
    """Without a rate each connection asks again as soon as it is answered."""
    async with serving() as url:
        loaded = await load(url, connections=4, seconds=0.5, rate=None, seed=1)

    assert 0 < loaded.answered < loaded.in_all


class _Stalling(Upstream):
    """Stands still once, for 300 ms, in the middle of the load."""

    stalled = False

    def data_received(self, data: bytes) -> None:
        if not _Stalling.stalled and time.monotonic() > _Stalling.at:
            _Stalling.stalled = True
            time.sleep(0.3)  # the fault itself: the only loop there is stands still
        super().data_received(data)

    at = 0.0


async def test_a_stall_makes_all_wait_that_were_due_in_it() -> None:
    """Latency counts from when a request was due, not from when it could be sent."""
    _Stalling.stalled, _Stalling.at = False, time.monotonic() + 0.8
    async with serving(_Stalling) as url:
        loaded = await load(url, connections=16, seconds=1.0, rate=60, seed=1)

    slow = [late for late in loaded.latencies_ms["whole"] if late > 50]
    assert _Stalling.stalled
    assert len(slow) >= 5
    assert max(slow) > 200


class _Wrong(Upstream):
    """Loses the last byte of an answer that is whole."""

    def _write(self, data: bytes) -> None:
        if data.endswith(b"}}"):
            size = len(traffic.whole_answer())
            data = data.replace(b"length: %d" % size, b"length: %d" % (size - 1))[:-1]
        super()._write(data)


async def test_an_answer_that_lost_a_byte_fails_the_run() -> None:
    """Figures of a proxy that does not pass everything on mean nothing."""
    async with serving(_Wrong) as url:
        with pytest.raises(WrongAnswer, match="bytes, expected"):
            await load(url, connections=2, seconds=0.5, rate=None, seed=1)


def test_a_request_that_is_not_recorded_fails_the_run(private_folder: Path) -> None:
    """What is on the stream is counted; a fault that has not fired fails the run as well."""
    healthy, broken = CONTESTANTS[1], CONTESTANTS[2]
    for contestant in (healthy, broken):
        folder = private_folder / contestant.name
        with recording(contestant, folder, None) as to:
            url = to.arguments[to.arguments.index("--redis-url") + 1]
            with Producer(url) as producer:
                producer.emit({"type": "request"})
            to.break_down()
            if contestant.fault is None:
                to.check(1)
            with pytest.raises(LostRequests, match=r"1 requests recorded|has not fired"):
                to.check(2)


def test_a_load_that_was_disturbed_is_repeated_and_the_least_disturbed_one_counts() -> None:
    """Who is chosen is decided by what others used, never by what came of it."""
    used = iter([0.5, 0.3, 0.4, 0.0])
    came = iter(["first", "second", "third", "fourth"])

    found = undisturbed(lambda: next(came), lambda: lambda: next(used))

    assert found == ("second", 0.3)
    assert undisturbed(lambda: next(came), lambda: lambda: next(used)) == ("fourth", 0.0)


def test_what_this_process_and_its_children_use_is_not_that_of_others() -> None:
    """Children that keep every processor busy are ours, also after their end."""
    processors = os.cpu_count() or 1
    code = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    others, begin = watched(), time.monotonic()
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processors)]
    for child in children:
        assert child.wait(60) == 0
    used, took = others(), time.monotonic() - begin

    # What is left of the processors, however busy others have been.
    assert used <= processors * (1 - 0.4 / took) + 0.2


def test_half_of_any_ten_requests_are_for_a_stream() -> None:
    """The mix is the same in every slice, however short; its order is from a seed."""
    kinds = traffic.kinds(7)
    for _ in range(20):
        assert sum(next(kinds) for _ in range(10)) == 5


def test_traffic_has_the_sizes_it_is_described_with() -> None:
    """Requests of 4 KB, answers of about 2 KB whole, about forty chunks in a stream."""
    for is_stream in (True, False):
        for request in traffic.requests(is_stream=is_stream, host="x"):
            body = request.partition(b"\r\n\r\n")[2]
            assert abs(len(body) / traffic.REQUEST_BYTES - 1) < 0.05
            assert traffic.asks_for_stream(body) == is_stream
    assert 1_900 < len(traffic.whole_answer()) < 2_200
    assert 40 <= len(traffic.stream_events()) <= 45


def test_costs_are_taken_within_each_round() -> None:
    """A machine that was slow in one round was slow for both."""
    turns = [
        turn("none", 1, 200, 10.0),
        turn("spoolway", 1, 190, 10.5),
        turn("none", 2, 100, 30.0),
        turn("spoolway", 2, 95, 30.5),
    ]
    [cost] = costs(turns)

    assert (cost.contestant, cost.throughput.lowest, cost.throughput.highest) == (
        "spoolway",
        0.95,
        0.95,
    )
    assert cost.p99_ms["whole"].median == 0.5


def test_a_floor_is_met_or_missed() -> None:
    """95 per cent of the answers, a millisecond at p99, the caps' memory; the ORM is not judged."""
    turns = [turn("none", 1, 100, 10.0), turn("spoolway", 1, 96, 11.5), turn("orm", 1, 50, 99.0)]
    held = Held(1, 10, 100, 0, 10**9, 1.0, 1.0, 1)

    found = verdicts(turns, held)

    assert [(one.what.split(",")[0], one.met) for one in found] == [
        ("throughput", True),
        ("p99", False),
        ("p99", False),
        ("memory", False),
    ]


def test_the_slowest_of_a_hundred_is_reported() -> None:
    """p50 and p99 are of all answers."""
    assert summed([float(number) for number in range(101)]) == Latency(101, 50.0, 99.0, 100.0)


def test_check_refuses_to_judge_a_quick_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--check with --quick is a mistake: exit code 2, and one line that says why."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        benchmark(["--quick", "--check"])

    assert ended.value.code == 2
    assert "--check needs more" in capsys.readouterr().err
