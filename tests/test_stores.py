"""The contract of both stores: the same rules, proved on SQLite and on every PostgreSQL found."""

import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoolway.schema import encode_line, new_id
from spoolway.schema.columns import COLUMNS
from spoolway.schema.tables import TABLES as TABLE_OF_TYPE
from spoolway.worker.stores import Item, Refused, Retryable, Store, StoreError, Unreachable
from tests.servers import aeventually
from tests.stores import (
    Database,
    as_stored,
    counts,
    delay,
    error,
    exact_json,
    id_at,
    item_of,
    refuse,
    request,
    requests,
    without_own,
)
from tests.strategies import error_fields, legal_fields, nested, request_fields

pytest_plugins = ["tests.store_fixtures"]

MANY = settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""One database for all examples of a test: each brings ids of its own."""

# --- Every column arrives as it was sent --------------------------------------------

MOMENT = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=UTC)
REQUEST: dict[str, Any] = {
    "request_time": MOMENT,
    "model_name": "gpt-4o",
    "is_stream": True,
    "path": "/v1/chat/completions",
    "method": "POST",
    "query": "a=1&b=%20",
    "headers": {"accept": "*/*", "x-many": ["1", "2"]},
    "body": {"messages": [{"role": "user", "content": "Grüße, 世界 🎉"}], "n": 1},
    "route": {"name": "eu", "weights": [0.25, 0.75]},
    "backend_attempts": [{"backend": "a", "ok": False}, {"backend": "b", "ok": True}],
    "stream_chunks": ["data: {}", "data: [DONE]"],
    "errors": [{"type": "Timeout", "after_ms": 1e3}],
    "usage_stats": {"prompt_tokens": 3},
    "outcome": "success",
    "duration_ms": 1234.5678,
    "request_id": "req-1",
    "http_status": 200,
    "provider": "openai",
    "provider_model": "gpt-4o-2026-01-01",
    "response": {"choices": [{"finish_reason": "stop"}]},
    "stop_reason": "stop",
    "ttft_ms": 0.1,
    "prompt_tokens": 3,
    "completion_tokens": 4,
    "total_tokens": 7,
    "cached_tokens": 0,
    "reasoning_tokens": 1,
    "cost": 0.000123,
    "kwh_min": 1e-9,
    "kwh_max": 2e-9,
    "kgco2eq_min": 3e-9,
    "kgco2eq_max": 4e-9,
    "user_id": "u",
    "api_key_id": "k",
    "organization_id": "o",
    "project_id": "p",
    "client_ip": "2001:db8::1",
    "truncated": ["response"],
    "extra": {"team": "a", "deep": {"x": [None, True, 1.5]}},
}
ERROR: dict[str, Any] = {
    "timestamp": MOMENT,
    "model_name": "gpt-4o",
    "error_type": "TimeoutError",
    "error_message": "no answer\n  within 30 s",
    "backend_name": "b1",
    "http_status": 504,
    "request_path": "/v1/chat/completions",
    "request_id": UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    "extra_context": {"attempt": 2, "headers": {"retry-after": "1"}},
}


def test_the_full_events_of_these_tests_fill_every_column() -> None:
    """A column that is added to a table has to be added to these tests."""
    for fields, kind in ((REQUEST, "request"), (ERROR, "error")):
        own = {"id", "created_at", "request_log_id", "enriched"}
        assert fields.keys() == {column.name for column in TABLE_OF_TYPE[kind].c} - own


@pytest.mark.parametrize(("make", "fields"), [(request, REQUEST), (error, ERROR)])
async def test_every_column_arrives_as_it_was_sent(
    logs: Database, store: Store, make: Callable[..., Item], fields: dict[str, Any]
) -> None:
    """All columns at once come back through the declared tables with the values sent."""
    item = make(**fields)

    assert counts(await store.write([item])) == (1, 0, 0)
    row = without_own(await logs.row(item))
    assert row == as_stored(item)
    assert None not in row.values()


EXTREMES: dict[str, dict[str, Any]] = {
    "int64": {"http_status": 2**63 - 1, "prompt_tokens": -(2**63), "total_tokens": 0},
    "floats": {"cost": 5e-324, "kwh_min": 1.7976931348623157e308, "kwh_max": -0.0, "ttft_ms": 0.1},
    "whole-floats": {"cost": 2**53, "duration_ms": -1},
    "text": {"path": "", "query": "a\tb\r\n\\\"'%s{}", "user_id": "\uffff\ufffe\U0010ffff\x7f\x01"},
    "long-text": {"path": "é" * 500_000},
    "names": {"model_name": "m" * 1024, "user_id": "u" * 1024, "path": "p" * 5_000},
    "time-first": {"request_time": "0001-01-01T00:00:00Z"},
    "time-last": {"request_time": "9999-12-31T23:59:59.999999Z"},
    "time-offset": {"request_time": "2026-01-31T23:59:59.123456+14:00"},
    "time-before-1970": {"request_time": "1969-12-31T23:59:59.999999-12:00"},
    "json-scalars": {"body": True, "route": 0, "errors": "text", "headers": "", "response": 1.5},
    "json-empty": {"body": {}, "route": [], "errors": [[]], "headers": {"": {"": ""}}},
    "json-null-inside": {"body": [None], "headers": {"a": None}},
    "json-text": {"body": {"a\\u0000b": "\\ud800 \\\\u0000 / \u2028 \U0001f600"}},
    "json-deep": {"body": nested(250), "response": nested(250, dict)},
    "json-large": {"body": {"content": "lorem ipsum " * 90_000}},
    "not-streamed": {"is_stream": False, "outcome": "cancelled"},
}


async def test_extremes_arrive_as_they_were_sent(logs: Database, store: Store) -> None:
    """The ends of every type's range, empty values, and very large ones are stored exactly."""
    cases = {case: request(**fields) for case, fields in EXTREMES.items()}
    cases["error"] = error(error_message="é" * 70_000, error_type="t" * 1024, http_status=-(2**63))

    await store.write(list(cases.values()))
    for case, item in cases.items():
        assert (case, without_own(await logs.row(item))) == (case, as_stored(item))


