"""`make bench-usage` works, and what it measures with is what it says."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.report import machine
from benchmarks.usage.asked import questions
from benchmarks.usage.ingest import Pair, Turn
from benchmarks.usage.kept import Kept
from benchmarks.usage.reading import Answered
from benchmarks.usage.result import Result
from benchmarks.usage.stock import DAYS, Stock
from benchmarks.usage.traffic import COLUMNS, Traffic, user_of
from spoolway.schema import decode_line, encode_line

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "benchmarks/lookups.py"]


def test_traffic_is_skewed_as_it_says() -> None:
    """The busiest user asks about as often as Zipf has it, and most requests succeed."""
    events = list(Traffic().events(2_000))
    users = Counter(event["user_id"] for event in events)
    assert users.most_common(1)[0][0] == user_of(1)
    assert 0.09 < users[user_of(1)] / len(events) < 0.16
    outcomes = Counter(event["outcome"] for event in events)
    assert outcomes["success"] / len(events) == pytest.approx(0.94, abs=0.02)
    assert [decode_line(encode_line(event)) for event in events[:20]]


def test_a_template_has_every_column_and_some_errors() -> None:
    """Each row is its number, the type of its error or None, and what request_logs takes."""
    rows = list(Traffic().rows(2_000))
    assert [row[0] for row in rows] == list(range(2_000))
    assert {len(row) for row in rows} == {2 + len(COLUMNS)}
    failed = sum(row[1] is not None for row in rows)
    assert failed / len(rows) == pytest.approx(0.03, abs=0.015)


def test_the_pieces_of_a_stock_are_all_of_it() -> None:
    """Every request is copied once, the last of them just before the end."""
    stock = Stock(600_001, end_ms=1_800_000_000_000)
    pieces = list(stock.pieces())
    assert sum(count for *_, count in pieces) == stock.requests
    assert [first for first, *_ in pieces] == [0, 250_000, 500_000]
    start, step = pieces[0][1:3]
    last = start + step * (stock.requests - 1)
    assert stock.end_ms - DAYS * 86_400_000 == start
    assert 0 < stock.end_ms - last <= step * 1.001


def test_a_result_says_what_was_missed() -> None:
    """Of each question with a target, and of each pair of turns, whether it was met."""
    turn = Turn(1_000, 0.1, {"worker": 0.01, "database": 0.01, "redis": 0.01})
    slow = Turn(1_000, 0.2, {"worker": 0.01, "database": 0.01, "redis": 0.01}, {"worker": 0.02})
    result = Result("now", machine(), "15", Kept(Stock(1_000, 0)))
    result.answered = [
        Answered("postgresql", "fast", True, [1.0, 2.0, 3.0]),
        Answered("postgresql", "slow", True, [51.0, 52.0, 53.0]),
        Answered("sqlite", "slow", True, [51.0, 52.0, 53.0]),
    ]
    result.pairs = [Pair("roll-ups", 1, turn, turn), Pair("readers", 1, turn, slow)]
    lines = result.as_markdown().splitlines()
    said = {tuple(line.split(" | ")[:2]): "missed" in line for line in lines if "| " in line}
    assert said["| fast", "postgresql"] is False
    assert said["| slow", "postgresql"] is True
    assert said["| slow", "sqlite"] is False
    assert said["| roll-ups", "1 KB"] is False
    assert said["| readers", "1 KB"] is True


@pytest.mark.chaos
def test_a_small_run_measures_everything(private_folder: Path) -> None:
    """Of a few thousand requests every question is answered on both databases, and all turns taken."""
    path = private_folder / "result.json"
    few = ("--requests", "3000", "--times", "3", "--turns", "1", "--share", "100")
    done = subprocess.run(
        [*COMMAND, *few, "--dir", private_folder / "data", "--json", path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(path.read_text())
    names = {question.name for question in questions()}
    for database in ("postgresql", "sqlite"):
        answered = {one["name"] for one in result["answered"] if one["database"] == database}
        assert names < answered
    assert {(pair["what"], pair["kilobytes"]) for pair in result["pairs"]} == {
        ("roll-ups", 1),
        ("roll-ups", 4),
        ("readers", 1),
    }
    assert "| usage, 30 days | postgresql |" in path.with_suffix(".md").read_text()
