"""Usage as it is told: every number of every answer is what the rows come to, on both databases."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.schema import new_id
from spoolway.schema.usage import REQUEST_FACT
from spoolway.worker.config import Settings
from spoolway.worker.reading import (
    BadQuery,
    Filters,
    Period,
    ReadDatabase,
    Scope,
    Unavailable,
)
from spoolway.worker.reading.account import Page, Part, account, enough, period_of
from spoolway.worker.reading.breakdown import ORDERS, breakdown
from spoolway.worker.reading.trends import moments
from spoolway.worker.reading.usage import MOST, usage
from spoolway.worker.rollup import reading
from spoolway.worker.rollup.asking import midnight, tiles
from spoolway.worker.rollup.reading import read_groups
from spoolway.worker.rollup.totals import Totals
from spoolway.worker.stores import Item, Store
from tests import usage_expected as expected
from tests.stores import Database, error, id_at, request
from tests.usage_traffic import DIMENSIONS, grouped, is_near, merge_all, traffic, write_all

pytest_plugins = ["tests.store_fixtures"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "usage.md"
NOON: Final = datetime(2026, 3, 4, 12, tzinfo=UTC)
LONG: Final = (NOON - timedelta(hours=78, minutes=20), NOON + timedelta(minutes=10))
"""Two whole days, one of which has almost all, and parts of two more."""
SHORT: Final = (NOON - timedelta(hours=30, minutes=30), NOON - timedelta(hours=2))
EMPTY: Final = (NOON + timedelta(days=7), NOON + timedelta(days=9))

FILTERED: Final[tuple[Filters, ...]] = (
    Filters(),
    Filters(model=("gpt-4o", "")),
    Filters(provider=("openai",), outcome=("error", "")),
    Filters(user=("ada", "")),
    Filters(key=("key-1",), project=("one",)),
    Filters().within(Scope(users=("bob",), organizations=("org",))),
    Filters(user=("bob",), model=("claude-3",)).within(Scope(organizations=("",))),
)


@asynccontextmanager
async def opened(logs: Database) -> AsyncIterator[ReadDatabase]:
    """Open the database as who only reads has it."""
    url = logs.url.set(drivername=logs.url.get_backend_name())
    found = ReadDatabase.open(Settings(database_url=url.render_as_string(hide_password=False)))
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
async def database(logs: Database) -> AsyncIterator[ReadDatabase]:
    """The test's database, to be read."""
    async with opened(logs) as found:
        yield found


@pytest.fixture
def items() -> list[Item]:
    """Traffic of four days, with events that come twice, and errors before their request."""
    rng = random.Random(11)
    found = [
        *traffic(rng, 240, end=NOON),
        *traffic(rng, 40, end=NOON - timedelta(hours=50), hours=40),
        *(error(new_id(), id=id_at(NOON - timedelta(hours=5))) for _ in range(2)),
    ]
    late = request(
        id_at(NOON - timedelta(hours=1)), model_name="late", path="/v1/chat", method="POST"
    )
    found += [error(late, id=id_at(NOON - timedelta(hours=1))), late]
    return found + rng.sample(found, 60)


async def rows_of(logs: Database) -> expected.Rows:
    """Read all rows."""
    return expected.Rows(await logs.rows("request_logs"), await logs.rows("error_logs"))


async def in_every_state(
    logs: Database, store: Store, items: list[Item], check: Callable[[expected.Rows], Any]
) -> None:
    """Check with everything pending, half of it, and nothing; and after all of it came again."""
    half = len(items) // 2
    await write_all(store, items[:half])
    await check(await rows_of(logs))
    await merge_all(store)
    await write_all(store, items[half:])
    await check(await rows_of(logs))
    await merge_all(store)
    await write_all(store, items)
    assert await logs.count("usage_pending") == 0
    await check(await rows_of(logs))