NUMBERS = [
    "9" * 300,
    "-0." + "123456789" * 33 + "1",
    "1e400",
    "-1.5E-400",
    "18446744073709551616",
    "0.1",
    "1.00",
    "-0",
    "1e131071",
    "1e-16383",
]


async def test_numbers_in_json_keep_every_digit(logs: Database, store: Store) -> None:
    """A number of JSON is never rounded to a float."""
    body = f'{{"n":[{",".join(NUMBERS)}]}}'
    item = item_of(f'{{"type":"request","id":"{new_id()}","body":{body}}}'.encode())

    await store.write([item])
    assert (await logs.row(item))["body"] == exact_json(body)


@pytest.mark.parametrize("value", ["null", " null", None])
async def test_json_null_and_an_absent_field_are_sql_null(
    logs: Database, store: Store, value: str | None
) -> None:
    """`null` in a JSON column is SQL NULL, not a JSON null beside it; so is a missing field."""
    columns = [name for name, kind in COLUMNS["request"].items() if name != "id"]
    fields = "" if value is None else "".join(f',"{name}":{value}' for name in columns)
    item = item_of(f'{{"type":"request","id":"{new_id()}"{fields}}}'.encode())

    await store.write([item])
    nulls = " AND ".join(f"{name} IS NULL" for name in columns if name != "request_time")
    assert await logs.sql(f"SELECT count(*) FROM request_logs WHERE {nulls}") == [(1,)]


async def test_a_missing_time_is_the_time_in_the_id(logs: Database, store: Store) -> None:
    """request_time and timestamp are the ids' own times, in UTC, where an event has none."""
    moment = datetime.now(UTC).replace(microsecond=789_000)
    item = request(id_at(moment))
    other = item_of(orjson.dumps({"type": "error", "id": id_at(moment)}))

    await store.write([item, other])
    assert (await logs.row(item))["request_time"] == moment
    assert (await logs.row(other))["timestamp"] == moment


