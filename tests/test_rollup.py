"""Roll-ups: usage by hour and by day is what the rows say, at every moment, on both databases."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from spoolway.schema.usage import BOUNDS_MS, COUNTS, LEVELS, SUMS, Level
from spoolway.worker.jobs import merge_usage
from spoolway.worker.progress import Progress
from spoolway.worker.rollup.histogram import histogram, quantile
from spoolway.worker.rollup.proving import proved, walk
from spoolway.worker.rollup.rebuilding import Rollup
from spoolway.worker.rollup.totals import Totals
from spoolway.worker.stores import Item, Store
from spoolway.worker.stores.retaining import Cuts
from tests.commands import Ended, run
from tests.stores import Database, counts, error, id_at, request
from tests.usage_traffic import (
    DIMENSIONS,
    SUMMED,
    Counted,
    grouped,
    is_near,
    merge_all,
    traffic,
    write_all,
)

pytest_plugins = ["tests.store_fixtures"]

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def items() -> list[Item]:
    """Traffic of two days, with duplicates of some of it."""
    rng = random.Random(7)
    found = traffic(rng, 300, end=NOON)
    return found + rng.sample(found, 60)


async def rows_of(logs: Database, level: Level) -> list[dict[str, Any]]:
    """Read a level's table."""
    async with logs.engine() as engine, engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(select(level.table))).mappings()]


def agrees(row: dict[str, Any], counted: Counted) -> None:
    """Assert that a level's row is what was counted."""
    assert (row["requests"], row["errors"], row["priced"]) == (
        counted.requests,
        counted.errors,
        counted.priced,
    )
    for name in SUMMED:
        assert is_near(row[name], counted.sums[name]), name
    assert row["duration_count"] == counted.known["duration_ms"]
    assert row["ttft_count"] == counted.known["ttft_ms"]
    assert row["duration_min_ms"] == min(counted.durations, default=None)
    assert row["duration_max_ms"] == max(counted.durations, default=None)
    for name, expected in (
        ("duration_histogram", histogram(counted.durations)),
        ("ttft_histogram", histogram(counted.first_tokens)),
        ("stop_reasons", counted.stop_reasons),
        ("error_types", counted.error_types),
    ):
        found = {key: value for key, (_, value) in (row[name] or {}).items()}
        assert {key: int(value) for key, value in found.items()} == {
            str(key): value for key, value in expected.items()
        }, name


