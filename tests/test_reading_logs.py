"""Requests and errors as they are listed, on both databases, against plain Python over the events."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from sqlalchemy.dialects import postgresql

from spoolway.schema import new_id
from spoolway.schema.columns import COLUMNS
from spoolway.worker.reading import BadQuery, Filters, Period, ReadDatabase, Scope, TooSlow
from spoolway.worker.reading.cursor import cursor_of, position_of
from spoolway.worker.reading.errors import ErrorQuery, Errors
from spoolway.worker.reading.listing import Page
from spoolway.worker.reading.logs import LogQuery, Logs
from tests.reading_database import note_into, reading
from tests.reading_traffic import (
    NOW,
    answers,
    error_answers,
    fill,
    make_traffic,
    random_error_query,
    random_log_query,
    random_scope,
)
from tests.stores import Database, error, id_at, item_of, request, requests

pytest_plugins = ["tests.store_fixtures"]

TRAFFIC = make_traffic(7, requests=300, errors=120)


async def every_page(listing: Logs | Errors, query: Any, limit: int) -> list[dict[str, Any]]:
    """Follow the cursors to the end."""
    rows: list[dict[str, Any]] = []
    after = None
    while True:
        page: Page = await listing.page(query, after=after, limit=limit)
        assert page.complete
        assert len(page.data) <= limit
        rows += page.data
        if page.next is None:
            return rows
        assert len(page.data) == limit
        after = page.next


def ids(rows: list[dict[str, Any]]) -> list[UUID]:
    """Return the rows' ids, in their order."""
    return [UUID(row["id"]) for row in rows]


async def test_every_page_of_every_question_is_what_python_finds(logs: Database) -> None:
    """All filters, alone and together, in all scopes: the rows, their order, each once."""
    await fill(logs, TRAFFIC)
    pick = random.Random(1)
    least = 1 if logs.is_sqlite else 11
    async with reading(logs) as database:
        for number in range(80 if logs.is_sqlite else 20):
            query = random_log_query(pick)
            limit = pick.choice([least, 50]) if number % 10 == 0 else 300
            found = await every_page(Logs(database), query, limit)
            assert ids(found) == answers(TRAFFIC, query), query
            if number % 20 == 0:
                exported = [row async for row in Logs(database).export(query)]
                assert exported == found, query
        for number in range(40 if logs.is_sqlite else 12):
            asked = random_error_query(pick, TRAFFIC)
            found = await every_page(Errors(database), asked, 5 if number % 10 == 0 else 300)
            assert ids(found) == error_answers(TRAFFIC, asked), asked
            if number % 20 == 0:
                assert [row async for row in Errors(database).export(asked)] == found, asked


async def test_a_token_sees_its_own_rows_and_nothing_else(logs: Database) -> None:
    """By no method, with no filter, by no cursor of another's, and by no id that it has heard of."""
    await fill(logs, TRAFFIC)
    pick = random.Random(2)
    owner = {event.id: event for event in TRAFFIC.requests}
    async with reading(logs) as database:
        listing, error_listing = Logs(database), Errors(database)
        for _ in range(20 if logs.is_sqlite else 5):
            scope = random_scope(pick)
            if scope.is_everything:
                continue

            def is_seen(log_id: UUID, scope: Scope = scope) -> bool:
                event = owner[log_id]
                return (not scope.users or (event.user_id or "") in scope.users) and (
                    not scope.organizations or (event.organization_id or "") in scope.organizations
                )

            others = cursor_of(pick.choice([key for key in owner if not is_seen(key)]))
            query = LogQuery(scope=scope, filters=Filters(user=pick.choice([(), ("ann", "bob")])))
            rows = (await listing.page(query, after=others, limit=300)).data
            rows += await listing.recent(query, since=NOW - timedelta(days=1), limit=300)
            rows += [row async for row in listing.export(query, whole=True)]
            assert all(is_seen(UUID(row["id"])) for row in rows)

            asked = ErrorQuery(scope=scope)
            rows = (await error_listing.page(asked, after=others, limit=300)).data
            rows += await error_listing.recent(asked, since=NOW - timedelta(days=1), limit=300)
            for row in rows:
                assert is_seen(TRAFFIC.links[UUID(row["id"])].id)

            for log_id in pick.sample(list(owner), 5):
                assert (await listing.one(log_id, scope) is not None) == is_seen(log_id)
                of_one = ErrorQuery(scope=scope, request=log_id)
                assert is_seen(log_id) or not (await error_listing.page(of_one)).data
                by_id = LogQuery(scope=scope, request_id=(str(log_id),))
                assert is_seen(log_id) or not (await listing.page(by_id)).data


