"""A bad row never takes its batch down: repaired and marked, or refused by itself, on both stores."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoolway.schema import new_id
from spoolway.worker.stores import Item, Outcome, Refused, Store, write_isolating
from spoolway.worker.stores.isolate import narrowed
from tests.servers import PostgresServer
from tests.stores import (
    Counting,
    Database,
    Templates,
    as_stored,
    counts,
    error,
    exact_json,
    item_of,
    refuse,
    request,
    requests,
)

pytest_plugins = ["tests.store_fixtures"]

MANY = settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# --- Lines as any language may send them --------------------------------------------


@dataclass(frozen=True)
class Member:
    """Some members of an event's JSON object, and whether they can be stored as they are."""

    json: bytes
    good: bool


_RANDOM = random.Random(5)
INCOMPRESSIBLE = "".join(_RANDOM.choices("0123456789abcdefghijklmnopqrstuvwxyz", k=9_000)).encode()

GOOD = [
    b'"body":{"text":"\\\\u0000 and \\\\ud800 are legal text"}',
    b'"body":{ "spaced" : [ 1 , 2.50 , 1E2 ] ,\t"z":1, "a":{} }',
    b'"body":["\\ud83d\\ude00","\\uD83D\\uDE00","\\u00e9\\uffff","\xf0\x9f\x98\x80"]',
    b'"body":["1e999999","e00000000","-0e0","\\"9e99999\\""]',
    b'"body":[1e131071,1e-16383,-1.5e-300,' + b"9" * 7_000 + b"]",
    b'"body":' + b"[" * 300 + b"]" * 300,
    b'"body":"' + b"x" * 1_200_000 + b'"',
    b'"headers":{"x-request-id":"01890a5d-ac96-774b-bcce-b302099a8057","x":"1e123456789"}',
    b'"model_name":"' + b"m" * 1024 + b'"',
    b'"path":"\\\\u0000","project_id":"\xc3\xa9","query":"\\u0001\x7f"',
    b'"cost":1e-300,"total_tokens":9223372036854775807',
    b'"route":null,"stop_reason":""',
    b'"is_stream":true',
]
BAD = [
    b'"body":{"a":"x\\u0000y"}',
    b'"headers":{"a\\u0000":"\\\\\\u0000"}',
    b'"path":"/\\u0000"',
    b'"request_id":"\\u0000"',
    b'"body":["\\ud800"]',
    b'"body":["\\ud83d x \\ude00"]',
    b'"body":{"\\udc00\\ud800":1}',
    b'"body":["\\uDFFF x","\\uD800\\u0041"]',
    b'"user_id":"\\ud800"',
    b'"body":NaN',
    b'"body":[1,-Infinity]',
    b'"cost":NaN',
    b'"cost":Infinity',
    b'"body":["\xff"]',
    b'"body":{"\xed\xa0\x80":1}',
    b'"path":"\xc0\x80"',
    b'"model_name":"' + INCOMPRESSIBLE + b'"',
    b'"model_name":"' + "ü".encode() * 600 + b'"',
    b'"model_name":"' + b"m" * 100_000 + b'"',
    b'"body":[1e200000]',
    b'"body":1e131072',
    b'"body":{"n":-1.5E-20000}',
    b'"body":1e99999999999999999999',
    b'"body":' + b"9" * 140_000,
    b'"body":0.' + b"1" * 20_000,
    b'"body":' + b"[" * 20_000 + b"]" * 20_000,
    b'"response":' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b'"extra":' + b"[" * 20_000 + b"]" * 20_000,
    b'"path":' + b"[" * 20_000 + b"]" * 20_000,
    b'"prompt_tokens":1e30',
    b'"prompt_tokens":99999999999999999999',
    b'"request_time":"0001-01-01T00:00:00+05:00"',
    b'"request_time":"yesterday"',
    b'"outcome":"unheard-of"',
    b'"unknown":"\\u0000"',
]
MEMBERS = [Member(json, good=True) for json in GOOD] + [Member(json, good=False) for json in BAD]


