"""`make bench` works: every contestant does its work, and the result can be read and judged."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

import orjson
import psutil
import pytest

from benchmarks import recorded
from benchmarks.cli import judgement
from benchmarks.cli import main as benchmark
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.copy import Copy
from benchmarks.events import KIB, raw_headers
from benchmarks.judged import judged
from benchmarks.meter import Measured
from benchmarks.probes.base import Bound, Figure
from benchmarks.probes.order import PROBES
from benchmarks.ratios import PAIRS, each_round, figures
from benchmarks.recorded import Recorded, compared
from benchmarks.report import Result
from benchmarks.rounds import Run, WrongRows, take_turn
from benchmarks.rows import ERROR_COLUMNS
from benchmarks.servers import Servers, started
from benchmarks.workload import MOST_BYTES, SIZES, Size, Workload
from spoolway.schema import ErrorEvent, RequestEvent, decode_line
from tests.pushed import lines_of
from tests.servers import eventually

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "benchmarks/ingest.py"]
QUICK = ("4 KB", "mixed")


@pytest.mark.chaos
def test_a_quick_run_measures_every_contestant(private_folder: Path) -> None:
    """--quick starts the real servers and workers, checks all rows, and writes every figure."""
    path = private_folder / "result.json"
    done = run_with("--quick", "--dir", private_folder, "--json", path, timeout=200)
    assert done.returncode == 0, done.stderr

    result = json.loads(path.read_text())
    measured = {(run["contestant"], run["load"]) for run in result["runs"]}
    assert measured == {(o.name, load) for o in CONTESTANTS for load in o.loads if load in QUICK}
    assert {one.name for one in CONTESTANTS} == {name for name, _ in measured}
    assert [run for run in result["runs"] if run["rate"] <= 0 or run["events"] <= 0] == []
    named = [figure["what"] for figure in result["figures"]]
    assert [pair.what for pair in PAIRS if pair.load in QUICK and pair.what not in named] == []
    assert [probe.name for probe in PROBES if f"{probe.name}  " not in done.stderr] == []
    assert {figure["verdict"] for figure in result["figures"]} == {""}
    assert all(one.title in done.stdout for one in CONTESTANTS)
    assert f"JSON: {path}" in done.stdout
    markdown = path.with_suffix(".md")
    assert done.stdout.startswith(markdown.read_text())
    assert sorted(private_folder.iterdir()) == [path, markdown]


@pytest.mark.chaos
def test_a_run_that_is_ended_leaves_nothing_behind(private_folder: Path) -> None:
    """SIGTERM in the middle of a measurement stops servers and workers, and removes the folder."""
    log = private_folder / "log"
    with log.open("wb") as output:
        run = subprocess.Popen(
            [*COMMAND, "--only", "spoolway-2", "--dir", private_folder, "--seconds", "30"],
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


@pytest.mark.chaos
@pytest.mark.parametrize(("floor", "code"), [(0.001, 0), (1_000.0, 1)], ids=["above", "under"])
def test_a_check_ends_with_1_if_a_ratio_has_fallen(
    private_folder: Path, floor: float, code: int
) -> None:
    """Real servers, one short round: a ratio under its recorded floor is named, and is the end."""
    path = private_folder / "recorded.json"
    path.write_text(json.dumps([asdict(ratio_of("copy-saturating", "copy", "1 KB", floor))]))
    done = run_with(
        *("--check", "--recorded", path, "--rounds", "1", "--seconds", "0.1"),
        *("--dir", private_folder, "--json", private_folder / "result.json"),
        timeout=100,
    )

    assert done.returncode == code, done.stderr
    assert ("fallen: copy-saturating ÷ copy, 1 KB" in done.stdout) == bool(code)
    result = json.loads((private_folder / "result.json").read_text())
    measured = {(run["contestant"], run["load"]) for run in result["runs"]}
    assert measured == {("copy", "1 KB"), ("copy-saturating", "1 KB")}


@pytest.mark.chaos
def test_a_contestant_that_loses_a_row_fails_the_run(private_folder: Path) -> None:
    """Both tables are counted: one error too few, one link too few, and there is no figure."""
    load = Workload("mixed")
    events = 2_000
    at = next(at for at, line in enumerate(load.lines(events)) if is_linked_error(load, at, line))

    class Loses(Copy):
        def __init__(self, *, all_of_it: bool) -> None:
            super().__init__("loses", 1)
            self._all_of_it = all_of_it

        def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
            measured = super().measure(servers, load, events)
            error = decode_line(load.lines(events)[at]).id
            action = "DELETE FROM error_logs" if self._all_of_it else CUT
            servers.postgres.sql(f"{action} WHERE id = '{error}'", "bench")
            return measured

    with started(private_folder) as servers:
        assert take_turn(servers, Copy("copy", 2), load, events, 1).events == events
        for all_of_it in (True, False):
            with pytest.raises(WrongRows):
                take_turn(servers, Loses(all_of_it=all_of_it), load, events, 1)


CUT = "UPDATE error_logs SET request_log_id = NULL, request_id = NULL"
"""Else the sweep would find it again."""


def is_linked_error(load: Workload, at: int, line: bytes) -> bool:
    """Tell whether this line brings an error whose request is there already."""
    return b'"type":"error"' in line and load.stored(at + 1).linked > load.stored(at).linked


@pytest.mark.parametrize("kilobytes", [1, 4, 32])
def test_events_have_the_size_they_are_named_after(kilobytes: int) -> None:
    """Each event is within a twentieth of its size."""
    lines = Workload(kilobytes).lines(300)

    assert [line for line in lines if abs(len(line) / (kilobytes * KIB) - 1) > 0.05] == []


@pytest.mark.parametrize("size", SIZES)
def test_all_contestants_start_from_the_same_events(size: Size) -> None:
    """Lines, frames, rows for COPY and for SQLite, and a proxy's dicts: the same, in each form."""
    load = Workload(size)
    lines = load.lines(300)
    unpacked = [
        line
        for frame in load.frames(300)
        for line in lines_of({key.encode(): _bytes(value) for key, value in frame.items()})
    ]
    ids = [decode_line(line).id for line in lines]

    assert lines == unpacked
    assert [event["id"] for event in load.events(300)] == ids
    for batches in (load.copy_batches(300, 100), load.text_batches(300, 100)):
        rows = [row for batch in batches for row in (*batch.requests, *batch.errors)]
        assert {UUID(str(row[0])) for row in rows} == set(ids)
        assert len(rows) == len(ids)
    stored = load.stored(300)
    assert stored.tokens == sum(event.get("total_tokens", 0) for event in load.events(300))
    assert (stored.rows, stored.bodies) == (300, stored.requests)


