"""`make bench-scale` works, and its model's arithmetic is right: what it is fitted to, it gives back."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import predicted, report
from benchmarks.scale.cli import main as benchmark
from benchmarks.scale.costs import CHECKED, FITTED, Cost
from benchmarks.scale.drain import Drained
from benchmarks.scale.fitting import NoCosts, checked, fitted
from benchmarks.scale.limits import Machine, limits
from benchmarks.scale.model import (
    DAY,
    KB,
    Costs,
    Line,
    Load,
    NotEnoughSizes,
    Sample,
    Steps,
    fit,
    needs,
)
from benchmarks.scale.result import Result, latest_with_costs, read, write
from benchmarks.scale.rows import ByRows
from benchmarks.scale.stock import frames, json_bytes, lines
from benchmarks.scale.waiting import ByBacklog
from benchmarks.scale.workers import ByWorkers
from benchmarks.workload import Size
from spoolway.schema import decode_line
from tests.pushed import lines_of

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "benchmarks/capacity.py"]
EVENTS = 1_000
MEAN_KB: dict[Size, float] = {1: 1, 2: 2, 4: 4, 12: 12, 32: 32, "mixed": 8}

COSTS = Costs(
    worker_us=Line(4, 2),
    postgres_us=Line(5, 8),
    redis_us=Line(1, 0.5),
    wall_us=Line(10, 5),
    packed_bytes=Line(100, 300),
    redis_bytes=Line(30, 1_100),
    disk_bytes=Line(200, 600),
    table_bytes=Line(100, 400),
    wal_bytes=Line(250, 500),
    spool_bytes=Line(28, 1_024),
    toasted=Steps((Sample(1, 0), Sample(4, 1), Sample(32, 2))),
)
MACHINE = {"processors": 2, "processor": "any", "python": "3.11", "spoolway": "0", "load_before": 0}
SERVERS = {"postgresql": "15", "lz4": True, "valkey": "9", "file_system": "ext4"}


def measured(size: Size, turn: int = 1, slower: Callable[[float], float] = lambda us: us) -> Cost:
    """What a run measures where events cost exactly what COSTS says."""
    kb = MEAN_KB[size]
    packed = COSTS.packed_bytes.at(kb)
    micro = EVENTS / 1e6
    return Cost(
        size=size,
        turn=turn,
        drained=Drained(
            EVENTS,
            slower(COSTS.wall_us.at(kb)) * micro,
            {
                "workers": slower(COSTS.worker_us.at(kb)) * micro,
                "postgresql": slower(COSTS.postgres_us.at(kb)) * micro,
                "redis": 0.25 * COSTS.redis_us.at(kb) * micro,
            },
        ),
        filling_cpu=0.75 * COSTS.redis_us.at(kb) * micro,
        json_bytes=round(kb * KB * EVENTS),
        packed_bytes=round(packed * EVENTS),
        redis_bytes=round(COSTS.redis_bytes.at(packed / KB) * EVENTS),
        disk_bytes=round(COSTS.disk_bytes.at(kb) * EVENTS),
        table_bytes=round(COSTS.table_bytes.at(kb) * EVENTS),
        wal_bytes=round(COSTS.wal_bytes.at(kb) * EVENTS),
        spool_bytes=round(COSTS.spool_bytes.at(kb) * EVENTS),
        toasted=round(COSTS.toasted.at(kb) * EVENTS),
    )


ALL_SIZES = [measured(size) for size in (*FITTED, *CHECKED)]


@given(base=st.floats(0.1, 1e4), per_kb=st.floats(0.01, 1e4))
def test_a_line_is_found_again(base: float, per_kb: float) -> None:
    """Samples that lie on a line give that line, whatever its steepness."""
    line = Line(base, per_kb)
    found = fit([Sample(kb, line.at(kb)) for kb in (1, 4, 32)])

    for kb in (0.5, 2, 12, 100):
        assert found.at(kb) == pytest.approx(line.at(kb), rel=1e-6)


def test_a_large_event_counts_no_more_than_a_small_one() -> None:
    """The relative errors are made small: one that is off at 32 KB does not spoil what is at 1 KB."""
    found = fit([Sample(1, 10), Sample(4, 16), Sample(32, 72 * 1.2)])

    assert found.at(1) == pytest.approx(10, rel=0.05)
    assert found.at(4) == pytest.approx(16, rel=0.1)


def test_a_line_needs_two_sizes() -> None:
    """From measurements at one size nobody can tell what a kilobyte costs."""
    with pytest.raises(NotEnoughSizes):
        fit([Sample(4, 10), Sample(4, 11)])


def test_known_costs_are_recovered_from_a_run() -> None:
    """Medians of all turns of the fitted sizes give back what each event costs."""
    turns = [
        cost
        for size in FITTED
        for cost in (
            measured(size, 1),
            measured(size, 2),
            measured(size, 3, slower=lambda us: 5 * us),  # the machine was busy
        )
    ]
    found = fitted([*turns, *(measured(size) for size in CHECKED)])

    assert found.wall_us.base == pytest.approx(10)
    for name in ("worker_us", "postgres_us", "redis_us", "packed_bytes", "disk_bytes", "wal_bytes"):
        line, known = getattr(found, name), getattr(COSTS, name)
        assert (line.base, line.per_kb) == pytest.approx((known.base, known.per_kb), rel=1e-3)
    assert found.redis_bytes.at(1) == pytest.approx(COSTS.redis_bytes.at(1), rel=1e-3)
    assert found.toasted.at(5) == 1


def test_predictions_are_checked_with_what_was_not_fitted_to() -> None:
    """Each error is of a size that the lines have not seen; twice the CPU is an error of a half."""
    others = [
        measured(size, slower=(lambda us: 2 * us) if size == 12 else lambda us: us)
        for size in CHECKED
    ]
    found = checked(others, fitted([*ALL_SIZES[: len(FITTED)], *others]))

    assert {check.size for check in found} == set(CHECKED)
    off = {(check.name, check.size) for check in found if abs(check.error) > 0.01}
    assert off == {("worker_us", 12), ("postgres_us", 12), ("wall_us", 12)}
    assert [check.error for check in found if (check.name, check.size) in off] == pytest.approx(
        [-0.5] * 3, rel=1e-3
    )


def test_a_run_without_a_size_is_nothing_to_predict_from() -> None:
    """The message says which size is missing, and what measures it."""
    with pytest.raises(NoCosts, match=r"none for 32 KB; make bench-scale ARGS=\"--only costs\""):
        fitted([measured(1), measured(4)])


def test_what_a_load_needs() -> None:
    """Rates times costs: by hand, for 10,000 events of 4 KB a second."""
    need = needs(COSTS, Load(10_000, 4, retention_days=10))

    assert need.worker_cores == pytest.approx(0.12)
    assert need.postgres_cores == pytest.approx(0.37)
    assert need.redis_cores == pytest.approx(0.03)
    assert need.workers == 1  # 0.3 of its time
    assert need.redis_bytes_per_minute == pytest.approx(600_000 * (30 + 1_100 * 1_300 / KB))
    assert need.spool_bytes_per_minute == pytest.approx(600_000 * (28 + 4_096))
    assert need.network_bytes_per_second == pytest.approx(10_000 * (2 * 1_300 + 4_096))
    assert need.wal_bytes_per_second == pytest.approx(22_500_000)
    assert need.disk_bytes_per_day == pytest.approx(10_000 * DAY * 2_600)
    assert need.disk_bytes == pytest.approx(10 * need.disk_bytes_per_day)
    assert need.toasted_per_day == 10_000 * DAY
    # 8 MB in a transaction are 2,048 of these events.
    assert need.days_to_freeze == pytest.approx(200_000_000 * 2_048 / (10_000 * DAY))


def test_workers_are_not_planned_to_be_always_busy() -> None:
    """A worker that never rests takes 33,333 of these a second; seven tenths of that are planned."""
    assert needs(COSTS, Load(23_000, 4)).workers == 1
    assert needs(COSTS, Load(24_000, 4)).workers == 2


def test_logs_that_pack_better_need_less_memory_and_network_alone() -> None:
    """The ratio is of frames: neither the tables nor the spool have any."""
    usual, better = needs(COSTS, Load(1_000, 4)), needs(COSTS, Load(1_000, 4, packed=0.1))

    assert better.redis_bytes_per_minute < usual.redis_bytes_per_minute
    assert better.network_bytes_per_second < usual.network_bytes_per_second
    assert better.disk_bytes == usual.disk_bytes
    assert better.spool_bytes_per_minute == usual.spool_bytes_per_minute


def test_large_events_fill_a_transaction_by_their_bytes() -> None:
    """Of 32 KB, 256 make up a batch: many times as many transactions as by their number."""
    small, large = needs(COSTS, Load(1_000, 1)), needs(COSTS, Load(1_000, 32))

    assert small.days_to_freeze / large.days_to_freeze == pytest.approx(4_000 / 256)


def test_the_lowest_limit_breaks_first() -> None:
    """Limits are what is there over what an event takes, lowest first; what is not used is none."""
    found = limits(COSTS, 4, Machine(processors=10))
    rates = [limit.events_per_second for limit in found]
    by_name = {limit.what.split(",")[0]: limit.events_per_second for limit in found}

    assert rates == sorted(rates)
    assert by_name["PostgreSQL: 10 processors"] == pytest.approx(7e6 / 37)
    assert by_name["Redis: one thread"] == pytest.approx(0.7e6 / 3)
    assert not [limit for limit in limits(COSTS, 1, Machine()) if "beside their rows" in limit.what]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """JSON keeps every turn of every part; the newest full run with costs is the one to predict from."""
    drained = Drained(1_000, 0.5, {"workers": 0.1, "postgresql": 0.2, "redis": 0.01})
    result = Result(
        "2026-01-31T00:00:00+00:00",
        MACHINE,
        SERVERS,
        quick=False,
        workers=[ByWorkers(1, 1, 1, drained), ByWorkers(1, 2, 1, drained)],
        rows=[ByRows(1_000_000, "today", 1, drained, drained)],
        backlog=[ByBacklog(0, 1, drained, 300_000)],
        costs=ALL_SIZES,
    )
    path = write(result, tmp_path / "scale-20260131T000000Z.json")
    write(Result("", {}, {}, quick=True, costs=ALL_SIZES), tmp_path / "scale-20260201T000000Z.json")
    write(Result("", {}, {}, quick=False), tmp_path / "scale-20260202T000000Z.json")

    assert read(path) == result
    assert latest_with_costs(tmp_path) == path
    shown = report.as_markdown(result)
    assert "| 1 KB | 2 | 2,000 | 2,000-2,000 | 1.00 | 100.0 | 200.0 | 10.0 | 31% |" in shown
    assert "| 1,000,000 | today | 2,000 | 1.000 |" in shown
    assert "| 0 | 2,000 |" in shown
    foretold = predicted.as_markdown(result.costs, [Load(10_000, 4)])
    assert "| worker, CPU µs | 4.00 | 2.00 | 8.00 | 8.00 | +0% |" in foretold
    assert "| 10,000 | 4 | 1 | 0.12 | 0.37 | 0.03 |" in foretold
    assert "What breaks first with events of 4 KB" in foretold


def test_stocked_events_are_all_different_and_of_their_size() -> None:
    """However many are made of few: each has an id of its own, and the frames hold all of them."""
    ids = [decode_line(line).id for some in lines(4, 3_000) for line in some]
    unpacked = [
        line
        for frame in frames(4, 3_000)
        for line in lines_of(
            {
                name.encode(): value if isinstance(value, bytes) else str(value).encode()
                for name, value in frame.items()
            }
        )
    ]

    assert len(set(ids)) == len(unpacked) == 3_000
    assert sum(map(len, unpacked)) == json_bytes(4, 3_000)


@pytest.mark.chaos
def test_a_quick_run_measures_every_part(private_folder: Path) -> None:
    """--quick starts the real servers and workers, counts all rows, and writes every part."""
    path = private_folder / "result.json"
    done = subprocess.run(
        [*COMMAND, "measure", "--quick", "--dir", private_folder, "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    result = json.loads(path.read_text())
    assert {(turn["kilobytes"], turn["workers"]) for turn in result["workers"]} == {
        (kilobytes, workers) for kilobytes in (1, 4) for workers in (1, 2, 3, 4)
    }
    assert [(turn["rows"], turn["where"]) for turn in result["rows"]] == [
        (0, "today"),
        (10_000, "today"),
        (100_000, "today"),
        (100_000, "the 30 days before"),
    ]
    assert [turn["waiting"] for turn in result["backlog"]] == [0, 10_000, 50_000]
    assert {turn["size"] for turn in result["costs"]} == {*FITTED, *CHECKED}
    assert all(turn["disk_bytes"] > 0 and turn["redis_bytes"] > 0 for turn in result["costs"])
    assert f"JSON: {path}" in done.stdout
    assert list(private_folder.iterdir()) == [path]


def test_predict_without_a_run_says_what_to_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, and one line that names the command."""
    empty = write(Result("", {}, {}, quick=False), tmp_path / "scale-empty.json")

    assert benchmark(["predict", "--result", str(empty)]) == 1
    assert 'make bench-scale ARGS="--only costs"' in capsys.readouterr().err