async def test_every_figure_of_usage_is_that_of_the_rows(
    logs: Database, store: Store, items: list[Item], database: ReadDatabase
) -> None:
    """Whatever is pending or merged, filtered or not, by the hour or day: each number is recounted."""

    async def check(rows: expected.Rows) -> None:
        asked = [(one, LONG) for one in FILTERED]
        for filters, period in [*asked, (FILTERED[0], SHORT), (FILTERED[3], SHORT)]:
            found = await usage(database, filters, Period(*period))
            right = expected.usage(rows, *period, filters.given)
            assert expected.differences(found, right) == []
            assert found["total_stats"]["total_requests"] > 0

    await in_every_state(logs, store, items, check)


async def test_every_figure_of_a_breakdown_is_that_of_the_rows(
    logs: Database, store: Store, items: list[Item], database: ReadDatabase
) -> None:
    """By each dimension and each order: the largest, what is left and all of it are recounted."""

    async def check(rows: expected.Rows) -> None:
        for at, (name, column) in enumerate(Filters.COLUMNS.items()):
            filters = FILTERED[at] if name != "model" else Filters()
            order, limit = (
                list(ORDERS)[(at + len(rows.requests)) % len(ORDERS)],
                2 if at % 2 else 100,
            )
            found = await breakdown(
                database, name, filters, Period(*LONG), order=order, limit=limit
            )
            right = expected.breakdown(rows, LONG, column, filters.given, (order, limit))
            assert expected.differences({key: found[key] for key in right}, right) == []
            assert (found["dimension"], found["order"]) == (name, order)

    await in_every_state(logs, store, items, check)


async def test_every_figure_of_an_account_is_that_of_the_rows(
    logs: Database, store: Store, items: list[Item], database: ReadDatabase
) -> None:
    """Each record, in each order, and each sum of exactly the time asked for, are recounted."""
    asked = [
        (Filters(user=("ada",)), LONG, ("datetime", "desc"), (1, 7)),
        (Filters(key=("key-1",)), LONG, ("datetime", "asc"), (2, 5)),
        (Filters(user=("bob", "")), SHORT, ("cost", "desc"), (1, 100)),
        (FILTERED[-2], LONG, ("total_tokens", "asc"), (1, 100)),
        (Filters(), LONG, ("datetime", "desc"), (3, 60)),
        (Filters(), (NOON - timedelta(minutes=50), NOON - timedelta(minutes=9)), ("cost", "asc"), (1, 9)),
    ]  # fmt: skip

    async def check(rows: expected.Rows) -> None:
        for filters, (start, end), order, page in asked:
            dates = int(start.timestamp()), int(end.timestamp())
            found = await account(
                database, filters, Page(*page, *order), date_from=dates[0], date_to=dates[1], now=NOON
            )  # fmt: skip
            right = expected.account(rows, dates, filters.given, order, page)
            assert expected.differences(found, right) == []

    await in_every_state(logs, store, items, check)


async def test_all_measures_of_any_groups_are_those_of_the_rows(
    logs: Database, store: Store, items: list[Item], database: ReadDatabase
) -> None:
    """Groups by the hour, by the day and by neither have what the rows come to, from any level."""
    await write_all(store, items)
    await merge_all(store)
    start, end = NOON - timedelta(days=6), NOON + timedelta(hours=1)
    for dimensions in (DIMENSIONS, DIMENSIONS[:3], ("outcome",), ("user_id", "model_name"), ()):
        for bucket in ("hour", "day"):
            counted = await grouped(logs, bucket, dimensions)
            found = await read_groups(database, dimensions, start, end, Filters(), bucket=bucket)
            numbers: dict[Any, tuple[int, int, int]] = {}
            for (at, *values), one in counted.items():
                key = (at, *(value or None for value in values))
                before = numbers.get(key, (0, 0, 0))
                more = (one.requests, one.errors, int(one.sums["total_tokens"]))
                numbers[key] = tuple(map(sum, zip(before, more, strict=True)))  # type: ignore[assignment]  # three numbers, as before
            assert numbers == {
                key: (one.requests, one.errors, one.total_tokens) for key, one in found.items()
            }


