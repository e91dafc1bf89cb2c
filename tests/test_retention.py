"""Retention: exactly what is too old goes, on both databases, while everything else goes on."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from spoolway.worker.config import database_url
from spoolway.worker.retention import remove_old
from spoolway.worker.stores import Item, PostgresStore, Retryable, Store
from spoolway.worker.stores import retention_postgres as on_postgres
from spoolway.worker.stores.retaining import Cuts, Keep, Removed
from tests.servers import Pgbouncer, PostgresServer, postgres_binaries
from tests.stores import (
    Database,
    counts,
    error,
    id_at,
    item_of,
    postgres_transaction,
    request,
    within,
)

pytest_plugins = ["tests.store_fixtures"]

TODAY = date(2026, 3, 20)
MIDNIGHT = datetime(2026, 3, 20, tzinfo=UTC)
MS = timedelta(milliseconds=1)
SAID: dict[str, Any] = {
    "body": {"messages": ["hello"]},
    "response": {"choices": [{"text": "x" * 3000}]},
    "headers": {"accept": "*/*"},
}


@pytest.fixture(params=["sqlite_logs", "newest_logs"])
def either(request: pytest.FixtureRequest) -> Database:
    """SQLite, and the newest PostgreSQL: for what its version has no part in."""
    database: Database = request.getfixturevalue(request.param)
    return database


@pytest.fixture
async def opened(either: Database) -> AsyncIterator[Store]:
    """A store on it."""
    async with either.opened() as store:
        yield store


def at(days: float, /, **fields: object) -> Item:
    """A request of so many days before today's first moment."""
    return request(id_at(MIDNIGHT - timedelta(days=days)), **fields)


def error_at(days: float, of: Item | None = None) -> Item:
    """An error of so many days before today's first moment."""
    return error(of, id=id_at(MIDNIGHT - timedelta(days=days)))


def rows_of(removed: Removed) -> tuple[int, int, int]:
    """Rows of requests, of errors, and that lost their bodies."""
    return removed.requests.rows, removed.errors.rows, removed.bodies.rows


async def test_exactly_the_days_outside_are_gone(logs: Database, store: Store) -> None:
    """Each part by its own rule; a look before changes nothing, and says the same numbers."""
    just_out = request(id_at(MIDNIGHT - timedelta(days=10) - MS), **SAID)
    just_in = request(id_at(MIDNIGHT - timedelta(days=10)), **SAID)
    old = [at(days, **SAID) for days in (12, 11.5, 30.2)]
    bodies_out = [just_in, at(9, **SAID), request(id_at(MIDNIGHT - timedelta(days=3) - MS), **SAID)]
    never_had_any = at(8.5, headers={"a": "b"})
    new = [at(3, **SAID), at(0, **SAID), at(-0.5, **SAID)]
    lost_request = [error_at(11.4, old[0]), error_at(11, just_out)]
    errors = [error_at(10, just_in), error_at(0, new[1]), error_at(19.5), *lost_request]
    errors_out = [error_at(20 + MS / timedelta(days=1), old[2]), error_at(31)]
    before = [just_out, *old, *bodies_out, never_had_any, *new, *errors, *errors_out]
    await store.write(before)
    keep = Keep(requests=10, errors=20, bodies=3)
    unchanged = [await logs.rows(table) for table in ("request_logs", "error_logs")]

    due = await (await store.retention()).due(Cuts.of(keep, TODAY))
    assert [await logs.rows(table) for table in ("request_logs", "error_logs")] == unchanged
    removed = await remove_old(store, keep, TODAY)

    assert rows_of(removed) == rows_of(due) == (4, 2, 3)
    assert removed.requests.bytes == due.requests.bytes > 0
    assert removed.requests.partitions == due.requests.partitions
    if not logs.is_sqlite:
        assert min(await logs.partitions()) == "request_logs_p20260310"
        assert min(await logs.partitions("error_logs")) == "error_logs_p20260228"
    kept = sorted([*bodies_out, never_had_any, *new], key=lambda item: item.event.id)
    assert await logs.ids() == [item.event.id for item in kept]
    assert await logs.ids("error_logs") == sorted(item.event.id for item in errors)
    for item in lost_request:
        row = await logs.row(item)
        assert row["request_log_id"] is None
        assert row["request_id"] is not None, "what was said of it stays"
    assert (await logs.row(errors[0]))["request_log_id"] == just_in.event.id
    for item in bodies_out:
        row = await logs.row(item)
        assert (row["body"], row["response"], row["stream_chunks"]) == (None, None, None)
        assert row["truncated"] == ["body", "response", "_expired"]
        assert row["headers"] == SAID["headers"]
    assert (await logs.row(never_had_any))["truncated"] is None, "it never had a body"
    for item in new:
        assert (await logs.row(item))["body"] == SAID["body"]

    assert rows_of(await remove_old(store, keep, TODAY)) == (0, 0, 0)
    assert rows_of(await (await store.retention()).due(Cuts.of(keep, TODAY))) == (0, 0, 0)
    again = await remove_old(store, keep, TODAY + timedelta(days=1))
    assert rows_of(again) == (1, 1, 1), "the next day, the next day's"