async def test_created_at_is_the_time_of_the_write_in_utc(logs: Database, store: Store) -> None:
    """created_at is filled by the logs, in UTC, whatever time the event is from."""
    item, other = request(request_time="2001-01-01T00:00:00Z"), error()
    before = datetime.now(UTC)
    await store.write([item, other])
    after = datetime.now(UTC)

    for one in (item, other):
        created = (await logs.row(one))["created_at"]
        assert created.utcoffset() == timedelta(0)
        # SQLite's clock has milliseconds.
        assert before - timedelta(milliseconds=1) <= created <= after


@MANY
@given(events=st.lists(legal_fields(), min_size=1, max_size=6))
async def test_whatever_fits_its_column_arrives_as_it_was_sent(
    logs: Database, store: Store, events: list[dict[str, Any]]
) -> None:
    """Any legal events, encoded as the producer does, are stored unaltered."""
    items = [item_of(encode_line({**fields, "id": new_id()})) for fields in events]

    assert counts(await store.write(items)) == (len(items), 0, 0)
    assert await logs.events(items) == [as_stored(item) for item in items]


@MANY
@given(events=st.lists(request_fields() | error_fields(), min_size=1, max_size=6))
async def test_whatever_a_producer_sends_is_stored_and_the_same_on_both(
    both: list[tuple[Database, Store]], events: list[dict[str, Any]]
) -> None:
    """What the producer's encoder lets through, no database refuses, and both hold the same."""
    items = [item_of(encode_line({**fields, "id": new_id()})) for fields in events]

    found = []
    for logs, store in both:
        assert counts(await store.write(items)) == (len(items), 0, 0)
        found.append(await logs.events(items))
    assert found[0] == found[1]


# --- Counts are exact ---------------------------------------------------------------


async def test_an_empty_batch_is_nothing(store: Store) -> None:
    """Nothing written, nothing counted, nothing raised."""
    assert counts(await store.write([])) == (0, 0, 0)


async def test_new_events_are_inserted(logs: Database, store: Store) -> None:
    """Events with new ids are all inserted."""
    batch = [*requests(20), *(error() for _ in range(5))]

    assert counts(await store.write(batch)) == (25, 0, 0)
    assert (await logs.count(), await logs.count("error_logs")) == (20, 5)


async def test_a_batch_that_comes_again_is_all_duplicates(logs: Database, store: Store) -> None:
    """A redelivery inserts nothing and counts every event, however often it comes."""
    batch = [*requests(20, body={"a": 1}), *(error(request()) for _ in range(5))]
    await store.write(batch)
    before = await logs.rows()

    for _ in range(3):
        assert counts(await store.write(batch)) == (0, 25, 0)
    assert await logs.rows() == before


async def test_a_mix_is_counted_exactly(logs: Database, store: Store) -> None:
    """Of seen and new events in one batch, each is counted as what it is."""
    seen = [*requests(7), error()]
    await store.write(seen)
    new = [*requests(5), error(), error()]
    batch = [*seen, *new]
    random.Random(1).shuffle(batch)

    assert counts(await store.write(batch)) == (7, 8, 0)
    assert len(await logs.ids()) == 12


async def test_the_same_event_twice_in_a_batch_is_one_row(logs: Database, store: Store) -> None:
    """A second copy within a batch is a duplicate, of requests and of errors."""
    one, other = request(body=[1]), error()

    assert counts(await store.write([one, other, one, other, one])) == (2, 3, 0)
    assert counts(await store.write([one, one])) == (0, 2, 0)
    assert await logs.count() == 1


async def test_other_content_under_an_id_is_a_conflict_and_the_first_stays(
    logs: Database, store: Store
) -> None:
    """An id that comes again with other content is returned, and nothing in the table changes."""
    first = [request(path="/first"), request(path="/second"), error(error_message="first")]
    await store.write(first)
    before = await logs.rows(), await logs.rows("error_logs")
    again = request(first[0].event.id, path="/other")
    error_again = item_of(first[2].line.replace(b"first", b"other"))

    written = await store.write([again, first[1], error_again])
    assert counts(written) == (0, 1, 2)
    assert [conflict.item for conflict in written.conflicts] == [again, error_again]
    assert (await logs.rows(), await logs.rows("error_logs")) == before