async def test_one_request_has_all_its_columns_and_its_errors(logs: Database) -> None:
    """JSON is parsed, or passed on as it is stored; an error that nobody has linked yet is there."""
    body = {"n": [1, 2.5, None, True], "text": "Ü\n\u2028", "big": 2**63}
    sent = request(body=body, request_id="theirs", cost=0.25, cached_tokens=2**62)
    linked = error(sent, error_type="First", extra_context={"a": 1})
    late = error(sent, error_type="Second")
    async with logs.opened() as store:
        await store.write([sent, error(error_type="Other"), late, linked])
    await logs.sql(f"UPDATE error_logs SET request_log_id = NULL WHERE id = '{late.event.id}'")
    async with reading(logs) as database:
        found = await Logs(database).one(sent.event.id)
        assert found is not None
        assert set(found) == {*COLUMNS["request"], "created_at", "enriched", "error_logs"}
        assert found["id"] == str(sent.event.id)
        assert found["body"] == body
        assert found["cached_tokens"] == 2**62
        assert found["response"] is None
        assert [row["error_type"] for row in found["error_logs"]] == ["First", "Second"]
        assert found["error_logs"][0]["extra_context"] == {"a": 1}
        assert found["request_time"].endswith("Z")
        assert datetime.fromisoformat(found["request_time"]).tzinfo == UTC

        fragments = await Logs(database, fragments=True).one(sent.event.id)
        assert json.loads(orjson.dumps(fragments)) == found
        assert await Logs(database).one(new_id()) is None
        assert await Logs(database).one(UUID(int=5)) is None


async def test_a_number_that_no_float_holds_is_handed_out_with_every_digit(logs: Database) -> None:
    """It is legal JSON; Python's own would make inf of it, which is none."""
    line = b'{"type":"request","id":"%s","body":{"n":1e400}}' % str(new_id()).encode()
    sent = item_of(line)
    async with logs.opened() as store:
        await store.write([sent])
    async with reading(logs) as database:
        found = await Logs(database).one(sent.event.id)
        assert found is not None
        assert found["body"]["n"] in ("1e400", 10**400)  # PostgreSQL writes it out
        fragments = await Logs(database, fragments=True).one(sent.event.id)
        assert b"inf" not in orjson.dumps(fragments).lower()


async def test_paging_is_complete_and_repeats_nothing_while_rows_come_in(logs: Database) -> None:
    """Rows that were there at the start are seen once each; new ones are before the first page."""
    there = requests(60)
    async with logs.opened() as store, reading(logs) as database:
        await store.write(there)
        seen: list[UUID] = []
        after, is_over = None, False
        while not is_over:
            page = await Logs(database).page(LogQuery(), after=after, limit=7)
            seen += ids(page.data)
            after, is_over = page.next, page.next is None
            await store.write([*requests(5), request(id_at(NOW - timedelta(days=2)))])
    assert len(seen) == len(set(seen))
    assert {item.event.id for item in there} <= set(seen)


async def test_who_watches_sees_the_newest_that_came_in_in_their_order(logs: Database) -> None:
    """By when they were stored, however late that was; older ones are for the listing."""
    async with logs.opened() as store, reading(logs) as database:
        first, second = request(id_at(NOW - timedelta(hours=2))), request()
        for item in (first, second):
            await store.write([item])
        rows = await Logs(database).recent(LogQuery(), since=NOW - timedelta(minutes=5))
        assert ids(rows) == [first.event.id, second.event.id]
        since = datetime.fromisoformat(rows[-1]["created_at"])
        assert ids(await Logs(database).recent(LogQuery(), since=since))[-1:] == [second.event.id]
        assert not await Logs(database).recent(LogQuery(), since=since + timedelta(hours=1))
        assert ids(await Logs(database).recent(LogQuery(), since=NOW - timedelta(1), limit=1)) == [
            second.event.id
        ]


async def test_a_page_that_takes_too_long_says_where_to_go_on(sqlite_logs: Database) -> None:
    """What is found by then is handed out; following the cursors still finds everything once."""
    wanted = [request(id_at(NOW - timedelta(hours=h)), path="/b") for h in range(0, 60, 5)]
    async with sqlite_logs.opened() as store:
        await store.write([*wanted, *[request(id_at(NOW - timedelta(hours=h))) for h in range(60)]])
    query = LogQuery(Period(NOW - timedelta(hours=61), NOW + timedelta(hours=1)), path=("/b",))
    async with reading(sqlite_logs, query_timeout=0.5) as database:
        found: list[UUID] = []
        after, incomplete = None, 0
        while True:
            page = await Logs(Slow(database, seconds_each=0.3)).page(query, after=after, limit=5)
            found += ids(page.data)
            incomplete += not page.complete
            if page.next is None:
                break
            after = page.next
        assert incomplete > 5
        assert found == [item.event.id for item in wanted]