async def test_every_level_is_what_its_rows_come_to(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """Merged, each level has one row per period and dimensions, and each number is that of the rows."""
    await write_all(store, items)
    await merge_all(store)

    for level in LEVELS:
        expected = await grouped(logs, level.period, level.dimensions)
        found = await rows_of(logs, level)
        keys = [(row[level.period], *(row[name] for name in level.dimensions)) for row in found]
        assert sorted(keys, key=repr) == sorted(expected, key=repr)
        for key, row in zip(keys, found, strict=True):
            agrees(row, expected[key])


async def test_the_view_is_exact_before_during_and_after_a_merge(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """`usage_hourly` adds up to the rows with everything pending, with half of it, and with nothing."""
    half = len(items) // 2
    columns = [*COUNTS, *SUMS]
    asked = f"SELECT hour, {', '.join(DIMENSIONS)}, {', '.join(f'sum({c})' for c in columns)} FROM usage_hourly"
    asked += " GROUP BY " + ", ".join(str(at + 1) for at in range(1 + len(DIMENSIONS)))

    async def check() -> None:
        expected = await grouped(logs, "hour", DIMENSIONS)
        found = await logs.sql(asked)
        assert len(found) == len(expected) > 0
        for row in found:
            moment = row[0]
            if isinstance(moment, str):
                moment = datetime.fromisoformat(moment).replace(tzinfo=UTC)
            values = dict(zip(columns, row[1 + len(DIMENSIONS) :], strict=True))
            counted = expected[moment, *row[1 : 1 + len(DIMENSIONS)]]
            assert (values["requests"], values["errors"]) == (counted.requests, counted.errors)
            assert values["priced"] == counted.priced
            for name in SUMMED:
                assert is_near(float(values[name]), counted.sums[name])

    await write_all(store, items[:half])
    await check()
    await merge_all(store)
    await check()
    await write_all(store, items[half:])
    await check()
    await (await store.rollup()).merge()
    await check()


async def test_what_comes_again_counts_once(logs: Database, store: Store) -> None:
    """A redelivered batch, one that was half there, and an id twice in a batch count each event once."""
    some = [request(id_at(NOON), cost=1.0) for _ in range(3)]
    late = [request(id_at(NOON)), error()]

    assert counts(await store.write([some[0], some[0], some[1]])) == (2, 1, 0)
    assert counts(await store.write([*some, *late])) == (3, 2, 0)
    assert counts(await store.write([*some, *late])) == (0, 5, 0)
    await merge_all(store)
    assert counts(await store.write([*some, *late])) == (0, 5, 0)

    asked = "SELECT sum(requests), sum(errors), sum(cost) FROM usage_hourly"
    assert [tuple(map(float, row)) for row in await logs.sql(asked)] == [(4, 1, 3)]


async def test_an_event_with_other_content_is_not_counted(logs: Database, store: Store) -> None:
    """The second of two events with one id is a conflict, and in no roll-up."""
    first = request(id_at(NOON), cost=1.0)
    other = request(first.event.id, cost=5.0)

    assert counts(await store.write([first])) == (1, 0, 0)
    assert counts(await store.write([other])) == (0, 0, 1)

    assert await logs.sql("SELECT sum(requests), sum(cost) FROM usage_hourly") == [(1, 1.0)]


async def test_a_batch_that_is_refused_leaves_no_facts(logs: Database, store: Store) -> None:
    """Facts are of the transaction of their rows: what was rolled back was never counted."""
    broken = request()
    broken.event.outcome = "no such outcome"  # type: ignore[union-attr]  # the CHECK refuses it
    with pytest.raises(Exception, match="outcome"):
        await store.write([request(), broken])

    assert await logs.count("usage_pending") == 0
    assert await logs.sql("SELECT count(*) FROM usage_hourly") == [(0,)]


async def test_merges_at_once_lose_and_double_nothing(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """Several workers may merge, while others write: each fact is added once."""
    async with logs.opened() as other:
        rollups = [await store.rollup(), await other.rollup()]

        async def merge(rollup: Rollup) -> None:
            for _ in range(5):
                await rollup.merge()

        await asyncio.gather(write_all(store, items, 31), *map(merge, rollups))
        await merge_all(store)

    assert await logs.count("usage_pending") == 0
    requests, errors = await logs.count("request_logs"), await logs.count("error_logs")
    for level in LEVELS:
        asked = f"SELECT sum(requests), sum(errors) FROM {level.table.name}"
        assert await logs.sql(asked) == [(requests, errors)]


async def test_numbers_no_column_could_hold_do_not_stop_a_merge(
    logs: Database, store: Store
) -> None:
    """Sums stay at the largest number their column has: one hostile event must not end all counting."""
    most = 2**63 - 1
    await store.write([request(id_at(NOON), total_tokens=most, cost=1.6e308) for _ in range(3)])
    await merge_all(store)
    await store.write([request(id_at(NOON), total_tokens=most, cost=1.6e308)])
    await merge_all(store)

    [row] = await logs.sql("SELECT requests, total_tokens, cost FROM usage_hours")
    assert row == (4, most, 1.7e308)


async def test_a_check_finds_what_was_changed_and_a_rebuild_mends_it(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """Whatever is wrong in a level, missing, too much or another number: told, and then as the rows."""
    await write_all(store, items)
    await merge_all(store)
    rollup = await store.rollup()
    span = await rollup.span()
    assert span is not None
    hours = [
        span.start + timedelta(hours=n)
        for n in range(int((span.end - span.start) / timedelta(hours=1)))
    ]
    days = sorted({hour.replace(hour=0) for hour in hours})

    async def differences() -> list[Any]:
        found = [one for hour in hours for one in await rollup.check_hour(hour)]
        return found + [one for day in days for one in await rollup.check_day(day)]

    assert await differences() == []
    await store.write(
        [request(id_at(NOON - timedelta(hours=1)), cost=2.0)]
    )  # pending is no difference
    assert await differences() == []

    await logs.sql(
        "UPDATE usage_hours SET cost = cost + 1 WHERE requests > 0",
        "DELETE FROM usage_days WHERE outcome = 'error'",
        "UPDATE usage_model_days SET duration_histogram = '{\"3\": 1}'",
    )
    tables = {one.table for one in await differences()}
    assert tables == {level.table.name for level in LEVELS}

    for hour in hours:
        await rollup.rebuild_hour(hour)
    for day in days:
        await rollup.rebuild_day(day)
    assert await differences() == []
    assert not any([await rollup.rebuild_hour(hour) for hour in hours])
    assert await logs.sql("SELECT sum(requests) FROM usage_days") == [
        (await logs.count("request_logs"),)
    ]


@given(st.lists(st.floats(0, 1e7), min_size=1), st.floats(0, 1))
def test_a_quantile_is_off_by_a_bucket_at_most(values: list[float], share: float) -> None:
    """A percentile from a histogram is within 4.5 % of one of the two values it lies between, or 1 ms."""
    found = quantile(histogram(values), share, min(values), max(values))

    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    lower, upper = ordered[int(at)], ordered[min(int(at) + 1, len(ordered) - 1)]
    assert found is not None
    if upper <= BOUNDS_MS[-1]:
        assert lower / 1.045 - 1 <= found <= upper * 1.045 + 1
    assert min(values) <= found <= max(values)


def test_a_quantile_of_nothing_is_none() -> None:
    """Without a value there is no percentile, and not zero."""
    assert quantile({}, 0.5, None, None) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.sampled_from(["a", "b"])), max_size=30), st.data())
def test_totals_add_up_in_any_parts(facts: list[tuple[float, str]], data: st.DataObject) -> None:
    """Added up in two parts and put together is the same as added up at once, and as read back."""
    cut = data.draw(st.integers(0, len(facts)))

    def totals(some: list[tuple[float, str]]) -> Totals:
        found = Totals()
        for duration, stop in some:
            found.add_request(
                (1, 2, None, 4, 5, duration, 1.0, None, 3.0, 4.0, duration, None, stop)
            )
        return found

    both = totals(facts[:cut])
    both.add(totals(facts[cut:]))

    assert both.differs(totals(facts)) == []
    row = both.row()
    assert Totals.of_row(row).differs(both) == []


def test_the_command_finds_and_mends_what_is_wrong(sqlite_logs: Database) -> None:
    """`spoolway rollup check` exits with 1 and says where; `rebuild` mends it; then 0."""

    async def prepare() -> None:
        async with sqlite_logs.opened() as store:
            one = request(id_at(NOON), model_name="m\x1b[1m", cost=1.0)
            await store.write([one, error(id=id_at(NOON), model_name="x")])
            await merge_all(store)

    def rollup(*arguments: str) -> Ended:
        url = sqlite_logs.url.render_as_string(hide_password=False)
        return run("rollup", *arguments, "--database-url", url)

    asyncio.run(prepare())
    right = rollup("check", "--json")
    assert (right.code, right.json["differences"]) == (0, [])
    assert right.json["hours"] == 13  # of the one day that has rows
    asyncio.run(sqlite_logs.sql("UPDATE usage_hours SET cost = 3 WHERE requests = 1"))

    wrong = rollup("check", "--json")
    assert wrong.code == 1
    assert [one["table"] for one in wrong.json["differences"]] == [
        "usage_hours",
        "usage_days",
        "usage_model_hours",
        "usage_model_days",
        "usage_account_hours",
        "usage_account_days",
        "usage_outcome_hours",
        "usage_outcome_days",
    ]
    assert wrong.json["differences"][0]["measures"] == {"cost": {"is": 3.0, "rows": 1.0}}
    for_people = rollup("check")
    assert "usage_hours 2026-03-04T12:00Z model_name=m\\x1b[1m" in for_people.out
    assert "cost 3.0, rows say 1.0" in for_people.out
    assert rollup("check", "--since", "2026-03-05").code == 0
    assert rollup("check", "--since", "soon").code == 2

    mended = rollup("rebuild", "--json")
    assert (mended.code, mended.json["rebuilt"]) == (0, 1)
    assert rollup("check").code == 0


async def test_a_rebuild_adds_up_rows_of_before_there_were_roll_ups(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """Rows that an older version has written are in no roll-up until a rebuild, and then in all."""
    await write_all(store, items)
    await logs.sql("DELETE FROM usage_pending")
    rollup = await store.rollup()
    walked = await walk(rollup, None, None)
    assert walked is not None

    async for _ in proved(rollup, walked, rebuild=True, is_stopped=lambda: False):
        pass

    oldest = walked.start
    for level in LEVELS:
        expected = {
            key: counted
            for key, counted in (await grouped(logs, level.period, level.dimensions)).items()
            if key[0] >= oldest
        }
        found = await rows_of(logs, level)
        assert len(found) == len(expected)
        for row in found:
            agrees(row, expected[row[level.period], *(row[name] for name in level.dimensions)])


async def test_a_rebuild_leaves_alone_what_retention_has_taken_the_rows_of(
    logs: Database, store: Store
) -> None:
    """Usage of days whose rows are gone stays known, whatever is rebuilt."""
    await store.write([request(id_at(NOON - timedelta(days=9)), cost=1.0), request(id_at(NOON))])
    await merge_all(store)
    retention = await store.retention()
    async for _ in retention.steps(Cuts(requests=(NOON - timedelta(days=2)).date())):
        pass
    assert await logs.count("request_logs") == 1
    rollup = await store.rollup()
    walked = await walk(rollup, None, None)
    assert walked is not None

    async for _ in proved(rollup, walked, rebuild=True, is_stopped=lambda: False):
        pass
    checked = [one async for one in proved(rollup, walked, rebuild=False, is_stopped=lambda: False)]

    assert checked[-1].differences == []
    assert walked.left_alone > 24 * 8
    assert await logs.sql("SELECT sum(requests), sum(cost) FROM usage_hourly") == [(2, 1.0)]


async def test_adding_up_gives_way_to_events_that_come_in(
    sqlite_logs: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a worker that takes in all it can, only small pieces are added up, and for a moment."""
    monkeypatch.setattr("spoolway.worker.jobs.BUSY_MERGE_SECONDS", 0)
    progress = Progress(tmp_path / "worker-0.json", "one", 1)
    async with sqlite_logs.opened() as store:
        context: dict[str, Any] = {"store": store, "progress": progress}
        for _ in range(12):
            await store.write([request()])
        progress.totals.in_flight = 4_000
        some = await merge_usage(context)
        assert 0 < some < 5
        progress.totals.in_flight = 0
        assert await merge_usage(context) == 12 - some
    assert await sqlite_logs.count("usage_pending") == 0