async def test_nothing_is_lost_or_doubled_while_batches_are_written_and_merged(
    logs: Database, store: Store, database: ReadDatabase
) -> None:
    """Each answer has whole batches, and never fewer than the one before."""
    batches = [[request(id_at(NOON), cost=1.0) for _ in range(7)] for _ in range(30)]
    done = asyncio.Event()

    async def write() -> None:
        for batch in batches:
            await store.write(batch)
        done.set()

    async def merge() -> None:
        rollup = await store.rollup()
        while not done.is_set():
            await rollup.merge()

    async def look() -> list[int]:
        seen = []
        while not done.is_set():
            seen.append(await counted())
        return seen

    async def counted() -> int:
        found = await usage(database, Filters(), Period(*LONG))
        assert found["cost_stats"]["total_cost"] == found["total_stats"]["total_requests"]
        return int(found["total_stats"]["total_requests"])

    *both, _, _ = await asyncio.gather(look(), look(), write(), merge())

    for seen in both:
        assert seen == sorted(seen)
        assert not any(count % 7 for count in seen)
    assert await counted() == 7 * 30


async def test_where_nothing_was_every_figure_is_none_or_zero(
    logs: Database, store: Store, items: list[Item], database: ReadDatabase
) -> None:
    """A period without events, and filters that nothing passes, are answered, with trends of zeros."""
    await write_all(store, items[:50])
    nothing = Filters(user=("ada",)).within(Scope(users=("bob",)))
    for filters, period in ((Filters(), EMPTY), (nothing, LONG)):
        found = await usage(database, filters, Period(*period))
        right = expected.usage(expected.Rows([], []), *period, filters.given)
        assert expected.differences(found, right) == []
        parts = await breakdown(database, "user", filters, Period(*period))
        assert (parts["data"], parts["others"], parts["total"]["requests"]) == ([], None, 0)
    records = await account(database, nothing, now=NOON)
    assert (records["data"], records["total"], records["total_pages"]) == ([], 0, 1)
    assert records["has_more"] is False


async def test_what_is_filled_in_later_is_in_the_sums_and_no_request_twice(
    logs: Database, store: Store, database: ReadDatabase
) -> None:
    """Facts of enrichment, pending or merged, add a cost to a request that is counted already."""
    one = request(id_at(NOON), model_name="m", total_tokens=5)
    await store.write([one])
    event: Any = one.event
    fact = {**dict.fromkeys(REQUEST_FACT), "request_time": NOON, "model_name": "m"}
    fact |= {"outcome": event.outcome, "cost": 0.25, "kgco2eq_min": 1.0, "kgco2eq_max": 3.0}
    facts = msgspec.json.encode([[fact[name] for name in REQUEST_FACT]]).decode()
    await logs.sql(
        f"INSERT INTO usage_pending (id, kind, facts) VALUES ('{new_id()}', 'enrichment', '{facts}')"
    )
    for _ in range(2):
        found = await usage(database, Filters(), Period(*LONG))
        assert found["total_stats"]["total_requests"] == 1
        assert found["cost_stats"] == {
            "total_cost": 0.25,
            "priced_requests": 1,
            "unpriced_requests": 0,
        }
        [part] = (await breakdown(database, "model", Filters(), Period(*LONG)))["data"]
        assert (part["requests"], part["cost"], part["total_tokens"]) == (1, 0.25, 5)
        await merge_all(store)


async def test_numbers_no_sum_could_hold_are_answered(
    logs: Database, store: Store, database: ReadDatabase
) -> None:
    """The largest numbers that columns hold, more than once: an answer, and all of it JSON."""
    most = 2**63 - 1
    long_ago = [timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=2)]
    await store.write(
        [
            request(
                id_at(NOON - ago), model_name=f"m{at}" * 600, user_id=f"u{at}" * 600,
                total_tokens=most, cost=1.6e308, duration_ms=1.6e308,
            )
            for at, ago in enumerate(long_ago)
        ]
    )  # fmt: skip
    for _ in range(2):
        found = await usage(database, Filters(), Period(*LONG))
        assert is_near(found["token_stats"]["total_tokens"], 4 * most)
        assert all(is_near(one["total_tokens"], most) for one in found["tokens_by_model"])
        parts = await breakdown(database, "user", Filters(), Period(*LONG), limit=2)
        assert is_near(parts["total"]["total_tokens"], 4 * most)
        assert all(one["p50"] for one in parts["data"])
        records = await account(database, Filters(), now=NOON + timedelta(seconds=1))
        assert is_near(records["total_tokens"], 4 * most)
        for answer in (found, parts, records):
            assert b"null" not in orjson.dumps(_without_whole(answer.get("cost_stats", {})))
        await merge_all(store)