def test_mixed_traffic_is_what_it_says() -> None:
    """Half a KB to 256, median 4; one event in twenty an error; half of the requests streams."""
    lines = Workload("mixed").lines(10_000)
    events = [decode_line(line) for line in lines]
    requests = [event for event in events if isinstance(event, RequestEvent)]
    sizes = sorted(
        len(line)
        for line, event in zip(lines, events, strict=True)
        if isinstance(event, RequestEvent)
    )
    streams = [event for event in requests if event.is_stream]

    assert len(events) - len(requests) == pytest.approx(500, rel=0.15)
    assert sizes[len(sizes) // 2] == pytest.approx(4 * KIB, rel=0.1)
    assert 450 <= sizes[0] < KIB
    assert 100 * KIB < sizes[-1] <= 260 * KIB
    assert len(streams) == pytest.approx(len(requests) / 2, rel=0.05)
    assert all(orjson.loads(bytes(event.stream_chunks))[-1]["choices"] for event in streams)
    assert [event for event in streams if len(event.response)] == []
    assert [event for event in requests if len(event.stream_chunks) and not event.is_stream] == []


def test_errors_of_mixed_traffic_refer_to_its_requests() -> None:
    """Most errors come behind their request, some before it, a few have none."""
    events = [decode_line(line) for line in Workload("mixed").lines(5_000)]
    place = {event.id: at for at, event in enumerate(events) if isinstance(event, RequestEvent)}
    errors = [(at, event) for at, event in enumerate(events) if isinstance(event, ErrorEvent)]
    behind = [error for at, error in errors if place.get(error.request_id or error.id, at) < at]
    before = [error for at, error in errors if place.get(error.request_id or error.id, at) > at]
    alone = [error for _, error in errors if error.request_id is None]

    assert len(behind) > len(errors) * 0.6
    assert len(errors) * 0.1 < len(before) < len(errors) * 0.3
    assert 0 < len(alone) < len(errors) * 0.2


def test_prepared_errors_are_linked_and_beside_their_request() -> None:
    """An error is in its request's batch, so that any number of connections keep the foreign key."""
    load = Workload("mixed")
    batches = load.copy_batches(5_000, 500)
    link = ERROR_COLUMNS.index("request_log_id")
    linked = [
        (row[link], {request[0] for request in batch.requests})
        for batch in batches
        for row in batch.errors
        if row[link] is not None
    ]

    assert len(linked) == load.stored(5_000).linked > 0
    assert [one for one, requests in linked if one not in requests] == []


def test_what_is_held_of_large_events_is_bounded() -> None:
    """The number of events of a turn is limited by their bytes."""
    load = Workload(32)

    assert load.most * load.bytes_per_event <= MOST_BYTES < (load.most + 1) * load.bytes_per_event


def test_an_event_for_emit_has_a_secret_in_its_headers() -> None:
    """What emit() is measured with is what a proxy has: eight headers, one of them a key."""
    headers = raw_headers(Workload(4).events(1)[0])["headers"]

    assert len(headers) == 8
    assert headers["authorization"].startswith("Bearer sk-")


def test_ratios_are_taken_within_each_round() -> None:
    """A machine that was slow in one round was slow for both: the ratio stays."""
    runs = [
        run_of("copy", 1.0, number=1),
        run_of("spoolway", 2.0, number=1),
        run_of("copy", 10.0, number=2),
        run_of("spoolway", 20.0, number=2),
        run_of("copy", 1.0, number=3),
    ]

    assert each_round(runs, "spoolway", "copy", "4 KB") == [0.5, 0.5]
    [ratio] = [one for one in judged(figures(runs, [])) if one.what == "spoolway ÷ copy, 4 KB"]
    assert (ratio.median, ratio.lowest, ratio.highest) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("value", "bound", "verdict"),
    [
        (0.99, Bound(1.0, 1.3, at_least=True), "FALLS SHORT"),
        (1.0, Bound(1.0, 1.3, at_least=True), "pass"),
        (1.3, Bound(1.0, 1.3, at_least=True), "aim"),
        (15.1, Bound(15, 6), "FALLS SHORT"),
        (15.0, Bound(15, 6), "pass"),
        (6.0, Bound(15, 6), "aim"),
        (99.0, Bound(100), "pass"),
        (1e9, None, ""),
    ],
)
def test_a_floor_is_met_or_missed(value: float, bound: Bound | None, verdict: str) -> None:
    """The median of all rounds is judged: by its floor first, then by its aim."""
    rounds = [value, value / 10, value * 10]

    [one] = judged(Figure("it", each, "µs", bound) for each in rounds)

    assert (one.median, one.lowest, one.highest) == (value, value / 10, value * 10)
    assert one.verdict == verdict
    assert one.as_row().startswith("| it | ")
    assert one.as_row().endswith(f"| {verdict} |")


