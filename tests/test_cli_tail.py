"""`spoolway tail`: each request once, as it is committed, through outages, to a clean end."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from spoolway.worker.cli.following import AT_ONCE, OVERLAP, Follower, Row
from spoolway.worker.cli.tail_lines import error_line, head, request_line
from spoolway.worker.reading.errors import ErrorQuery, Errors
from spoolway.worker.reading.logs import LogQuery, Logs
from spoolway.worker.reading.reasons import reasons
from tests.commands import SPOOLWAY, environment, refusal, run
from tests.either_database import HOSTILE, either, insert, put, url_of
from tests.reading_database import reading
from tests.servers import eventually
from tests.stores import Database, error, request, requests

__all__ = ["either"]
pytest_plugins = ["tests.store_fixtures"]

LONG_AGO = timedelta(hours=1)


class Said(list[str]):
    """What an operator was told."""

    def __call__(self, line: str) -> None:
        """Say it."""
        self.append(line)


async def now(_seconds: float) -> None:
    """Wait no longer than the loop needs to do something else."""
    await asyncio.sleep(0)


@pytest.fixture
async def follow(either: Database) -> AsyncIterator[Callable[..., Follower]]:
    """Follow a database's requests: `follow(first=10)`."""
    async with reading(either) as database:
        logs = Logs(database)

        def make(**options: Any) -> Follower:
            return Follower(
                lambda since, limit: logs.recent(LogQuery(), since=since, limit=limit),
                **{
                    "since": datetime.now(UTC) - LONG_AGO,
                    "first": 10,
                    "say": Said(),
                    "wait": now,
                    **options,
                },
            )

        yield make


def ids(rows: list[Row]) -> list[str]:
    """Ids of rows."""
    return [row["id"] for row in rows]


# --- What is followed ---------------------------------------------------------


async def test_each_row_comes_once_in_the_order_of_its_commit(
    either: Database, follow: Callable[..., Follower]
) -> None:
    """Of those that are there the last ones, then each as it comes, and none again."""
    there = requests(5)
    await insert(either, *there)
    async with aclosing(follow(first=3).rows()) as rows:
        assert ids(await anext(rows)) == [str(item.event.id) for item in there[2:]]
        assert await anext(rows) == []
        for number in (1, 4):
            new = requests(number)
            await insert(either, *new)
            assert ids(await anext(rows)) == [str(item.event.id) for item in new]
            assert await anext(rows) == []


async def test_rows_of_a_transaction_that_ends_late_are_not_missed(
    either: Database, follow: Callable[..., Follower]
) -> None:
    """It began before what has been seen, and is committed after it."""
    first, late, second = requests(3)
    await insert(either, first, late)
    created = "now() - interval '5 seconds'"
    if either.is_sqlite:
        created = "strftime('%Y-%m-%d %H:%M:%f000', 'now', '-5 seconds')"
    columns = ", ".join(await names(either))
    take = f"CREATE TABLE kept AS SELECT * FROM request_logs WHERE id = '{late.event.id}'"
    await either.sql(take, f"DELETE FROM request_logs WHERE id = '{late.event.id}'")
    async with aclosing(follow().rows()) as rows:
        assert ids(await anext(rows)) == [str(first.event.id)]
        await insert(either, second)
        assert ids(await anext(rows)) == [str(second.event.id)]
        await either.sql(
            f"UPDATE kept SET created_at = {created}",
            f"INSERT INTO request_logs ({columns}) SELECT {columns} FROM kept",
        )
        assert ids(await anext(rows)) == [str(late.event.id)]
        assert await anext(rows) == []


async def names(logs: Database) -> list[str]:
    """The columns of request_logs."""
    async with logs.engine() as engine, engine.connect() as connection:
        return list((await connection.execute(text("SELECT * FROM request_logs"))).keys())