def _without_whole(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fractions, as orjson has no whole numbers above 64 bits; NaN would be null."""
    return {name: one for name, one in value.items() if isinstance(one, float)}


async def test_lists_have_an_end_however_many_names_clients_make_up(
    logs: Database, store: Store, database: ReadDatabase
) -> None:
    """Of models, stop reasons and types of errors the most frequent are told, and all are counted."""
    names = [f"model-{at:03}" for at in range(MOST + 5)]
    made = [
        one
        for name in names
        for one in (
            request(id_at(NOON), model_name=name, stop_reason=name, duration_ms=1.0),
            error(id=id_at(NOON), model_name=name, error_type=name),
        )
    ]
    await write_all(store, [*made, request(id_at(NOON), model_name=names[-1])])
    found = await usage(database, Filters(), Period(*LONG))
    for name in (
        "requests_by_model", "error_rates", "avg_response_times", "tokens_by_model",
        "stop_reasons", "errors_by_type",
    ):  # fmt: skip
        assert len(found[name]) == MOST, name
    assert found["requests_by_model"][0] == {"model_name": names[-1], "count": 2}
    assert found["total_stats"]["total_requests"] == len(names) + 1


async def test_too_much_that_is_pending_is_no_answer(
    logs: Database, store: Store, database: ReadDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody merges, reading ends with what to do, before it takes all memory."""
    monkeypatch.setattr(reading, "MOST_PENDING", 2)
    for _ in range(3):
        await store.write([request(id_at(NOON))])
    with pytest.raises(Unavailable, match="worker"):
        await usage(database, Filters(), Period(*LONG))
    await merge_all(store)
    assert (await usage(database, Filters(), Period(*LONG)))["status"] == "available"


async def test_an_account_whose_oldest_rows_are_gone_still_has_its_pages(
    logs: Database, store: Store, database: ReadDatabase
) -> None:
    """Retention takes rows and leaves usage: pages have the rows there are, and sums all of it."""
    made = [request(id_at(NOON - timedelta(hours=6 * at)), cost=1.0) for at in range(12)]
    await store.write(made)
    await merge_all(store)
    ids = ", ".join(f"'{one.event.id}'" for one in made[6:])
    await logs.sql(f"DELETE FROM request_logs WHERE id IN ({ids})")
    for direction, right in (("asc", made[5::-1]), ("desc", made[:6])):
        found = await account(database, Filters(), Page(1, 4, "datetime", direction), now=NOON)
        assert [one["id"] for one in found["data"]] == [str(one.event.id) for one in right[:4]]
        assert (found["total"], found["total_cost"]) == (12, 12.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Page(page=0),
        lambda: Page(limit=101),
        lambda: Page(limit=100, page=101),
        lambda: Page(order_by="id"),
        lambda: Page(order_direction="up"),
        lambda: period_of(2, 1, NOON),
        lambda: period_of(10**20, None, NOON),
        lambda: period_of(0, None, NOON),
    ],
)
def test_an_account_is_asked_for_within_bounds(ask: Callable[[], Any]) -> None:
    """Pages, orders and dates that there are not are refused with what there is."""
    with pytest.raises(BadQuery):
        ask()