async def test_a_conflict_leaves_the_rest_of_its_batch_alone(logs: Database, store: Store) -> None:
    """New events beside a conflict are inserted."""
    first = request(path="/first")
    await store.write([first])
    new = requests(3)

    written = await store.write([new[0], request(first.event.id, path="/x"), new[1], new[2]])
    assert counts(written) == (3, 0, 1)
    assert (await logs.row(first))["path"] == "/first"


async def test_a_conflict_within_a_batch_keeps_the_first(logs: Database, store: Store) -> None:
    """Of two events with one id in the same batch the first is stored, the second returned."""
    first, other = request(path="/first"), requests(1)[0]
    second = request(first.event.id, path="/second")
    errors = [error(error_message="a")]
    errors.append(item_of(errors[0].line.replace(b'"a"', b'"b"')))

    written = await store.write([first, other, second, *errors])
    assert counts(written) == (3, 0, 2)
    assert [conflict.item for conflict in written.conflicts] == [second, errors[1]]
    assert (await logs.row(first))["path"] == "/first"


SPELLINGS = [
    ('"body":{"a":1,"b":[]}', '"body":{ "b" : [ ], "a" : 1.0 }'),
    ('"body":"\\u00e9"', '"body":"é"'),
    ('"body":null', '"path":null'),
    ('"cost":1', '"cost":1.0'),
    ('"request_time":"2026-01-01T00:00:00Z"', '"request_time":"2026-01-01T01:00:00+01:00"'),
    ('"model_name":"' + "x" * 2_000 + '"', '"model_name": "' + "x" * 2_000 + '"'),
]
CONTENTS = [
    ('"body":1', '"body":true'),
    ('"body":1', '"body":"1"'),
    ('"body":[1,2]', '"body":[2,1]'),
    ('"body":[1]', '"body":null'),
    ('"path":""', '"path":null'),
    ('"cost":0.1', '"cost":0.10000000000000002'),
    ('"body":' + "9" * 30, '"body":' + "9" * 29 + "8"),
]


@pytest.mark.parametrize("in_one_batch", [True, False])
async def test_content_is_compared_by_its_meaning(store: Store, in_one_batch: bool) -> None:
    """How JSON is spelled is no other content; another value is. In a batch as in the table."""
    first, second = [], []
    for pair in SPELLINGS + CONTENTS:
        event_id = new_id()
        lines = [f'{{"type":"request","id":"{event_id}",{fields}}}'.encode() for fields in pair]
        first.append(item_of(lines[0]))
        second.append(item_of(lines[1]))

    if in_one_batch:
        written = await store.write([*first, *second])
        assert written.inserted == len(first)
    else:
        await store.write(first)
        written = await store.write(second)
    different = {conflict.item.event.id for conflict in written.conflicts}
    assert [item.event.id in different for item in second] == [False] * len(SPELLINGS) + [
        True
    ] * len(CONTENTS)
    assert written.duplicates == len(SPELLINGS)


async def test_a_link_that_was_made_is_no_other_content(store: Store) -> None:
    """An error that was linked since it came is still the same error."""
    owner = request()
    early = error(owner)
    await store.write([early])
    await store.write([owner])

    assert counts(await store.write([early, owner])) == (0, 2, 0)


# --- One transaction or nothing -----------------------------------------------------


@pytest.mark.parametrize("bad", [request, error])
async def test_a_refused_row_leaves_nothing_of_its_batch(
    logs: Database, store: Store, bad: Callable[..., Item]
) -> None:
    """`write` itself is all or nothing: what came before the refused row is gone, too."""
    await refuse(logs)
    known = request(path="/known")
    await store.write([known])

    with pytest.raises(Refused):
        await store.write([*requests(3), error(), known, bad(model_name="poison")])
    assert (await logs.ids(), await logs.count("error_logs")) == ([known.event.id], 0)
    assert counts(await store.write(requests(2))) == (2, 0, 0)


