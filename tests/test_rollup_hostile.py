"""Roll-ups beside what is odd: clocks that are wrong, rows that are gone, numbers beyond any column."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spoolway.schema import new_id
from spoolway.worker.rollup.proving import Proved, proved, walk
from spoolway.worker.rollup.rebuilding import Kept
from spoolway.worker.rollup.totals import MOST_NAMES, OTHERS
from spoolway.worker.stores import Item, Store
from spoolway.worker.stores.retaining import Cuts
from tests.stores import Database, error, id_at, request
from tests.usage_traffic import merge_all

pytest_plugins = ["tests.store_fixtures"]

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
CUT = (NOON - timedelta(days=2)).date()


async def prove(store: Store, *, rebuild: bool, kept: Kept | None = None) -> Proved:
    """Rebuild or compare everything."""
    rollup = await store.rollup()
    walked = await walk(rollup, None, None, kept or Kept())
    assert walked is not None
    done = [one async for one in proved(rollup, walked, rebuild=rebuild, is_stopped=lambda: False)]
    return done[-1]


async def usage(logs: Database) -> list[tuple[Any, ...]]:
    """Return requests and errors, by hours and by days."""
    found = [
        await logs.sql(f"SELECT sum(requests), sum(errors) FROM {table}")
        for table in ("usage_hourly", "usage_days")
    ]
    return [tuple(int(number) for number in rows[0]) for rows in found]


def both_at(moment: datetime) -> list[Item]:
    """Return a request and an error of a moment."""
    return [
        request(id_at(moment), cost=1.0, request_time=moment.isoformat()),
        error(id=id_at(moment), timestamp=moment.isoformat()),
    ]


@pytest.mark.parametrize("cuts", [Cuts(requests=CUT), Cuts(errors=CUT)])
async def test_a_rebuild_keeps_what_is_known_of_requests_where_errors_alone_have_rows(
    logs: Database, store: Store, cuts: Cuts
) -> None:
    """Errors may be kept longer than requests, and the other way round: neither's usage is lost."""
    await store.write([*both_at(NOON - timedelta(days=9)), *both_at(NOON)])
    await merge_all(store)
    async for _ in (await store.retention()).steps(cuts):
        pass

    checked = await prove(store, rebuild=False)
    rebuilt = await prove(store, rebuild=True)

    assert checked.differences == []
    assert rebuilt.changed == 0
    assert await usage(logs) == [(2, 2), (2, 2)]


async def test_a_rebuild_is_not_misled_by_an_event_that_came_late(
    logs: Database, store: Store
) -> None:
    """One row of a day that retention has taken is no sign that the others of it are there."""
    old = NOON - timedelta(days=9)
    await store.write([*both_at(old), *both_at(NOON)])
    await merge_all(store)
    async for _ in (await store.retention()).steps(Cuts(requests=CUT, errors=CUT)):
        pass
    await store.write(both_at(old - timedelta(days=1)))
    kept = datetime(CUT.year, CUT.month, CUT.day, tzinfo=UTC)

    await prove(store, rebuild=True, kept=Kept(kept, kept))

    assert await usage(logs) == [(3, 3), (3, 3)]


@pytest.mark.parametrize("year", ["0001", "2199", "9999"])
async def test_a_clock_that_is_wrong_by_years_does_not_make_a_check_endless(
    logs: Database, store: Store, year: str
) -> None:
    """Looked at are the hours that ids say, and a day around them."""
    moment = f"{year}-12-31T23:30:00Z"
    await store.write([request(new_id(), request_time=moment), error(timestamp=moment)])
    await merge_all(store)

    checked = await prove(store, rebuild=False)

    assert checked.hours < 100
    assert checked.differences == []
    assert await usage(logs) == [(1, 1), (1, 1)]


async def test_the_first_moment_there_is_does_not_stop_merging(
    logs: Database, store: Store
) -> None:
    """The zero time of a producer in Go: it is merged, again and again, and proved like any other."""
    moment = "0001-01-01T00:00:00Z"
    first = datetime(1, 1, 1, tzinfo=UTC)
    rollup = await store.rollup()
    for _ in range(3):
        await store.write([request(request_time=moment), error(timestamp=moment)])
        assert await rollup.merge() > 0

    assert await usage(logs) == [(3, 3), (3, 3)]
    assert await rollup.check_hour(first) == []
    assert await rollup.check_day(first) == []
    assert not await rollup.rebuild_day(first)


async def test_sums_beyond_a_column_are_what_a_rebuild_makes_of_them(
    logs: Database, store: Store
) -> None:
    """Where a sum is bounded, a check takes the bound for right."""
    most = 2**63 - 1
    for number in (most, most, 5):
        await store.write([request(id_at(NOON), total_tokens=number, cost=1.7e308)])
        await merge_all(store)

    assert (await prove(store, rebuild=False)).differences == []
    assert (await logs.sql("SELECT total_tokens FROM usage_hours")) == [(most,)]


@pytest.mark.parametrize("name", ["stop_reason", "user_id", "api_key_id", "project_id", "provider"])
async def test_a_name_of_a_megabyte_is_not_held_in_every_roll_up(
    logs: Database, store: Store, name: str
) -> None:
    """What usage is told apart by is capped before it is stored; its digest tells it from others."""
    long = ["x" * 1_000_000 + end for end in "ab"]
    await store.write([request(**{name: text}) for text in long])
    await merge_all(store)

    stored = [row[0] for row in await logs.sql(f"SELECT {name} FROM request_logs")]
    assert len(set(stored)) == 2
    assert max(len(text.encode()) for text in stored) <= 1024
    assert (await prove(store, rebuild=False)).differences == []


async def test_names_that_somebody_makes_up_do_not_grow_without_end(
    logs: Database, store: Store
) -> None:
    """A group names so many types of errors and no more; all of them are counted, also by a check."""
    await store.write([error(id=id_at(NOON), error_type=f"E{at}") for at in range(MOST_NAMES)])
    await merge_all(store)
    await store.write([error(id=id_at(NOON), error_type=f"F{at % 9}") for at in range(90)])
    await merge_all(store)

    [(names,)] = await logs.sql("SELECT CAST(error_types AS TEXT) FROM usage_hours")
    found = json.loads(names)
    assert len(found) == MOST_NAMES
    assert found["F3"] == 10
    assert found[OTHERS] == 10
    assert await usage(logs) == [(0, MOST_NAMES + 90)] * 2
    assert (await prove(store, rebuild=False)).differences == []
    assert (await prove(store, rebuild=True)).changed == 0


@pytest.mark.parametrize(
    "facts",
    [
        '[["2026-01-01T00:00:00Z",null]]',
        '[["no time at all, but it ends in Z","m",null]]',
        "{",
        "7",
    ],
)
async def test_facts_that_nobody_can_read_end_no_counting(
    logs: Database, store: Store, facts: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are set aside, said aloud, and in no sum; everything else is counted, then and later."""
    damaged = (
        f"INSERT INTO usage_pending (id, kind, facts) VALUES ('{new_id()}', 'error', '{facts}')"
    )
    await logs.sql(damaged)
    await store.write(both_at(NOON))
    assert (await prove(store, rebuild=False)).differences == []
    await merge_all(store)
    await store.write(both_at(NOON))
    await merge_all(store)

    assert await usage(logs) == [(2, 2), (2, 2)]
    assert await logs.sql("SELECT kind, facts FROM usage_pending") == [("unreadable", facts)]
    assert "1 rows of usage_pending cannot be read" in caplog.text
    assert (await prove(store, rebuild=False)).differences == []
