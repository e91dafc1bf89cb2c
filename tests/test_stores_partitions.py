"""Partitions on PostgreSQL: made for the days that come, without standing in anybody's way."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

import pytest

from spoolway.migrations import check
from spoolway.worker.stores import Retryable, Store, StoreError, Unknown
from spoolway.worker.stores.partitions import utc_today
from tests.servers import aeventually
from tests.stores import (
    Database,
    counts,
    error,
    id_at,
    postgres_transaction,
    request,
    requests,
    within,
)

pytest_plugins = ["tests.store_fixtures"]

DAY = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)


@pytest.fixture
async def pg(postgres_logs: Database) -> AsyncIterator[Store]:
    """A store on every PostgreSQL found, with a deadline that no test should meet."""
    async with postgres_logs.opened() as opened:
        yield opened


# --- Made for what comes ------------------------------------------------------------


async def test_partitions_are_made_for_the_days_of_a_batch(
    postgres_logs: Database, pg: Store
) -> None:
    """A batch of several days, of years apart, makes a partition of both tables for each of them."""
    days = [DAY, DAY + timedelta(days=1), date(2025, 1, 31), date(2028, 2, 29)]
    noons = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in days]

    written = await pg.write([request(id_at(noon)) for noon in noons])
    assert written.inserted == 4
    for table in ("request_logs", "error_logs"):
        assert await postgres_logs.partitions(table) == [
            f"{table}_p{day:%Y%m%d}" for day in sorted(days)
        ]


async def test_an_id_at_the_edge_of_midnight_is_in_its_own_day(
    postgres_logs: Database, pg: Store
) -> None:
    """The last millisecond of a day belongs to it, the first one to the next day."""
    before, at = request(id_at(MIDNIGHT - MS)), request(id_at(MIDNIGHT))
    last, first = error(id=id_at(MIDNIGHT - MS)), error(id=id_at(MIDNIGHT))
    await pg.write([before, at, last, first])

    for table, ids in (("request_logs", (before, at)), ("error_logs", (last, first))):
        found = await postgres_logs.sql(f"SELECT tableoid::regclass::text, id FROM {table}")
        assert sorted(found) == [
            (f"{table}_p20260228", ids[0].event.id),
            (f"{table}_p20260301", ids[1].event.id),
        ]


async def test_prepared_days_are_there_before_anything_is(
    postgres_logs: Database, pg: Store
) -> None:
    """prepare_days makes what is missing of a range, and counts it."""
    assert await pg.prepare_days(DAY, 3) == 6
    assert await pg.prepare_days(DAY, 3) == 0
    assert await pg.prepare_days(DAY - timedelta(days=1), 5) == 4
    assert len(await postgres_logs.partitions()) == 5


async def test_sqlite_has_no_days_to_prepare(sqlite_logs: Database) -> None:
    """There is nothing to make, and nothing fails."""
    async with sqlite_logs.opened() as store:
        assert await store.prepare_days(DAY, 3) == 0


async def test_several_writers_of_a_new_day_make_its_partition_once(
    postgres_logs: Database,
) -> None:
    """Workers that all need the same days at once take turns, and all of them succeed."""
    days = [MIDNIGHT + timedelta(days=day) for day in range(4)]

    async def write(seed: int) -> tuple[int, int, int]:
        async with postgres_logs.opened() as store:
            order = days[seed % 4 :] + days[: seed % 4]
            return counts(await store.write([request(id_at(day)) for day in order]))

    assert await asyncio.gather(*(write(seed) for seed in range(8))) == [(4, 0, 0)] * 8
    assert len(await postgres_logs.partitions()) == 4


async def test_a_partition_is_what_the_table_declares(postgres_logs: Database, pg: Store) -> None:
    """A partition has its table's columns, defaults, checks, indexes, key and compression."""
    await pg.prepare_days(DAY, 1)
    await postgres_logs.sql(
        "CREATE TABLE request_logs_other PARTITION OF request_logs DEFAULT",
        "CREATE TABLE error_logs_other PARTITION OF error_logs DEFAULT",
    )
    for table in ("request_logs", "error_logs"):
        ours = await _definition(postgres_logs, f"{table}_p20260301")
        assert ours == await _definition(postgres_logs, f"{table}_other")
    assert await check(postgres_logs.url) == []


async def _definition(logs: Database, partition: str) -> list[object]:
    return [
        await logs.sql(
            "SELECT attname, atttypid, attnotnull, attcompression, attstorage,"
            " pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef"
            " ON adrelid = attrelid AND adnum = attnum"
            f" WHERE attrelid = '{partition}'::regclass AND attnum > 0 ORDER BY attnum"
        ),
        await logs.sql(
            "SELECT contype, pg_get_constraintdef(oid), convalidated FROM pg_constraint"
            f" WHERE conrelid = '{partition}'::regclass ORDER BY 1, 2"
        ),
        await logs.sql(
            f"SELECT replace(indexdef, '{partition}', '') FROM pg_indexes"
            f" WHERE tablename = '{partition}' ORDER BY 1"
        ),
    ]


# --- Gone behind our back -----------------------------------------------------------


async def test_a_partition_that_was_dropped_is_made_again(
    postgres_logs: Database, pg: Store
) -> None:
    """Retention may drop a day that a worker has seen: the next event of that day makes it anew."""
    one = request(id_at(MIDNIGHT))
    await pg.write([one])
    await postgres_logs.sql(
        "ALTER TABLE request_logs DETACH PARTITION request_logs_p20260301",
        "DROP TABLE request_logs_p20260301, error_logs_p20260301",
    )
    other, belated = request(id_at(MIDNIGHT + MS)), error(id=id_at(MIDNIGHT + MS))

    assert counts(await pg.write([other, belated])) == (2, 0, 0)
    assert await postgres_logs.ids() == [other.event.id]
    assert counts(await pg.write([request(id_at(MIDNIGHT))])) == (1, 0, 0)