async def test_a_refusal_tells_the_row_where_it_can_tell_it(logs: Database, store: Store) -> None:
    """`row` is the index in the batch; of a batch of both tables, whose rows count apart, none."""
    await refuse(logs)
    of_requests = [*requests(3), request(model_name="poison"), *requests(2)]
    of_errors = [error(), error(model_name="poison")]
    for batch, row in ((of_requests, 3), (of_errors, 1), (of_requests + of_errors, None)):
        with pytest.raises(Refused) as raised:
            await store.write(batch)
        assert raised.value.row == row


async def test_a_write_past_its_deadline_leaves_nothing_and_is_unreachable(
    logs: Database,
) -> None:
    """A statement that takes too long is cut off: no row, no lock, and the next write works."""
    await delay(logs)
    async with logs.opened(write_timeout=1.0) as store:
        await store.write(requests(1))
        loop = asyncio.get_running_loop()
        start = loop.time()
        with pytest.raises((Unreachable, Retryable)):
            await store.write([*requests(3), request(model_name="slow")])
        assert 0.5 < loop.time() - start < 2.0

        assert counts(await store.write(requests(2))) == (2, 0, 0)
    assert await logs.count() == 3


async def test_a_cancelled_write_leaves_nothing(logs: Database, store: Store) -> None:
    """A worker that is stopped in the middle of a write leaves no row, no lock, no connection."""
    await delay(logs)
    await store.write(requests(1))
    writing = asyncio.create_task(store.write([*requests(3), request(model_name="slow")]))
    await aeventually(lambda: _is_inserting(logs), what="the write to be under way")

    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert counts(await store.write(requests(2))) == (2, 0, 0)
    assert await logs.count() == 3