async def test_what_is_remembered_does_not_grow(follow: Callable[..., Follower]) -> None:
    """Ids are forgotten as soon as they are not asked for any more."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    batches: Iterator[list[Row]] = iter(
        [{"id": f"{n}", "created_at": f"{start + timedelta(seconds=n):%Y-%m-%dT%H:%M:%S.%fZ}"}]
        for n in range(100)
    )

    async def recent(_since: datetime, _limit: int) -> list[Row]:
        return next(batches)

    follower = Follower(recent, since=start, first=1, say=Said(), wait=now)
    async with aclosing(follower.rows()) as rows:
        for n in range(100):
            assert ids(await anext(rows)) == [str(n)]
    assert len(follower._seen) == OVERLAP.total_seconds() + 1


async def test_a_flood_is_said_to_be_one() -> None:
    """More rows than are asked for at once: the newest, and that there were others."""
    said = Said()

    async def recent(since: datetime, limit: int) -> list[Row]:
        assert limit == AT_ONCE
        at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return [{"id": os.urandom(8).hex(), "created_at": at} for _ in range(limit)]

    follower = Follower(recent, since=datetime.now(UTC), first=10, say=said, wait=now)
    async with aclosing(follower.rows()) as rows:
        assert len(await anext(rows)) == 10
        assert said == []
        assert len(await anext(rows)) == AT_ONCE
    assert said == ["more than 1,000 rows came at once: some are left out"]


async def test_questions_become_rare_while_nothing_comes() -> None:
    """From two a second to one in two seconds, and back with the first row."""
    waits: list[float] = []
    answers: list[list[Row]] = [[] for _ in range(8)]
    answers.append([{"id": "1", "created_at": "2026-01-01T00:00:00.000000Z"}])

    async def recent(_since: datetime, _limit: int) -> list[Row]:
        return answers.pop(0)

    async def wait(seconds: float) -> None:
        waits.append(seconds)

    follower = Follower(recent, since=datetime.now(UTC), first=1, say=Said(), wait=wait)
    async with aclosing(follower.rows()) as rows:
        while answers:
            await anext(rows)
        answers.append([])
        await anext(rows)
    assert waits[:2] == [0.75, 1.125]
    assert waits[-2:] == [2.0, 0.5]


# --- Outages ------------------------------------------------------------------


async def test_a_database_that_is_away_is_waited_for_and_said_once(sqlite_logs: Database) -> None:
    """Moved away and back: what came in meanwhile is not missed."""
    said, elsewhere = Said(), sqlite_logs.path.with_suffix(".moved")
    await insert(sqlite_logs, request())
    async with reading(sqlite_logs) as database:
        logs = Logs(database)
        follower = Follower(
            lambda since, limit: logs.recent(LogQuery(), since=since, limit=limit),
            since=datetime.now(UTC) - LONG_AGO,
            first=10,
            say=said,
            wait=now,
        )
        async with aclosing(follower.rows()) as rows:
            assert len(await anext(rows)) == 1
            new = request()
            await insert(sqlite_logs, new)
            sqlite_logs.path.rename(elsewhere)
            for _ in range(3):
                assert await anext(rows) == []
            [why] = said
            assert why.endswith("; it is tried again")
            elsewhere.rename(sqlite_logs.path)
            assert ids(await anext(rows)) == [str(new.event.id)]
    assert said[1:] == ["the database answers again"]


async def test_why_requests_failed_is_their_last_error(either: Database) -> None:
    """From error events; from the request's own column where there are none; else not at all."""
    made = [request(outcome="error") for _ in range(2)]
    own = request(outcome="error", errors=[{"error_type": "a"}, {"error_message": "b"}])
    odd = request(outcome="error", errors={"no": "list"})
    events = [
        error(made[0], error_type="first", error_message="1"),
        error(made[0], error_type="last", error_message="2"),
    ]
    await insert(either, *made, own, odd, *events)
    items = [*made, own, odd]
    async with reading(either) as database:
        assert await reasons(database, [item.event.id for item in items]) == {
            made[0].event.id: "last: 2",
            own.event.id: "b",
        }
        assert await reasons(database, []) == {}


# --- How it is shown ----------------------------------------------------------