async def test_an_event_that_comes_again_after_its_body_has_expired_is_a_duplicate(
    logs: Database, store: Store
) -> None:
    """It does not bring its body back; other metadata under its id is a conflict as ever."""
    whole = at(5, **SAID, truncated=["headers"], model_name="m")
    odd = at(5, body=[1], truncated={"a": 1})
    await store.write([whole, odd])
    assert rows_of(await remove_old(store, Keep(bodies=2), TODAY)) == (0, 0, 2)
    expired = await logs.rows()

    assert counts(await store.write([whole, odd])) == (0, 2, 0)
    assert counts(await store.write([whole, at(1, **SAID), whole])) == (1, 2, 0)
    other = item_of(whole.line.replace(b'"m"', b'"n"'))
    assert counts(await store.write([other])) == (0, 0, 1)
    assert (await logs.rows())[:2] == expired
    assert "headers" in (await logs.row(whole))["truncated"]


async def test_what_comes_late_goes_at_the_next_run(either: Database, opened: Store) -> None:
    """An event of a day that is gone is a row again, and its body too; the next run takes both."""
    keep = Keep(requests=10, errors=10, bodies=3)
    await opened.write([at(12, **SAID), at(5, **SAID)])
    await remove_old(opened, keep, TODAY)

    late = [at(12, **SAID), at(5, **SAID)]
    assert counts(await opened.write([*late, error_at(12, late[0])])) == (3, 0, 0)
    assert (await either.row(late[1]))["body"] is not None
    assert rows_of(await remove_old(opened, keep, TODAY)) == (1, 1, 1)
    assert await either.count() == 2


async def test_a_run_that_was_cut_short_is_gone_on_with(either: Database, opened: Store) -> None:
    """Whichever step it is killed after, nothing is half done, and the next run does the rest."""
    keep = Keep(requests=10, errors=10, bodies=3)
    owners = [at(days, **SAID) for days in (11, 12, 13, 5, 6)]
    await opened.write([*owners, *(error_at(5, owner) for owner in owners)])
    found: list[Removed] = []

    def stop_here(step: Removed) -> bool:
        found.append(step)
        return False

    runs = 0
    while len(found) == runs:
        runs += 1
        await remove_old(opened, keep, TODAY, stepped=stop_here)
    assert runs > 2
    assert sum(rows_of(step)[0] for step in found) == 3
    assert await either.ids() == sorted(item.event.id for item in owners[3:])
    assert {row["body"] for row in await either.rows()} == {None}
    links = [row["request_log_id"] for row in await either.rows("error_logs")]
    assert sorted(filter(None, links)) == await either.ids()


async def test_inserts_go_on_while_it_runs(either: Database, opened: Store) -> None:
    """A writer beside it loses and doubles nothing, whatever goes meanwhile."""
    keep = Keep(requests=10, errors=10, bodies=3)
    await opened.write([at(days / 40, **SAID) for days in range(800)])
    written: list[Item] = []
    is_done = asyncio.Event()

    async def write() -> None:
        while not is_done.is_set():
            batch = [at(-0.1, **SAID), at(9, **SAID)]
            batch += [error_at(-0.1, batch[0]), error_at(5, batch[1])]
            assert counts(await opened.write(batch)) == (4, 0, 0)
            written.extend(batch)

    writing = asyncio.create_task(write())
    try:
        removed = await remove_old(opened, keep, TODAY)
    finally:
        is_done.set()
        await writing

    assert removed.requests.rows == 400 - 1
    there = {*await either.ids(), *await either.ids("error_logs")}
    assert {item.event.id for item in written} <= there
    assert await either.count() == 401 + len(written) // 2