async def _is_inserting(logs: Database) -> bool:
    if not logs.is_sqlite:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return bool((await logs.sql(sleeping))[0][0])
    with closing(sqlite3.connect(logs.path, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return bool(error.sqlite_errorcode == sqlite3.SQLITE_BUSY)
    return False


async def test_writes_cancelled_at_any_moment_never_break_the_store(
    logs: Database, store: Store
) -> None:
    """Whenever a write is cancelled, all of it is there or nothing, and the store goes on."""
    loop = asyncio.get_running_loop()
    await store.write(requests(1))
    start = loop.time()
    await store.write([*requests(50, path="/timed"), error()])
    usual = loop.time() - start
    batches = []
    for step in range(40):
        batch = [*requests(50), error()]
        batches.append(batch)
        writing = asyncio.create_task(store.write(batch))
        loop.call_later(usual * step / 40, writing.cancel)
        await asyncio.wait({writing})

    there = set(await logs.ids())
    parts = [sum(item.event.id in there for item in batch[:50]) for batch in batches]
    assert set(parts) <= {0, 50}
    assert 0 in parts
    assert counts(await store.write(requests(2))) == (2, 0, 0)
    if not logs.is_sqlite:
        await aeventually(lambda: _at_most(logs, 5))


async def _at_most(logs: Database, connections: int) -> bool:
    return await logs.backends() <= connections


# --- Errors and their requests ------------------------------------------------------


async def links(logs: Database) -> dict[UUID, UUID | None]:
    """For every error, the request it is linked to."""
    return {row["id"]: row["request_log_id"] for row in await logs.rows("error_logs")}


Order = Callable[[Store, Item, Item], Awaitable[None]]


async def _request_first(store: Store, owner: Item, one: Item) -> None:
    await store.write([owner])
    await store.write([one])


async def _error_first(store: Store, owner: Item, one: Item) -> None:
    await store.write([one])
    await store.write([owner])


async def _one_batch(store: Store, owner: Item, one: Item) -> None:
    await store.write([owner, one])


async def _one_batch_error_first(store: Store, owner: Item, one: Item) -> None:
    await store.write([one, owner])


async def _one_batch_seen_before(store: Store, owner: Item, one: Item) -> None:
    seen = request()
    await store.write([seen])
    await store.write([seen, one, owner])


async def _error_with_seen_request(store: Store, owner: Item, one: Item) -> None:
    await store.write([owner])
    await store.write([owner, one])


async def _request_with_seen_error(store: Store, owner: Item, one: Item) -> None:
    await store.write([one])
    await store.write([one, owner])


ORDERS = [
    _request_first,
    _error_first,
    _one_batch,
    _one_batch_error_first,
    _one_batch_seen_before,
    _error_with_seen_request,
    _request_with_seen_error,
]


@pytest.mark.parametrize("order", ORDERS)
async def test_an_error_is_linked_to_its_request_in_any_order(
    logs: Database, store: Store, order: Order
) -> None:
    """Whichever comes first, and in however many batches: in the end the link is there."""
    owner = request()
    one, unrelated = error(owner), error()
    await store.write([unrelated])

    await order(store, owner, one)
    assert await links(logs) == {one.event.id: owner.event.id, unrelated.event.id: None}


async def test_links_reach_over_midnight(logs: Database, store: Store) -> None:
    """An error of the next day is linked to the request of the day before, in any order."""
    midnight = datetime(2026, 3, 2, tzinfo=UTC)
    before, after = midnight - timedelta(milliseconds=1), midnight + timedelta(milliseconds=1)
    pairs = []
    for order in (_request_first, _error_first, _one_batch):
        owner = request(id_at(before))
        one = error(owner, id=id_at(after))
        await order(store, owner, one)
        pairs.append((one.event.id, owner.event.id))

    assert await links(logs) == dict(pairs)


async def test_an_error_keeps_the_reference_to_a_request_that_never_comes(
    logs: Database, store: Store
) -> None:
    """Such an error is stored at once, with request_id as given and no link."""
    one = error(new_id())

    assert counts(await store.write([one])) == (1, 0, 0)
    row = await logs.row(one)
    assert (row["request_id"], row["request_log_id"]) == (one.event.request_id, None)
    assert await store.link_errors() == 0


async def test_an_error_may_refer_to_an_id_that_is_no_uuid7(logs: Database, store: Store) -> None:
    """The reference of another scheme is kept; an error is never refused for it."""
    other = uuid4()
    one, with_request = error(other), request()

    assert counts(await store.write([one, with_request])) == (2, 0, 0)
    assert (await logs.row(one))["request_id"] == other


async def test_errors_that_two_writers_missed_are_linked_later(
    logs: Database, store: Store
) -> None:
    """link_errors() links what neither of two concurrent batches could see, and counts it."""
    owners = requests(3)
    missed = [error(owner) for owner in owners]
    await store.write([*owners, *missed, error(new_id())])
    await logs.sql("UPDATE error_logs SET request_log_id = NULL")  # as if neither had seen

    assert await store.link_errors() == 3
    assert await store.link_errors() == 0
    found = await links(logs)
    assert [found[one.event.id] for one in missed] == [owner.event.id for owner in owners]


async def test_deleting_a_request_keeps_its_errors(logs: Database, store: Store) -> None:
    """The link is a real foreign key, ON DELETE SET NULL; the reference stays."""
    owner = request()
    one = error(owner)
    await store.write([owner, one])

    on = "PRAGMA foreign_keys = ON" if logs.is_sqlite else "SELECT 1"
    await logs.sql(on, "DELETE FROM request_logs")
    row = await logs.row(one)
    assert (row["request_log_id"], row["request_id"]) == (None, owner.event.id)


# --- Several writers ----------------------------------------------------------------


async def _written(store: Store, batch: list[Item]) -> tuple[int, int, int]:
    """Write as the worker does: again after another transaction was in the way."""
    while True:
        try:
            return counts(await store.write(batch))
        except Retryable:
            continue


@pytest.mark.parametrize("shuffled", [False, True])
async def test_writers_with_the_same_events_insert_each_once(
    logs: Database, shuffled: bool
) -> None:
    """However batches overlap, each id is in the table once, and the counts add up."""
    events = [*requests(60), *(error(request()) for _ in range(20))]
    rng = random.Random(7)
    total = [0, 0, 0]

    async def writer(seed: int) -> None:
        async with logs.opened() as store:
            for _ in range(3):
                batch = rng.sample(events, 40)
                if not shuffled:
                    batch.sort(key=lambda item: item.event.id)
                for i, count in enumerate(await _written(store, batch)):
                    total[i] += count

    await asyncio.gather(*(writer(seed) for seed in range(4)))
    there = {*await logs.ids(), *await logs.ids("error_logs")}
    assert total == [len(there), 4 * 3 * 40 - len(there), 0]
    assert there <= {item.event.id for item in events}


async def test_one_store_takes_several_batches_at_once(logs: Database, store: Store) -> None:
    """Batches in flight together are all written, more of them than there are connections."""
    batches = [[*requests(10), error()] for _ in range(12)]

    results = await asyncio.gather(*(store.write(batch) for batch in batches))
    assert {counts(result) for result in results} == {(11, 0, 0)}
    assert await logs.count() == 120


async def test_concurrent_conflicts_keep_exactly_one_content(logs: Database) -> None:
    """Of two contents for one id, written at once, one is stored and the other returned."""
    for _ in range(10):
        event_id = new_id()
        contents = [request(event_id, path=path) for path in ("/a", "/b")]
        async with logs.opened() as one, logs.opened() as other:
            found = await asyncio.gather(
                _written(one, [contents[0]]), _written(other, [contents[1]])
            )
        assert sorted(found) == [(0, 0, 1), (1, 0, 0)]


# --- Errors of the caller's kind ----------------------------------------------------


async def test_tables_that_are_missing_are_nobodys_row(logs: Database, store: Store) -> None:
    """A database without its tables is no reason to give up a row: the batch is held."""
    await logs.sql("DROP TABLE error_logs", "DROP TABLE request_logs")

    with pytest.raises(StoreError) as raised:
        await store.write(requests(2))
    assert not isinstance(raised.value, Refused)


# --- What the worker fills in ---------------------------------------------------------


def _priced(item: Item, cost: float) -> Item:
    """Return a request as the worker makes it that knows a price."""
    event = msgspec.structs.replace(item.event, cost=cost)
    return Item(event, item.text, item.day, b'{"cost": {"by": "x"}}')


async def test_what_was_filled_in_is_stored_and_says_from_where(
    logs: Database, store: Store
) -> None:
    """A filled-in cost is in its column, `enriched` says whose it is; other rows have none of it."""
    plain, priced = request(cost=1.0), _priced(request(), 2.0)
    again = _priced(request(), 3.0)

    await store.write([plain, priced])
    await store.write([plain, again])  # through the staging table, on PostgreSQL

    by_id = {row["id"]: row for row in await logs.rows()}
    assert [by_id[item.event.id]["cost"] for item in (plain, priced, again)] == [1.0, 2.0, 3.0]
    assert by_id[plain.event.id]["enriched"] is None
    assert by_id[priced.event.id]["enriched"] == by_id[again.event.id]["enriched"]
    assert by_id[priced.event.id]["enriched"] == {"cost": {"by": "x"}}
    assert await logs.sql("SELECT sum(requests), sum(priced), sum(cost) FROM usage_hourly") == [
        (3, 3, 6.0)
    ]


async def test_an_event_that_comes_again_after_prices_have_changed_is_a_duplicate(
    logs: Database, store: Store
) -> None:
    """The first price stays; whether the second has none, or another, it is the same event."""
    item = request(user_id="ada")
    await store.write([_priced(item, 2.0)])

    for again in (item, _priced(item, 5.0)):
        assert counts(await store.write([again])) == (0, 1, 0)
    other = request(item.event.id, user_id="eve")
    assert counts(await store.write([_priced(other, 2.0)])) == (0, 0, 1)
    [row] = await logs.rows()
    assert (row["cost"], row["user_id"]) == (2.0, "ada")