def test_every_ratio_is_of_contestants_that_are_measured_with_its_load() -> None:
    """A name or a size that nobody has would be a ratio that is never judged."""
    loads = {one.name: set(one.loads) for one in CONTESTANTS}

    assert [pair for pair in PAIRS if pair.load not in loads[pair.of] & loads[pair.to]] == []


@pytest.mark.parametrize(
    ("append", "spool", "met"),
    [(100_000, 20_000, True), (30_000, 15_000, True), (100_000, 19_000, False)],
    ids=["fast enough", "as fast as the disk lets it be", "slow on a fast disk"],
)
def test_the_spool_is_judged_by_the_lesser_bound(append: int, spool: int, met: bool) -> None:
    """20,000 events a second, or half of what the disk takes where that is less."""
    runs = [run_of("append", 1.0, events=append), run_of("spool", 1.0, events=spool)]

    [figure] = [one for one in figures(runs, []) if one.bound]

    assert figure.bound
    assert figure.bound.is_met(figure.value) == met


def test_cpu_of_the_worker_is_per_event() -> None:
    """CPU seconds of the process over its events, in microseconds."""
    runs = [Run("spoolway", "4 KB", 1, 1_000, 1.0, {"client": 0.012, "database": 1.0})]

    [figure] = figures(runs, [])

    assert figure.value == pytest.approx(12)
    assert figure.unit == "µs"