async def test_nothing_of_a_row_reaches_the_terminal_but_one_line_of_text(
    sqlite_logs: Database,
) -> None:
    """Names and messages are from clients and backends; what does not fit is cut."""
    said = HOSTILE.replace("\x00", "") + "模" * 500
    made = request(outcome="error", model_name=said, user_id=said)
    failed = error(made, error_type=said, error_message=said, backend_name=said, model_name=said)
    await insert(sqlite_logs, made, failed)
    since = datetime.now(UTC) - LONG_AGO
    async with reading(sqlite_logs) as database:
        [row] = await Logs(database).recent(LogQuery(), since=since)
        [event] = await Errors(database).recent(ErrorQuery(), since=since)
        [why] = (await reasons(database, [made.event.id])).values()
    for width in (40, 100, None):
        for line in (request_line(row, why, width), error_line(event, width)):
            assert line.isprintable()
            assert str(made.event.id)[:18] in line
            assert len(line) <= (width or 300)
    assert why.startswith("\x1b]0;owned")  # it was there to be shown


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_why_a_request_failed_is_the_last_that_a_narrow_terminal_leaves_out(width: int) -> None:
    """Cost, tokens and the like make room for it; names stand above their columns."""
    why = "upstream_timeout: no answer in"
    at = "2026-01-31T23:59:59.123456Z"
    made = {
        "request_time": at,
        "id": "01a20105-f5ef-7580-a948-da1ffb6438ba",
        "outcome": "error",
        "http_status": 502,
        "model_name": "gpt-4o",
        "duration_ms": 1204.0,
        "total_tokens": 547,
        "cost": 0.0014,
        "user_id": "carol",
    }
    line = request_line(made, why, width)
    assert line.endswith(why)
    assert head(width, of_errors=False).index("why") == line.index(why)
    assert ("0.0014" in line) == (width == 160)


def test_errors_are_not_narrowed_by_what_they_do_not_have(tmp_path: Path) -> None:
    """An error event has a model, and neither a user nor a key."""
    done = run("tail", "--errors", "--user", "x", SPOOLWAY_DIR=str(tmp_path))
    assert "give --errors with --model alone" in refusal(done)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "--since is no time"),
        (["--outcome", "failed"], "outcome is success, error, cancelled"),
        (["--model", "x" * 2_000], "model is longer than"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    """Before anything is asked; exit code 2."""
    assert said in refusal(run("tail", *arguments, SPOOLWAY_DIR=str(tmp_path)))


# --- As a process -------------------------------------------------------------


@contextmanager
def tailing(logs: Database, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run the installed command for the length of a block."""
    process = subprocess.Popen(
        [SPOOLWAY, "tail", *arguments],
        env=environment(DATABASE_URL=url_of(logs)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_lines_are_there_as_soon_as_their_rows_and_a_signal_ends_it(
    sqlite_logs: Database, signum: signal.Signals
) -> None:
    """NDJSON, each line flushed; in the middle of it the end is clean, with exit code 0."""
    put(sqlite_logs, [request(model_name="a"), request(model_name="b"), request(model_name="c")])
    with tailing(sqlite_logs, "--json", "-n", "1", "--model", "a", "--model", "b") as process:
        assert process.stdout is not None
        assert orjson.loads(process.stdout.readline())["model_name"] == "b"
        made = request(model_name="a", outcome="error", errors=[{"error_type": "boom"}])
        put(sqlite_logs, [request(model_name="other"), made])
        line = orjson.loads(process.stdout.readline())
        assert (line["id"], line["why"]) == (str(made.event.id), "boom")
        process.send_signal(signum)
        assert process.wait(10) == 0
        assert process.communicate() == ("", "")


def test_it_ends_when_nobody_reads_any_more(sqlite_logs: Database) -> None:
    """`spoolway tail | head -1`: not only with the next row, which may never come."""
    put(sqlite_logs, [request(model_name="a")])
    with tailing(sqlite_logs, "-n", "5") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "  success " in process.stdout.readline()
        process.stdout.close()
        eventually(lambda: process.poll() is not None, timeout=15)
        assert process.stderr.read() == ""