def line_of(*members: Member) -> tuple[Item, bool]:
    """Return a request of these members, and whether it can be stored as it is."""
    known = b'"type":"request","id":"%s"' % str(new_id()).encode()
    joined = b",".join([known, *(member.json for member in members)])
    return item_of(b"{" + joined + b"}"), all(member.good for member in members)


def is_marked(row: dict[str, Any]) -> bool:
    """Tell whether a row says that something in it is not what was sent."""
    extra = row["extra"] if isinstance(row["extra"], dict) else {}
    return bool(row["truncated"] or extra.get("_altered"))


async def assert_all_land(
    both: list[tuple[Database, Store]], lines: Sequence[tuple[Item, bool]]
) -> None:
    """Write to both databases: all rows are there, good as sent, bad ones marked, both the same."""
    items = [item for item, _ in lines]
    found = []
    for logs, store in both:
        outcome = await write_isolating(store, items)
        assert (counts(outcome.written), outcome.refused) == ((len(items), 0, 0), [])
        found.append(await logs.events(items))
    assert found[0] == found[1]
    for (item, is_good), row in zip(lines, found[0], strict=True):
        if is_good:
            assert row == as_stored(item)
            assert not is_marked(row)
        else:
            assert is_marked(row), item.line[:200]


@pytest.fixture(scope="module")
def for_all(
    templates: Templates, tmp_path_factory: pytest.TempPathFactory, newest_postgres: PostgresServer
) -> Iterator[list[Database]]:
    """SQLite and the newest PostgreSQL, for tests that look at their own events alone."""
    folder = tmp_path_factory.mktemp("for_all")
    with templates.sqlite(folder) as one, templates.postgres(newest_postgres) as other:
        yield [one, other]


@pytest.mark.parametrize("bad", BAD, ids=lambda json: json[:24].decode(errors="replace"))
async def test_a_bad_value_is_repaired_and_marked_alone_and_among_others(
    for_all: list[Database], bad: bytes
) -> None:
    """What no database takes is repaired the same way everywhere; its neighbours are not touched."""
    good = [line_of(Member(json, good=True)) for json in GOOD]
    async with AsyncExitStack() as stack:
        both = [(logs, await stack.enter_async_context(logs.opened())) for logs in for_all]
        await assert_all_land(both, [line_of(Member(bad, good=False))])
        await assert_all_land(both, [*good[:6], line_of(Member(bad, good=False)), *good[6:]])


@MANY
@given(data=st.data())
async def test_any_mixture_of_good_and_bad_lines_lands_alike_on_both(
    both: list[tuple[Database, Store]], data: st.DataObject
) -> None:
    """However good and bad values meet in events and batches: every event lands, on both alike."""
    columns = {member: member.json.split(b":")[0] for member in MEMBERS}
    some = st.lists(st.sampled_from(MEMBERS), max_size=3, unique_by=lambda m: columns[m])
    drawn = data.draw(st.lists(some, min_size=1, max_size=12))

    await assert_all_land(both, [line_of(*members) for members in drawn])


async def test_a_bad_error_event_is_repaired_and_marked(
    both: list[tuple[Database, Store]],
) -> None:
    """Errors have no `truncated`: theirs is noted in extra_context, beside what was there."""
    owner = request()
    bad = [
        b'"error_message":"a\\u0000b"',
        b'"error_type":"' + INCOMPRESSIBLE + b'"',
        b'"extra_context":{"own":[1e200000,"\\ud800"]}',
        b'"extra_context":' + b"[" * 20_000 + b"]" * 20_000,
    ]
    items = [owner]
    for json_ in bad:
        known = f'"type":"error","id":"{new_id()}","request_id":"{owner.event.id}",'
        items.append(item_of(b"{" + known.encode() + json_ + b"}"))
    found = []
    for logs, store in both:
        outcome = await write_isolating(store, items)
        assert (counts(outcome.written), outcome.refused) == ((5, 0, 0), [])
        found.append(await logs.events(items))
        linked = await logs.sql("SELECT count(*) FROM error_logs WHERE request_log_id IS NOT NULL")
        assert linked == [(4,)]

    assert found[0] == found[1]
    notes = [row["extra_context"] for row in found[0][1:]]
    assert [[name for name in ("_altered", "_capped") if name in note] for note in notes] == [
        ["_altered"],
        ["_capped"],
        ["_altered"],
        ["_capped"],
    ]
    assert "own" in notes[2]


