"""`spoolway db copy`: every row arrives as it was, once, and what does not is named."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from spoolway.schema import FrameEncoder, encode_line, new_id
from spoolway.spool import DeadLetters
from spoolway.worker.copying.canonical import Digests
from spoolway.worker.retention import remove_old
from spoolway.worker.stores.retaining import Keep
from tests.commands import Ended, ended, refusal, run, start
from tests.servers import ValkeyServer, eventually
from tests.stores import Database, Templates, error, id_at, item_of, request
from tests.strategies import legal_fields
from tests.workers import WorkerProcess, drained, ending, push, request_line

pytest_plugins = ("tests.store_fixtures",)

Copy = Callable[..., Ended]


def shown(url: URL) -> str:
    """Return a URL as it is given on the command line."""
    return url.render_as_string(hide_password=False)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """`spoolway db copy --json` from one database to another, in this process."""

    def copied(source: Database, target: Database, *arguments: str) -> Ended:
        options = ["--from", shown(source.url), "--to", shown(target.url), "--json", *arguments]
        return run("db", "copy", *options, SPOOLWAY_DIR=str(tmp_path / "state"))

    return copied


@pytest.fixture
def back(templates: Templates, tmp_path: Path) -> Iterator[Database]:
    """Another SQLite database."""
    with templates.sqlite(tmp_path) as fresh:
        yield fresh


def store(logs: Database, items: Iterable[Any]) -> None:
    """Write items as a worker does."""

    async def write() -> None:
        async with logs.opened() as opened:
            await opened.write(list(items))

    asyncio.run(write())


def sql(logs: Database, *statements: str) -> list[tuple[Any, ...]]:
    """Run SQL of the database's own dialect."""
    return asyncio.run(logs.sql(*statements))


def rows(logs: Database) -> list[dict[str, Any]]:
    """Return all rows of both tables, with every column."""
    tables = ("request_logs", "error_logs")
    return [row for table in tables for row in asyncio.run(logs.rows(table))]


def sums(done: Ended) -> dict[str, Any]:
    """Return the checksums of the sources' tables."""
    return {name: table["source"] for name, table in done.json["tables"].items()}


@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(events=st.lists(legal_fields(), min_size=25, max_size=50))
def test_every_row_survives_the_way_to_postgresql_and_back(
    events: list[dict[str, Any]],
    sqlite_logs: Database,
    newest_logs: Database,
    back: Database,
    copy: Copy,
) -> None:
    """SQLite to PostgreSQL to SQLite: the same columns, times to the microsecond, numbers, links."""
    linked = request(cost=2.0)
    linked.enriched = b'{"cost": {"by": "x"}}'
    store(sqlite_logs, [item_of(encode_line(fields)) for fields in events])
    store(sqlite_logs, [linked, error(linked), error(new_id())])
    counted = [len(asyncio.run(sqlite_logs.ids(table))) for table in ("request_logs", "error_logs")]
    there = copy(sqlite_logs, newest_logs)
    home = copy(newest_logs, back)
    assert (there.code, home.code) == (0, 0), (there.out, home.out)
    assert there.json["is_same"]
    assert sums(there) == sums(home)
    assert sql(back, "SELECT count(*) FROM usage_pending") == [(0,)]
    asked = "SELECT sum(requests), sum(errors) FROM usage_hours"
    assert sql(back, asked) == sql(newest_logs, asked) == [tuple(counted)]
    assert rows(back) == rows(newest_logs) == rows(sqlite_logs)


def test_a_second_run_inserts_nothing_and_what_differs_is_named_and_left_as_it_is(
    sqlite_logs: Database, newest_logs: Database, copy: Copy
) -> None:
    """A row that is missing comes back; one with other content stays, and its day is named."""
    items = [request(model_name="m", body={"n": n}) for n in range(300)]
    store(sqlite_logs, [*items, error(items[0])])
    assert copy(sqlite_logs, newest_logs, "--dry-run").json["inserted"] == 301
    assert sql(newest_logs, "SELECT count(*) FROM request_logs") == [(0,)]
    first = copy(sqlite_logs, newest_logs).json
    second = copy(sqlite_logs, newest_logs)
    assert (first["inserted"], first["is_same"]) == (301, True)
    assert (second.json["inserted"], second.json["duplicate"], second.code) == (0, 301, 0)
    gone, other, later, expired, priced = (item.event.id for item in items[:5])
    sql(
        newest_logs,
        f"DELETE FROM request_logs WHERE id = '{gone}'",
        f"UPDATE request_logs SET body = '{{\"n\": -1}}' WHERE id = '{other}'",
        'UPDATE request_logs SET body = NULL, truncated = \'["body", "_expired"]\''
        f" WHERE id = '{expired}'",  # as retention leaves it: that is no conflict
        'UPDATE request_logs SET cost = 2, enriched = \'{"cost": {"by": "x"}}\''
        f" WHERE id = '{priced}'",  # as a worker fills it in: neither is that
        f"UPDATE request_logs SET created_at = now() - interval '1 year' WHERE id = '{later}'",
    )
    third = copy(sqlite_logs, newest_logs)
    assert third.code == 1
    assert (third.json["inserted"], third.json["conflicts"]) == (1, [str(other)])
    today = third.json["tables"]["request_logs"]["differing_days"]
    assert list(today) == [f"{datetime.now(UTC):%Y-%m-%d}"]
    assert third.json["tables"]["error_logs"]["unlinked"] == 0
    assert sql(newest_logs, "SELECT id, body->>'n' FROM request_logs WHERE body->>'n' = '-1'") == [
        (other, "-1")
    ]
    created = f"SELECT created_at FROM request_logs WHERE id = '{later}'"
    [(when,)] = sql(newest_logs, created)
    assert datetime.now(UTC) - when < timedelta(hours=1)


