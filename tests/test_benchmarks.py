"""`make bench` works: every contestant does its work, and the result can be read."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.backlog import Backlog
from benchmarks.contestants import CONTESTANTS
from benchmarks.emit import Emitted
from benchmarks.events import KIB, raw_headers
from benchmarks.floors import MIB, ratios, verdicts
from benchmarks.opening import Opened
from benchmarks.rounds import Run
from benchmarks.workload import Workload
from spoolway.schema import decode_frame, decode_line
from tests.servers import eventually

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "benchmarks/ingest.py"]


@pytest.mark.chaos
def test_a_quick_run_measures_every_contestant(private_folder: Path) -> None:
    """--quick starts the real servers and workers, checks all rows, and writes every figure."""
    path = private_folder / "result.json"
    done = subprocess.run(
        [*COMMAND, "--quick", "--dir", private_folder, "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    result = json.loads(path.read_text())
    measured = {(run["contestant"], run["kilobytes"]) for run in result["runs"]}
    assert measured == {(one.name, 4) for one in CONTESTANTS}
    assert [run for run in result["runs"] if run["rate"] <= 0 or run["events"] <= 0] == []
    assert result["emit"][0]["median_us"] > 0
    assert result["backlog"]["worker_peak_rss"] > 0
    assert result["opening"]["cached_seconds"] > 0
    assert all(one.title in done.stdout for one in CONTESTANTS)
    assert f"JSON: {path}" in done.stdout
    assert result["floors"] == []
    assert list(private_folder.iterdir()) == [path]


@pytest.mark.chaos
def test_a_run_that_is_ended_leaves_nothing_behind(private_folder: Path) -> None:
    """SIGTERM in the middle of a measurement stops servers and workers, and removes the folder."""
    log = private_folder / "log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            [*COMMAND, "--only", "spoolway", "--dir", private_folder, "--seconds", "30"],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        eventually(lambda: "warm-up" in log.read_text(), timeout=30)
        started = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(signal.SIGTERM)
        assert run.wait(30) == 128 + signal.SIGTERM, log.read_text()
    finally:
        run.kill()
        run.wait()

    assert started
    eventually(lambda: not [child for child in started if child.is_running()], timeout=30)
    assert list(private_folder.iterdir()) == [log]


@pytest.mark.parametrize("kilobytes", [1, 4])
def test_events_have_the_size_they_are_named_after(kilobytes: int) -> None:
    """Each event is within a twentieth of its size; frames and rows hold the same events."""
    load = Workload(kilobytes)
    lines = load.lines(300)
    unpacked = [
        line
        for frame in load.frames(300)
        for line in decode_frame({key.encode(): _bytes(value) for key, value in frame.items()})
    ]

    assert [line for line in lines if abs(len(line) / (kilobytes * KIB) - 1) > 0.05] == []
    assert lines == unpacked
    assert [row[0] for row in load.copy_rows(300)] == [decode_line(line).id for line in lines]
    assert load.rows(300).tokens == sum(event["total_tokens"] for event in load.events(300))


def test_an_event_for_emit_has_a_secret_in_its_headers() -> None:
    """What emit() is measured with is what a proxy has: eight headers, one of them a key."""
    headers = raw_headers(Workload(4).events(1)[0])["headers"]

    assert len(headers) == 8
    assert headers["authorization"].startswith("Bearer sk-")


def test_ratios_are_taken_within_each_round() -> None:
    """A machine that was slow in one round was slow for both: the ratio stays."""
    runs = [
        Run("copy", 4, 1, 1_000, 1.0),
        Run("spoolway", 4, 1, 1_000, 2.0),
        Run("copy", 4, 2, 1_000, 10.0),
        Run("spoolway", 4, 2, 1_000, 20.0),
    ]
    [ratio] = ratios(runs)

    assert (ratio.of, ratio.to, ratio.kilobytes) == ("spoolway", "copy", 4)
    assert (ratio.median, ratio.lowest, ratio.highest) == (0.5, 0.5, 0.5)


def test_a_floor_is_met_or_missed() -> None:
    """Below its floor a ratio falls short; so does what is above its bound."""
    runs = [Run("copy", 4, 1, 100, 1.0), Run("spoolway", 4, 1, 100, 1.25)]
    emitted = [Emitted(events=1, median_us=31.0, p99_us=50.0, orjson_median_us=1.0)]
    backlog = Backlog(1, 4_096, 2_000, worker_peak_rss=199 * MIB, seconds=1.0)
    opened = Opened(1_000_000, 250, 10**9, cached_seconds=0.1, cold_seconds=1.1)

    found = verdicts(runs, emitted, backlog, opened)

    assert [(one.what.split(",")[0], one.met) for one in found] == [
        ("spoolway ÷ copy", True),
        ("emit()", False),
        ("worker RSS", True),
        ("opening a spool of 1", False),
    ]


@pytest.mark.parametrize(
    ("append", "spool", "met"),
    [(100_000, 20_000, True), (30_000, 15_000, True), (100_000, 19_000, False)],
    ids=["fast enough", "as fast as the disk lets it be", "slow on a fast disk"],
)
def test_the_spool_is_judged_by_the_lesser_bound(append: int, spool: int, met: bool) -> None:
    """20,000 events a second, or half of what the disk takes where that is less."""
    runs = [Run("append", 4, 1, append, 1.0), Run("spool", 4, 1, spool, 1.0)]

    [verdict] = verdicts(runs, [], None, None)

    assert verdict.met == met


def test_check_refuses_to_judge_a_quick_run() -> None:
    """--check with --quick is a mistake: exit code 2, and one line that says why."""
    done = subprocess.run(
        [*COMMAND, "--quick", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert done.returncode == 2
    assert "--check needs more" in done.stderr


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