async def test_a_repaired_event_that_comes_again_is_a_duplicate(
    logs: Database, store: Store
) -> None:
    """A repair makes the same of the same line: a redelivery is recognised, in any company."""
    bad = [line_of(Member(json, good=False))[0] for json in BAD]
    good = requests(5, body={"n": [1.50, 1e5]})
    await write_isolating(store, [*good, *bad])

    for batch in ([*bad, *good], bad, good, [good[0], bad[0]]):
        outcome = await write_isolating(store, batch)
        assert (counts(outcome.written), outcome.refused) == ((0, len(batch), 0), [])


# --- Refused even when repaired -----------------------------------------------------


async def test_a_refused_row_is_returned_and_the_rest_lands(logs: Database, store: Store) -> None:
    """What a database will not have comes back with its reason; every other row is there, linked."""
    await refuse(logs)
    good = [*requests(10), error(), request(body={"a": "\0"})]
    linked = error(good[0])
    poison = [request(model_name="poison", body=["secret"]), error(model_name="poison")]
    batch = [*good[:4], poison[0], *good[4:], poison[1], linked]

    outcome = await write_isolating(store, batch)
    assert counts(outcome.written) == (13, 0, 0)
    assert [one.item for one in outcome.refused] == poison
    for one in outcome.refused:
        assert one.sqlstate == (None if logs.is_sqlite else "23514")
        assert "poison" in one.message  # the constraint's name, or the trigger's own words
        assert "secret" not in one.message
    assert await logs.count() == 11
    assert (await logs.row(linked))["request_log_id"] == good[0].event.id


async def test_a_trigger_that_raises_refuses_the_row_alone(newest_logs: Database) -> None:
    """RAISE EXCEPTION in an owner's trigger is about the row: it does not hold up all the others."""
    await newest_logs.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not in this table'; END $$",
        "CREATE TRIGGER no BEFORE INSERT ON request_logs FOR EACH ROW"
        " WHEN (NEW.path = '/private') EXECUTE FUNCTION no()",
    )
    private = request(path="/private")
    async with newest_logs.opened() as store:
        outcome = await write_isolating(store, [*requests(3), private, *requests(3)])

    assert counts(outcome.written) == (6, 0, 0)
    assert [(one.item, one.sqlstate) for one in outcome.refused] == [(private, "P0001")]
    assert "not in this table" in outcome.refused[0].message


@pytest.mark.parametrize("again", [False, True])
async def test_a_batch_of_refused_rows_alone_returns_them_all(
    logs: Database, store: Store, again: bool
) -> None:
    """Nothing lands, nothing is lost, and it says the same when it comes again."""
    await refuse(logs)
    batch = requests(7, model_name="poison")
    if again:
        await write_isolating(store, batch)

    outcome = await write_isolating(store, batch)
    assert counts(outcome.written) == (0, 0, 0)
    assert [one.item for one in outcome.refused] == batch


async def test_refused_rows_beside_duplicates_and_conflicts_are_counted_once(
    logs: Database, store: Store
) -> None:
    """Every item of a batch ends in exactly one count, whatever is in the batch."""
    await refuse(logs)
    seen = requests(5, path="/seen")
    await store.write(seen)
    poison = requests(3, model_name="poison")
    other = [request(item.event.id, path="/other") for item in seen[:2]]
    new = requests(6)
    batch = [*seen, *poison, *other, *new, new[0]]
    random.Random(3).shuffle(batch)

    outcome = await write_isolating(store, batch)
    assert counts(outcome.written) == (6, 6, 2)
    assert {id(one.item) for one in outcome.refused} == {id(item) for item in poison}
    assert {id(one.item) for one in outcome.written.conflicts} == {id(item) for item in other}