async def test_a_detached_partition_holds_its_events_up_and_refuses_none(
    postgres_logs: Database, pg: Store
) -> None:
    """Where a table of the name stands outside, nothing is given up: other days go on."""
    await pg.write([request(id_at(MIDNIGHT))])
    await postgres_logs.sql("ALTER TABLE request_logs DETACH PARTITION request_logs_p20260301")

    with pytest.raises(Unknown) as raised:
        await pg.write([request(id_at(MIDNIGHT))])
    assert raised.value.sqlstate == "42P07"
    assert '"request_logs_p20260301" already exists' in str(raised.value)
    assert counts(await pg.write(requests(1))) == (1, 0, 0)

    await postgres_logs.sql("DROP TABLE request_logs_p20260301")
    assert counts(await pg.write([request(id_at(MIDNIGHT))])) == (1, 0, 0)


# --- In nobody's way ----------------------------------------------------------------


async def _write_a_new_day(store: Store) -> None:
    await store.write([request(id_at(MIDNIGHT)), error(id=id_at(MIDNIGHT))])


async def _prepare_new_days(store: Store) -> None:
    await store.prepare_days(DAY + timedelta(days=5), 2)


NEEDING = [_write_a_new_day, _prepare_new_days]


async def test_a_reader_does_not_hold_up_a_new_partition(
    postgres_logs: Database, pg: Store
) -> None:
    """A report or a dump that reads for hours: partitions are made and filled beside it."""
    await pg.write([*requests(3), error()])
    async with (
        postgres_transaction(
            postgres_logs, "SELECT * FROM request_logs", "SELECT * FROM error_logs"
        ),
        within(5),
    ):
        for needing in NEEDING:
            await needing(pg)


async def test_a_new_partition_does_not_hold_up_readers(postgres_logs: Database, pg: Store) -> None:
    """Even while it waits for a writer: whoever reads does not queue behind it."""
    await pg.write([*requests(3), error()])
    changed = "UPDATE request_logs SET path = 'x'", "UPDATE error_logs SET request_path = 'x'"
    async with postgres_transaction(postgres_logs, *changed):
        making = asyncio.create_task(pg.prepare_days(DAY, 1))
        await aeventually(lambda: _waits_for_a_lock(postgres_logs), what="it to wait")
        async with within(0.5):
            assert await postgres_logs.count() == 3
            assert await postgres_logs.count("error_logs") == 1
        assert not making.done()
        making.cancel()
        await asyncio.wait({making})


async def _waits_for_a_lock(logs: Database) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    [(found,)] = await logs.sql(f"{waiting} AND datname = current_database()")
    return int(found) > 0


async def test_a_partition_that_cannot_be_made_now_is_tried_again(newest_logs: Database) -> None:
    """A transaction that has written and stays open: retryable within 2 s, and no queue behind it."""
    async with newest_logs.opened() as store:
        await store.write([*requests(3), error()])
        async with postgres_transaction(newest_logs, "UPDATE request_logs SET path = 'x'"):
            for needing in NEEDING:
                async with within(3):
                    with pytest.raises(Retryable) as raised:
                        await needing(store)
                assert raised.value.sqlstate == "55P03"
            async with within(3):  # a day that has its partitions
                assert counts(await store.write(requests(3))) == (3, 0, 0)
        for needing in NEEDING:
            await needing(store)
    assert await newest_logs.count() == 7


async def test_writers_and_new_partitions_never_wait_in_a_circle(
    postgres_logs: Database,
) -> None:
    """Batches of requests and errors beside partitions being made: no deadlock, nothing lost."""
    days = [MIDNIGHT + timedelta(days=day) for day in range(12)]

    async def stubbornly(step: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await step()
            except Retryable as problem:
                if problem.sqlstate != "55P03":  # a machine that is slow; a circle is 40P01
                    raise
            else:
                return

    async def write(seed: int) -> None:
        async with postgres_logs.opened() as store:
            for day in days[seed % 3 :]:
                owner = request(id_at(day))
                batch = [owner, error(owner), *requests(20), error()]
                await stubbornly(partial(store.write, batch))

    async def make() -> None:
        async with postgres_logs.opened() as store:
            for day in range(30):
                await stubbornly(partial(store.prepare_days, DAY + timedelta(days=day + 20), 1))

    await asyncio.gather(*(write(seed) for seed in range(5)), make(), make())
    assert await postgres_logs.count("error_logs") == 2 * (12 + 11 + 10 + 12 + 11)


async def test_a_deadline_holds_while_partitions_are_made(postgres_logs: Database) -> None:
    """With a deadline shorter than the usual wait for a lock, that is what counts."""
    async with postgres_logs.opened(write_timeout=0.5) as store:
        await store.write(requests(1))
        async with (
            postgres_transaction(postgres_logs, "LOCK TABLE request_logs"),
            within(1.5),
        ):
            with pytest.raises(StoreError):
                await store.prepare_days(DAY, 2)
        assert await store.prepare_days(DAY, 2) == 4


async def test_today_is_utc_s_day() -> None:
    """Days are those of UTC, as the ids' times are."""
    assert utc_today() in {datetime.now(UTC).date(), (datetime.now(UTC) - MS).date()}