def test_what_is_recorded_is_the_median_less_a_margin(private_folder: Path) -> None:
    """Pairs that must not fall are recorded; what a run did not measure stays as it was."""
    path = private_folder / "recorded.json"
    path.write_text(json.dumps([asdict(ratio_of("spoolway", "orm", "4 KB", 17.0))]))
    runs = [
        run
        for number, seconds in enumerate((0.9, 1.0, 1.1))
        for run in (
            run_of("copy", 1.0, number=number),
            run_of("spoolway", seconds, number=number),
            run_of("spoolway-2", seconds, number=number),
        )
    ]

    recorded.write(path, runs, "2 processors", "2026-02-01")

    old, new = recorded.read(path)
    assert (old.what, old.floor, old.date) == ("spoolway ÷ orm, 4 KB", 17.0, "2026-01-01")
    assert (new.what, new.machine, new.date) == (
        *("spoolway ÷ copy, 4 KB", "2 processors"),
        "2026-02-01",
    )
    assert (new.ratio, new.floor) == (1.0, recorded.MARGIN)


def test_every_ratio_with_a_floor_is_recorded() -> None:
    """What is promised must not fall, either."""
    assert [pair for pair in PAIRS if pair.bound and not pair.is_recorded] == []


@pytest.mark.parametrize(
    ("seconds", "code"), [(1.0, 0), (1.1, 0), (1.3, 1)], ids=["as it was", "a little less", "less"]
)
def test_a_ratio_under_its_recorded_floor_is_named(
    seconds: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the ratio's name, if the median of the rounds is under the floor."""
    known = [ratio_of("spoolway", "copy", "4 KB", 0.85)]
    runs = [run_of("copy", 1.0), run_of("spoolway", seconds)]

    assert judgement(known, result_of(runs)) == code
    shown = capsys.readouterr().out
    assert ("fallen: spoolway ÷ copy, 4 KB: 0.77, floor 0.85" in shown) == bool(code)


def test_a_recorded_ratio_that_was_not_measured_has_fallen() -> None:
    """A contestant that is gone, or was renamed, must not pass for one that is as fast as ever."""
    known = [ratio_of("spoolway", "gone", "4 KB", 0.85)]

    [one] = compared(known, [run_of("spoolway", 1.0)])

    assert one.has_fallen
    assert "not measured" in str(one)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--quick", "--check"], "need more than the few events"),
        pytest.param(
            ["--quick", "--record"], "need more than the few events", marks=pytest.mark.chaos
        ),
        pytest.param(["--check", "--record"], "one of them", marks=pytest.mark.chaos),
        (["--check", "--recorded", "nowhere.json"], "nothing is recorded in nowhere.json"),
    ],
)
def test_check_refuses_what_it_cannot_judge(
    arguments: Sequence[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few events, or nothing to compare with: exit code 2, and one line that says why."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(benchmark(arguments))  # as its script does

    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def run_with(*arguments: str | Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run the benchmark."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )


def run_of(contestant: str, seconds: float, *, number: int = 1, events: int = 1_000) -> Run:
    """A turn with events of 4 KB."""
    return Run(contestant, "4 KB", number, events, seconds, {"client": 0.0})


def ratio_of(of: str, to: str, load: str, floor: float) -> Recorded:
    """A recorded ratio."""
    return Recorded(of, to, load, floor / 0.85, floor, "2 processors", "2026-01-01")


def result_of(runs: list[Run]) -> Result:
    """A result of these runs and nothing else."""
    return Result({}, {}, [], runs, [], is_quick=False)


def _bytes(value: str | bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