@pytest.mark.parametrize(
    ("bad", "seen"),
    [
        pytest.param(1, False, marks=pytest.mark.chaos),
        pytest.param(10, False, marks=pytest.mark.chaos),
        (100, False),
        pytest.param(500, False, marks=pytest.mark.chaos),
        pytest.param(1, True, marks=pytest.mark.chaos),
        (50, True),
    ],
)
async def test_the_cost_of_bad_rows_is_linear(
    both: list[tuple[Database, Store]], bad: int, seen: bool
) -> None:
    """A bad row costs a few transactions, and the rows are sent a few times, not once per bad row."""
    for logs, opened in both:
        await refuse(logs)
        store = Counting(opened)
        batch = requests(1000)
        for place in range(bad):
            at = place * 1000 // bad + 500 // bad
            batch[at] = request(model_name="poison")
        if seen:  # then there is no COPY to name the row
            await opened.write([batch[0]])

        outcome = await write_isolating(store, batch)
        assert len(outcome.refused) == bad
        assert counts(outcome.written) == (1000 - bad - seen, int(seen), 0)
        assert store.attempts <= 4 * bad + 20
        assert store.sent <= 10 * 1000


async def test_a_batch_without_a_bad_row_is_written_once(
    both: list[tuple[Database, Store]],
) -> None:
    """Isolation costs nothing where there is nothing to isolate."""
    for _, opened in both:
        store = Counting(opened)
        await write_isolating(store, requests(50))
        assert store.attempts == 1


async def test_what_is_no_refusal_ends_the_isolation(logs: Database, store: Store) -> None:
    """When the database goes away half-way, that is what is raised: the whole batch is held."""
    await refuse(logs)
    counting = Counting(store, fails_after=3)
    batch = [*requests(20), request(model_name="poison"), *requests(20)]

    with pytest.raises(ConnectionError):
        await write_isolating(counting, batch)
    outcome = await write_isolating(store, batch)
    assert outcome.written.inserted + outcome.written.duplicates == 40
    assert len(outcome.refused) == 1


# --- Narrowing down -----------------------------------------------------------------


@given(st.integers(2, 3_000), st.none() | st.integers(-5, 3_005))
def test_narrowing_loses_nothing_keeps_the_order_and_ends(size: int, row: int | None) -> None:
    """The parts are the whole, in its order, and each of them is smaller."""
    part = [request()] * 1
    whole = part * size

    parts = narrowed(whole, row)
    assert [item for piece in parts for item in piece] == whole
    assert all(0 < len(piece) < size for piece in parts)


def test_narrowing_takes_a_row_that_was_told_out_at_once() -> None:
    """What is before it is one part, then the row alone, then parts that grow."""
    whole = requests(100)

    assert [len(piece) for piece in narrowed(whole, 9)] == [9, 1, 20, 40, 30]
    assert narrowed(whole, 9)[1] == [whole[9]]
    assert [len(piece) for piece in narrowed(whole, None)] == [50, 50]


class Picky:
    """A store that refuses some items, and tells where or not."""

    def __init__(self, refused: Callable[[Item], bool], *, tells: Callable[[int], int | None]):
        self.written: list[Item] = []
        self._refused = refused
        self._tells = tells

    async def write(self, items: Sequence[Item]) -> Any:
        """Write all or nothing."""
        from spoolway.worker.stores import Written

        for row, item in enumerate(items):
            if self._refused(item):
                raise Refused("no", row=self._tells(row))
        self.written += items
        return Written(inserted=len(items))


@given(
    bad=st.sets(st.integers(0, 59), max_size=60),
    lie=st.none() | st.integers(-70, 70),
)
async def test_isolation_is_right_even_if_the_row_that_is_told_is_wrong(
    bad: set[int], lie: int | None
) -> None:
    """The row is a hint: a wrong one costs attempts, and no event."""
    batch = requests(60)
    refused = {batch[place].event.id for place in bad}
    store: Any = Picky(
        lambda item: item.event.id in refused,
        tells=lambda row: None if lie is None else row + lie,
    )

    outcome: Outcome = await write_isolating(store, batch)
    assert [one.item for one in outcome.refused] == [batch[place] for place in sorted(bad)]
    assert store.written == [item for item in batch if item.event.id not in refused]


def test_the_lines_of_these_tests_are_what_they_are_taken_for() -> None:
    """The good lines are JSON to the letter: nothing in them may need a repair."""
    for good in GOOD:
        exact_json("{" + good.decode() + "}")