@pytest.mark.parametrize(
    "ask", [{"by": "model_name"}, {"order": "price"}, {"limit": 0}, {"limit": 101}]
)
async def test_a_breakdown_is_asked_for_within_bounds(
    sqlite_logs: Database, ask: dict[str, Any]
) -> None:
    """Dimensions, orders and limits that there are not are refused with what there is."""
    async with opened(sqlite_logs) as database:
        with pytest.raises(BadQuery):
            await breakdown(
                database, **{"by": "model", "filters": Filters(), "period": Period(*LONG), **ask}
            )


HOURS: Final = st.integers(0, 400).map(lambda hours: NOON + timedelta(hours=hours))


@given(HOURS, st.integers(1, 200), st.sampled_from(["hour", "day", None]))
def test_tiles_cover_a_period_once(start: datetime, hours: int, bucket: Any) -> None:
    """Whole days are read by the day and the rest by the hour: no hour twice, none left out."""
    end = start + timedelta(hours=hours)
    found = tiles(start, end, bucket)
    covered: list[datetime] = []
    for period, parts in found.items():
        for first, last in parts:
            assert first < last
            assert period == "hour" or (first, last) == (midnight(first), midnight(last))
            covered += [first + timedelta(hours=at) for at in range(round((last - first).total_seconds() / 3600))]  # fmt: skip
    assert sorted(covered) == [start + timedelta(hours=at) for at in range(hours)]
    assert bucket != "hour" or "day" not in found


@given(HOURS, st.integers(1, 200), st.sampled_from(["hour", "day"]))
def test_trends_have_every_hour_or_day_once(start: datetime, hours: int, bucket: Any) -> None:
    """Steps follow each other without a gap, from the one of the first hour to that of the last."""
    end = start + timedelta(hours=hours)
    found = moments(start, end, bucket)
    touched = [start + timedelta(hours=at) for at in range(hours)]
    assert found == sorted({at if bucket == "hour" else midnight(at) for at in touched})


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 8),
    st.booleans(),
)  # fmt: skip
def test_a_page_is_looked_for_where_it_must_be(
    counts: list[int], number: int, limit: int, is_ascending: bool
) -> None:
    """The part that is read has as many requests as the page needs, and starts at the right end."""
    parts = [
        Part(NOON + timedelta(days=at), NOON + timedelta(days=at + 1), Totals(requests=count))
        for at, count in enumerate(counts)
    ]
    whole = Period(parts[0].start, parts[-1].end)
    page = Page(number, limit, "datetime", "asc" if is_ascending else "desc")
    found = enough(whole, page, parts)
    within = [part for part in parts if found.start <= part.start and part.end <= found.end]
    assert (found.start == whole.start) if is_ascending else (found.end == whole.end)
    assert found == whole or sum(part.totals.requests for part in within) >= number * limit
    assert enough(whole, replace(page, order_by="cost"), parts) == whole


async def test_the_examples_in_sql_run_and_are_exact(
    logs: Database, store: Store, items: list[Item]
) -> None:
    """What docs/usage.md shows of `usage_hourly` is what the rows come to, on the database it is for."""
    await write_all(store, items[:100])
    await merge_all(store)
    await write_all(store, items[100:])
    costs, shares = re.findall(r"```sql\n(.+?)```", PAGE.read_text(), re.DOTALL)
    rows = await rows_of(logs)
    if not logs.is_sqlite:
        found = await logs.sql(costs.replace("now()", "'2026-04-02'::timestamptz"))
        month = rows.of(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC), {})
        for user, count, tokens, cost in found:
            of_user = [row for row in month.requests if row["user_id"] == user]
            assert (count, tokens) == (len(of_user), expected.total(of_user, "total_tokens"))
            assert is_near(cost, expected.total(of_user, "cost"))
        assert {user for user, *_ in found} == {row["user_id"] for row in month.requests}
        return
    found = await logs.sql(shares)
    assert sum(count for _, _, count, _ in found) == len(rows.requests)
    for day, model, count, failed in found:
        of_model = [
            row
            for row in rows.requests
            if (f"{row['request_time']:%Y-%m-%d}", row["model_name"]) == (day, model)
        ]
        assert count == len(of_model)
        assert is_near(failed, expected.outcomes(of_model)["failed"] * 100 / count)
