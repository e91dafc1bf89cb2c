"""`spoolway usage`: the numbers of the rows, in a table, as trends and as JSON."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spoolway.worker.cli.usage_text import breakdown_text
from spoolway.worker.stores import Item
from tests.commands import Ended, refusal, run
from tests.either_database import HOSTILE, either, is_inert, put, url_of
from tests.stores import Database, error, id_at, request

__all__ = ["either"]
pytest_plugins = ["tests.store_fixtures"]

HOUR = timedelta(hours=1)


def usage(logs: Database, *arguments: str, **settings: str) -> Ended:
    """Run `spoolway usage`, in this process."""
    return run("usage", *arguments, DATABASE_URL=url_of(logs), **settings)


def traffic() -> list[Item]:
    """Six requests of two models and three users, in two of the last hours, and two errors."""
    now = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {"model_name": "gpt-4o", "user_id": "ann", "cost": 0.25, "duration_ms": 100},
        {"model_name": "gpt-4o", "user_id": "bob", "cost": 0.5, "duration_ms": 200},
        {"model_name": "gpt-4o", "user_id": "ann", "outcome": "error", "duration_ms": 300},
        {"model_name": "claude", "user_id": "ann", "outcome": "cancelled"},
        {"model_name": "claude", "outcome": None, "kgco2eq_min": 0.001, "kgco2eq_max": 0.002},
    ]
    items = [request(id_at(now), total_tokens=10, prompt_tokens=4, **row) for row in rows]
    before = request(id_at(now - HOUR), model_name="claude", user_id="cid", stop_reason="stop")
    failed = [
        error(items[2], model_name="gpt-4o", error_type="timeout"),
        error(items[2], model_name="gpt-4o", error_type="timeout"),
    ]
    return [*items, before, *failed]


def test_totals_and_a_table_by_model(either: Database) -> None:
    """Each number is that of the rows; what is not known is a dash; exit 0."""
    put(either, traffic())
    done = usage(either)
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].endswith(" UTC, trends by the hour")
    # Each line is its first words: a trend follows.
    for wanted in (
        "requests     6 ",
        "failed       1, 16.7 % ",
        "others       1 cancelled, 1 unknown",
        "tokens       50 in all, 20 asked, 0 answered ",
        "cost         0.75; 4 requests have none ",
        "CO2eq        1 to 2 g ",
        "errors       2 timeout",
        "stopped by   1 stop",
    ):
        assert any(f"{line} ".startswith(wanted) for line in lines), wanted
    rows = [line.split() for line in lines[lines.index("") + 1 :]]
    head = next(number for number, row in enumerate(rows) if row[:1] == ["model"])
    assert rows[head] == [
        "model",
        "requests",
        "failed",
        "tokens",
        "cost",
        "CO2eq",
        "mean",
        "p50",
        "p95",
    ]
    claude, gpt, everything = rows[head + 1 : head + 4]
    assert claude[:5] == ["claude", "3", "0.0", "%", "20"]
    assert gpt[:7] == ["gpt-4o", "3", "33.3", "%", "30", "0.75", "-"]
    assert gpt[7:9] == ["200", "ms"]
    assert everything[:6] == ["(all)", "6", "16.7", "%", "50", "0.75"]


def test_filters_dimensions_and_order(either: Database) -> None:
    """Of one user, by outcome; of nobody's; the most expensive first; what is left as one line."""
    put(either, traffic())
    of_ann = usage(either, "--user", "ann", "--by", "outcome", "--json").json
    assert of_ann["total_stats"]["total_requests"] == 3
    assert {one["value"]: one["requests"] for one in of_ann["breakdown"]["data"]} == {
        "success": 1,
        "error": 1,
        "cancelled": 1,
    }
    nobody = usage(either, "--user", "", "--json").json
    assert nobody["total_stats"]["unknown_requests"] == 1
    lines = usage(either, "--by", "user", "--order", "cost", "-n", "1").out.splitlines()
    assert lines[-3].split()[:5] == ["bob", "1", "0.0", "%", "10"]
    assert lines[-2].startswith("(3 others)")
    assert usage(either, "--from", "2020-01-01", "--to", "2020-01-02").code == 0


def test_a_trend_is_as_long_as_the_period_and_fits(sqlite_logs: Database) -> None:
    """24 hours and the one that is not over; a terminal too narrow for any gets none."""
    put(sqlite_logs, traffic())
    drawn = usage(sqlite_logs).out.split("requests ")[1].splitlines()[0].split("|")[1]
    assert len(drawn) in {24, 25}
    assert drawn.endswith("█")
    assert drawn.strip(" ") in {"█", "▂█"}
    narrow = usage(sqlite_logs, COLUMNS="50").out
    assert "|" not in narrow


def test_nothing_yet_is_zero_and_not_an_error(sqlite_logs: Database) -> None:
    """A new database: no requests, no shares of them."""
    done = usage(sqlite_logs)
    assert done.code == 0
    assert "requests     0 " in done.out
    assert "failed       0, - " in done.out
    assert "cost         - " in done.out


def test_names_from_a_log_are_only_text(sqlite_logs: Database) -> None:
    """Models, types of errors and stop reasons are chosen by clients and backends."""
    said = HOSTILE.replace("\x00", "")
    made = request(model_name=said, stop_reason=said, user_id=said)
    put(sqlite_logs, [made, error(made, error_type=said, model_name=said)])
    for arguments in ((), ("--by", "user"), ("--json",)):
        done = usage(sqlite_logs, *arguments)
        assert is_inert(done.out)
        assert "owned" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "soon"], "from is no time"),
        (["--from", "2026-01-02", "--to", "2026-01-01T00:00Z"], "must end after it starts"),
        (["--from", "500d"], "longer than 400 days"),
        (["--by", "colour"], "dimension is model"),
        (["--order", "colour"], "order is requests"),
        (["--outcome", "failed"], "outcome is success"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    arguments: list[str], said: str, sqlite_logs: Database
) -> None:
    """What is wrong, and what can be given."""
    assert said in refusal(usage(sqlite_logs, *arguments))


def test_without_a_database_it_says_what_to_do(tmp_path: Path) -> None:
    """Exit 1, one line."""
    done = run("usage", SPOOLWAY_DIR=str(tmp_path))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("spoolway: ")
    assert len(done.err.splitlines()) == 1


def test_every_line_fits_a_usual_terminal() -> None:
    """Large numbers and long names: what is cut is a name, never a number."""
    figures = {
        "requests": 10**9,
        "failed": 10**6,
        "total_tokens": 10**13,
        "cost": 1e9,
        "priced_requests": 1,
        "kgco2eq_min": 1e6,
        "kgco2eq_max": 1e7,
        "avg_duration_ms": 1e7,
    }
    found = {
        "dimension": "user",
        "data": [{"value": "x" * 500, **figures, "p50": 1e7, "p95": None}],
        "others": {"values": 3, **figures},
        "total": figures,
    }
    lines = list(breakdown_text(found, {"p50": 1.0, "p95": 2.0}))
    assert max(map(len, lines)) < 170
    assert all("10,000,000,000,000" in line for line in lines[1:])


def test_a_database_that_nobody_has_made_is_said_to_be_so(tmp_path: Path) -> None:
    """The folder may be the wrong one, or no worker has run yet: one line, and no database is made."""
    done = run("usage", SPOOLWAY_DIR=str(tmp_path))
    assert done.code == 1
    [line] = done.err.splitlines()
    assert f"SQLite database {tmp_path}/spoolway.db is not there" in line
    assert "a worker makes it" in line
    assert list(tmp_path.iterdir()) == []