def test_years_older_than_any_worker_takes_are_copied_between_postgresql_databases(
    sqlite_logs: Database, newest_logs: Database, templates: Templates, copy: Copy
) -> None:
    """Partitions are made for whatever days there are, a few at a time; none is out of a window."""
    start = datetime(2021, 3, 1, 12, tzinfo=UTC)
    days = [start + timedelta(days=11 * n) for n in range(20)]
    store(sqlite_logs, [request(id_at(day)) for day in days])
    assert copy(sqlite_logs, newest_logs).json["inserted"] == 20
    assert len(asyncio.run(newest_logs.partitions())) == 20
    assert newest_logs.server is not None
    with templates.postgres(newest_logs.server) as other:
        done = copy(newest_logs, other)
        assert (done.code, done.json["inserted"], done.json["is_same"]) == (0, 20, True)


def test_bodies_that_are_copied_into_days_without_any_expire_as_well(
    sqlite_logs: Database, newest_logs: Database, back: Database, copy: Copy
) -> None:
    """They keep the time when they were stored, and are old: retention does not overlook them."""
    day = datetime(2026, 3, 2, 12, tzinfo=UTC)

    async def expired(into: Database) -> int:
        async with into.opened() as opened:
            return (await remove_old(opened, Keep(bodies=1), date(2026, 3, 20))).bodies.rows

    store(sqlite_logs, [request(id_at(day + timedelta(hours=n)), body=[n]) for n in range(3)])
    sql(sqlite_logs, "UPDATE request_logs SET created_at = '2026-03-02 13:00:00.000000'")
    for into in (newest_logs, back):
        store(into, [request(id_at(day), body=[1])])
        assert asyncio.run(expired(into)) == 1
        assert copy(sqlite_logs, into).code == 0
        assert asyncio.run(expired(into)) == 3
        assert asyncio.run(expired(into)) == 0


def test_rows_that_cannot_be_events_become_dead_letters_once(
    sqlite_logs: Database, newest_logs: Database, copy: Copy, tmp_path: Path
) -> None:
    """What a hand has written into SQLite is kept with its reason; the rows around it arrive."""
    store(sqlite_logs, [request(), request()])
    good = new_id()
    sql(
        sqlite_logs,
        "INSERT INTO request_logs (id, request_time) VALUES"
        " ('7b0a8a3e-52a5-4a71-8a94-0a3c6f2f9e11', '2026-01-01 00:00:00.000000')",
        "INSERT INTO request_logs (id, request_time, body) VALUES"
        f" ('{new_id()}', '2026-01-01 00:00:00.000000', 'no json')",
        "INSERT INTO request_logs (id, request_time, cost, path) VALUES"
        f" ('{good}', '2026-01-01 00:00:00.000000', 9e999, CAST(x'61ff0062' AS TEXT))",
    )
    for _ in range(2):
        done = copy(sqlite_logs, newest_logs)
        assert (done.code, done.json["dead"], done.json["conflict"]) == (1, 2, 0)
        letters = [kept.letter for kept in DeadLetters(tmp_path / "state" / "dead").letters()]
        assert sorted(letter.reason for letter in letters if letter) == ["not-uuid7", "undecodable"]
    found = sql(newest_logs, f"SELECT path, extra->'cost' FROM request_logs WHERE id = '{good}'")
    assert found == [("a��b", "inf")]
    assert sql(newest_logs, "SELECT count(*) FROM request_logs") == [(3,)]


def test_a_mistake_is_one_line(sqlite_logs: Database, tmp_path: Path) -> None:
    """What is wrong is told before anything is opened for writing, and with no password."""
    here = {"SPOOLWAY_DIR": str(tmp_path / "state")}
    url = shown(sqlite_logs.url)
    same = run("db", "copy", "--from", url, "--to", url, **here)
    assert "same database" in refusal(same)
    nowhere = run("db", "copy", "--from", f"sqlite:///{tmp_path}/no.db", "--to", url, **here)
    assert "no file" in refusal(nowhere)
    (tmp_path / "text.db").write_text("not a database at all, but long enough to look like one" * 9)
    text = run("db", "copy", "--from", f"sqlite:///{tmp_path}/text.db", "--to", url, **here)
    assert "SQLite" in refusal(text)