async def test_a_day_that_somebody_reads_is_dropped_later_and_writers_do_not_wait_a_second(
    newest_logs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told what kept the partitions; writers queue behind the question for 0.3 s at most."""
    monkeypatch.setattr(on_postgres, "_TRIES", 2)
    async with newest_logs.opened() as store:
        await store.write([at(12), at(-0.1)])
        async with postgres_transaction(newest_logs, "SELECT count(*) FROM request_logs"):
            running = asyncio.create_task(remove_old(store, Keep(requests=10), TODAY))
            while not running.done():
                async with within(5):  # a second, on a machine that has nothing else to do
                    await store.write([at(-0.1)])
            with pytest.raises(Retryable, match="other transactions use request_logs"):
                await running
        assert len(await newest_logs.partitions()) == 2
        assert rows_of(await remove_old(store, Keep(requests=10), TODAY)) == (1, 0, 0)


async def test_a_large_partition_is_emptied_before_it_is_dropped(
    newest_logs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where PostgreSQL's own look for links would take long, nobody waits for it."""
    monkeypatch.setattr(on_postgres, "_CHECK_SECONDS", -1.0)
    async with newest_logs.opened() as store:
        owner = at(12, **SAID)
        await store.write([owner, error_at(5, owner)])
        assert rows_of(await remove_old(store, Keep(requests=10), TODAY)) == (1, 0, 0)
        assert len(await newest_logs.partitions()) == 1, "that of the error's day"
        assert (await newest_logs.rows("error_logs"))[0]["request_log_id"] is None


async def test_partitions_of_others_stay(newest_logs: Database) -> None:
    """What an operator attached, and tables that merely look like it, are not retention's."""
    async with newest_logs.opened() as store:
        await store.write([at(12)])
        await newest_logs.sql(
            "CREATE TABLE mine PARTITION OF request_logs FOR VALUES FROM"
            " ('00000000-0000-0000-0000-000000000000') TO ('01000000-0000-0000-0000-000000000000')",
            "CREATE TABLE request_logs_p20200101 (id int)",
        )
        await remove_old(store, Keep(requests=10), TODAY)
        assert await newest_logs.partitions() == ["mine"]
        assert await newest_logs.sql("SELECT to_regclass('request_logs_p20200101') IS NOT NULL")


async def test_two_runs_at_once_remove_what_one_would(either: Database) -> None:
    """A second run beside the first removes nothing twice, and fails for nothing but its turn."""
    owners = [at(11 + day, **SAID) for day in range(4)]
    async with either.opened() as one, either.opened() as other:
        await one.write([*owners, at(5, **SAID), *(error_at(5, owner) for owner in owners)])
        keep = Keep(requests=10, bodies=3)
        done = await asyncio.gather(
            *(remove_old(store, keep, TODAY) for store in (one, other)), return_exceptions=True
        )
        assert all(isinstance(each, (Removed, Retryable)) for each in done)
        await remove_old(one, keep, TODAY)
    assert await either.count() == 1
    assert await either.count("error_logs") == 4


async def test_sqlite_gives_the_room_back_to_the_disk(sqlite_logs: Database) -> None:
    """A file made by spoolway shrinks by what was removed, while it is open."""
    async with sqlite_logs.opened() as store:
        await store.write([at(12, **SAID) for _ in range(300)])
        await sqlite_logs.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        before = sqlite_logs.path.stat().st_size
        await remove_old(store, Keep(requests=10), TODAY)
        await sqlite_logs.sql("PRAGMA wal_checkpoint(TRUNCATE)")
        assert sqlite_logs.path.stat().st_size < before / 4
    assert await sqlite_logs.sql("PRAGMA freelist_count") == [(0,)]
    assert await sqlite_logs.sql("PRAGMA integrity_check") == [("ok",)]


async def test_all_of_it_works_behind_pgbouncer(
    start_pgbouncer: Callable[..., Pgbouncer],
    newest_postgres: PostgresServer,
    newest_logs: Database,
) -> None:
    """In transaction mode, on one server connection: nothing of it is a session's."""
    pooler = start_pgbouncer(newest_postgres, settings={"default_pool_size": 1})
    store = PostgresStore(database_url(pooler.url(newest_logs.dsn)), pool_size=2, write_timeout=30)
    try:
        owner = at(12, **SAID)
        await store.write([owner, error_at(5, owner), at(5, **SAID)])
        removed = await remove_old(store, Keep(requests=10, errors=20, bodies=3), TODAY)
    finally:
        await store.close()
    assert rows_of(removed) == (1, 0, 1)
    assert await newest_logs.count() == 1


@pytest.mark.chaos
@pytest.mark.parametrize("days", [30, 3])
@pytest.mark.parametrize("database", ["sqlite", *postgres_binaries()])
def test_no_insert_waits_for_a_second(database: str, days: int) -> None:
    """The benchmark of docs/retention.md with fewer rows: the longest write beside it is shorter."""
    command = ["-m", "benchmarks.retention", database, "--rows", "300000", "--days", str(days)]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "beside retention" in done.stdout