async def test_a_page_on_which_nothing_can_be_read_is_refused(sqlite_logs: Database) -> None:
    """A cursor to go on with would lead back to it."""
    async with reading(sqlite_logs) as database:
        slow = Slow(database, seconds_each=2.0, refuses=True)
        with pytest.raises(TooSlow):
            await Logs(slow).page(LogQuery(path=("/b",)))


class Slow(ReadDatabase):
    """A database each of whose answers takes so long, by its clock, or longer than it may."""

    def __init__(
        self, database: ReadDatabase, *, seconds_each: float, refuses: bool = False
    ) -> None:
        self._now = 0.0
        super().__init__(
            database._backend,
            database.dialect,
            seconds=database.seconds,
            clock=lambda: self._now,
        )
        self._each = seconds_each
        self._refuses = refuses

    async def fetch(self, statement: Any, *, seconds: float | None = None) -> list[Any]:
        """Answer, or not."""
        self._now += self._each
        if self._refuses:
            raise TooSlow(seconds or self.seconds)
        return await super().fetch(statement)


async def test_pages_walk_the_primary_key_of_the_days_asked_for(postgres_logs: Database) -> None:
    """PostgreSQL reads no other partition, sorts nothing, and ends as soon as the page is full."""
    items = [request(id_at(NOW - timedelta(hours=h))) for h in range(0, 240, 2)]
    async with postgres_logs.opened() as store:
        await store.write(items)
    for query in (LogQuery(), LogQuery(Period(NOW - timedelta(days=9), NOW - timedelta(days=3)))):
        async with reading(postgres_logs) as database:
            asked: list[Any] = []
            database.fetch = note_into(asked, database.fetch)  # type: ignore[method-assign]  # to see what is asked
            await Logs(database).page(query, limit=5)
        sql = asked[0].compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
            compile_kwargs={"literal_binds": True},
        )
        plan = "\n".join(
            row[0]
            for row in await postgres_logs.sql(
                "SET enable_seqscan = off", f"EXPLAIN {str(sql).replace('%', '%%')}"
            )
        )
        assert "Index Scan Backward" in plan, plan
        assert "Sort" not in plan, plan
        # A day's window touches two days; those ahead of now are empty, and not read before these.
        assert 1 <= plan.count("Index Scan Backward") <= 4, plan


# --- What cannot be asked ---------------------------------------------------------


BAD = ["\0", "a\0b", "\ud800", "x" * 1_001]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["status", "path", "request_id", "error_type"])
def test_text_that_no_row_can_have_is_refused(name: str, value: str) -> None:
    """NUL, lone surrogates and what is too long never reach a database."""
    asked: dict[str, Any] = {name: (value,)}
    with pytest.raises(BadQuery):
        LogQuery(**asked)
    with pytest.raises(BadQuery):
        LogQuery(q=value)
    with pytest.raises(BadQuery):
        Filters(model=(value,))
    with pytest.raises(BadQuery):
        ErrorQuery(model=(value,))


def test_other_values_that_no_row_can_have_are_refused() -> None:
    """Each with a line that says what can be asked."""
    questions: list[dict[str, Any]] = [
        {"status": ("6xx",)},
        {"status": ("abc",)},
        {"status": ("99999999999999999999",)},
        {"min_duration_ms": float("nan")},
        {"max_duration_ms": float("inf")},
        {"min_duration_ms": -1.0},
        {"q": "nine words are one more than there may be"},
        {"path": ("a",) * 101},
    ]
    for bad in questions:
        with pytest.raises(BadQuery) as refused:
            LogQuery(**bad)
        assert "\n" not in str(refused.value)
    with pytest.raises(BadQuery, match="outcome is"):
        Filters(outcome=("failed",))


async def test_limits_and_cursors_that_are_none_are_refused(sqlite_logs: Database) -> None:
    """A cursor that was changed on its way is told from one of ours."""
    good = cursor_of(new_id())
    bad = ["", "x", good[:-1], good + "A", good.swapcase(), "é" * 28, "=" * 28, " " * 28, "\0"]
    async with reading(sqlite_logs) as database:
        for limit in (0, -1, 1_001):
            with pytest.raises(BadQuery):
                await Logs(database).page(LogQuery(), limit=limit)
        for cursor in bad[1:]:
            with pytest.raises(BadQuery):
                await Logs(database).page(LogQuery(), after=cursor)
        for end in (UUID(int=0), UUID(int=2**128 - 1)):
            assert (await Logs(database).page(LogQuery(), after=cursor_of(end))).data == []
    assert position_of(good)


def test_every_other_cursor_is_refused() -> None:
    """Any one character changed is noticed."""
    good = cursor_of(new_id())
    for at in range(len(good)):
        changed = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
        with pytest.raises(BadQuery):
            position_of(changed)