def test_one_value_has_one_digest_however_it_is_spelled() -> None:
    """Keys in any order, numbers in any spelling; but one is not true, and no digit is lost."""
    digests = Digests("error")

    def digest(context: str) -> int:
        return digests.of((new_id_of_zero, None, *[None] * 7, context))

    new_id_of_zero = "0" * 32
    same = ['{"a": 1e2, "b": [1.50]}', '{"b":[15e-1],"a":100}', '{"b":[1.5],"a":100.0,"a":100}']
    assert len({digest(text) for text in same}) == 1
    others = ["1", "true", '"1"', "1.0000000000000000000001", "9007199254740993", "1e400", "[1]"]
    others += [str(2**70), str(2**70 + 1), "9007199254740992.5", "9007199254740992"]
    assert len({digest(text) for text in others}) == len(others)


def has_more(logs: Database, than: int) -> bool:
    """Whether there are more requests than that."""
    return asyncio.run(logs.count()) > than


def old_stream(server: ValkeyServer, lines: list[bytes]) -> None:
    """Push one frame onto the stream of the worker that writes into the source."""
    frame: dict[Any, Any] = {**FrameEncoder().encode(lines, len(lines))}
    with server.client() as client:
        client.xadd("old", frame)


@pytest.mark.chaos
def test_a_copy_killed_in_the_middle_goes_on_while_workers_write_into_both_sides(
    sqlite_logs: Database,
    newest_logs: Database,
    private_valkey: ValkeyServer,
    tmp_path: Path,
) -> None:
    """SIGKILL and Ctrl-C in the middle, live traffic on both: at the end each event is there once."""
    history = [request(body={"text": "x" * 3000}) for _ in range(10_000)]
    store(sqlite_logs, history)
    state = tmp_path / "state"
    order = ("db", "copy", "--from", shown(sqlite_logs.url), "--to", shown(newest_logs.url))
    old = WorkerProcess(
        shown(sqlite_logs.url), private_valkey.url, tmp_path / "old", SPOOLWAY_STREAM="old"
    )
    new = WorkerProcess(shown(newest_logs.url), private_valkey.url, tmp_path / "new")
    with ending(old, new):
        old.start()
        new.started()
        live = [request_line() for _ in range(500)]
        count = "SELECT count(*) FROM request_logs"
        for signum, pushed in ((signal.SIGKILL, live[:250]), (signal.SIGINT, live[250:])):
            before = sql(newest_logs, count)[0][0]
            process = start(*order, SPOOLWAY_DIR=str(state))
            eventually(partial(has_more, newest_logs, before), timeout=60)
            process.send_signal(signum)
            process.communicate(timeout=60)
            assert process.returncode == (-signum if signum == signal.SIGKILL else 130)
            push(private_valkey, pushed)
            push_to_old = [request_line() for _ in range(100)]
            old_stream(private_valkey, push_to_old)
            history += map(item_of, push_to_old)
            drained(private_valkey, new)
        eventually(lambda: sql(sqlite_logs, count)[0][0] == len(history), timeout=60)
        done = ended(start(*order, "--json", SPOOLWAY_DIR=str(state)), 170)
        assert done.code == 0, done.out
        assert done.json["is_same"]
    ids = asyncio.run(newest_logs.ids())
    expected = {item.event.id for item in history}
    expected |= {item_of(line).event.id for line in live}
    assert len(ids) == len(expected)
    assert set(ids) == expected


@pytest.mark.chaos
def test_a_move_to_postgresql_as_documented_loses_no_event_of_the_traffic(
    newest_logs: Database, private_valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Copied beside the worker, switched over, copied again: each event is there once."""
    state = tmp_path / "state"
    old, new = f"sqlite:///{state / 'spoolway.db'}", shown(newest_logs.url)
    order = ("db", "copy", "--from", old, "--json")
    there = {"SPOOLWAY_DIR": str(state), "DATABASE_URL": new}
    pushed: list[bytes] = []

    def traffic(number: int) -> None:
        lines = [request_line(body={"text": "x" * 1000}) for _ in range(number)]
        push(private_valkey, lines)
        pushed.extend(lines)

    workers = [WorkerProcess(url, private_valkey.url, state) for url in (old, new)]
    with ending(*workers):
        workers[0].started()
        traffic(3000)
        drained(private_valkey, workers[0])
        copying = start(*order, **there)
        traffic(1000)
        assert ended(copying).code == 0
        assert workers[0].terminate() == 0
        traffic(1000)  # they wait in Redis
        workers[1].started()
        copying = start(*order, **there)
        traffic(1000)
        last = ended(copying)
        drained(private_valkey, workers[1])
    assert (last.code, last.json["is_same"]) == (0, True), last.out
    assert last.json["rows"] >= 3000
    ids = asyncio.run(newest_logs.ids())
    assert sorted(ids) == sorted(item_of(line).event.id for line in pushed)
