"""What only SQLite's way of writing can get wrong: many rows a statement, and one call a batch."""

import re
import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.stores import Refused, StoreError
from spoolway.worker.stores.sqlite_batch import Abandoned, SqliteBatch, in_transaction
from spoolway.worker.stores.storable import _is_good_json, _is_plain
from tests.stores import Database, as_stored, counts, error, refuse, request, requests

pytest_plugins = ["tests.store_fixtures"]


@pytest.mark.parametrize("row", [0, 1, 249, 250, 499, 503, 510, 512])
async def test_the_row_that_is_refused_is_named_wherever_it_is(
    sqlite_logs: Database, row: int
) -> None:
    """In the first statement of many rows, in a later one, and among those that are left over."""
    await refuse(sqlite_logs)
    for make in (request, error):
        batch = [make() for _ in range(513)]
        batch[row] = make(model_name="poison")
        async with sqlite_logs.opened() as store:
            with pytest.raises(Refused) as raised:
                await store.write(batch)
            assert raised.value.row == row
            assert counts(await store.write(batch[:row] + batch[row + 1 :])) == (512, 0, 0)


async def test_a_trigger_that_ends_the_transaction_leaves_nothing_of_the_batch(
    sqlite_logs: Database,
) -> None:
    """RAISE(ROLLBACK): rows that came after it would each be committed by themselves."""
    await sqlite_logs.sql(
        "CREATE TRIGGER ends BEFORE INSERT ON request_logs WHEN NEW.model_name = 'poison'"
        " BEGIN SELECT RAISE(ROLLBACK, 'not here'); END"
    )
    batch = requests(600)
    batch[300] = request(model_name="poison")
    async with sqlite_logs.opened() as store:
        with pytest.raises(StoreError):
            await store.write(batch)
        assert await sqlite_logs.count() == 0
        assert counts(await store.write(requests(2))) == (2, 0, 0)


async def test_a_trigger_s_own_conflicts_are_its_own_affair(sqlite_logs: Database) -> None:
    """INSERT OR REPLACE in an owner's trigger replaces: a batch has no OR that would override it."""
    await sqlite_logs.sql(
        "CREATE TABLE last (model_name TEXT PRIMARY KEY, path TEXT)",
        "CREATE TRIGGER keep AFTER INSERT ON request_logs"
        " BEGIN INSERT OR REPLACE INTO last VALUES (NEW.model_name, NEW.path); END",
    )
    batch = [request(model_name="a", path=f"/{number}") for number in range(300)]
    async with sqlite_logs.opened() as store:
        assert counts(await store.write(batch)) == (300, 0, 0)
    assert await sqlite_logs.sql("SELECT model_name, path FROM last") == [("a", "/299")]


async def test_a_column_that_one_row_of_many_has_is_stored(sqlite_logs: Database) -> None:
    """Columns that no row of a batch has are left out of it; none that any row has."""
    batch = [
        *requests(300),
        request(query="a=1", extra={"a": 1}),
        request(is_stream=False, cost=0, path="", total_tokens=0),
        *(error() for _ in range(30)),
        error(error_message="", extra_context=[]),
    ]
    async with sqlite_logs.opened() as store:
        assert counts(await store.write(batch)) == (333, 0, 0)
        assert counts(await store.write(batch)) == (0, 333, 0)
    assert await sqlite_logs.events(batch) == [as_stored(item) for item in batch]


async def test_a_small_limit_of_variables_is_kept(sqlite_logs: Database) -> None:
    """SQLite before 3.32 takes 999 variables a statement: fewer rows go into each, and all land."""
    batch = SqliteBatch(requests(300, path="/a"), [])
    with closing(sqlite3.connect(sqlite_logs.path, isolation_level=None)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        assert counts(in_transaction(connection, batch.write, lambda: False)) == (300, 0, 0)
    assert await sqlite_logs.count() == 300


async def test_large_events_go_in_a_few_at_a_time(sqlite_logs: Database) -> None:
    """What was bound to a statement stays in memory: never as much as a batch may be."""
    batch = SqliteBatch(requests(260, body="x" * 50_000), [])
    longest = 0

    def note(statement: str) -> None:
        nonlocal longest
        longest = max(longest, len(statement))

    with closing(sqlite3.connect(sqlite_logs.path, isolation_level=None)) as connection:
        connection.set_trace_callback(note)
        assert counts(in_transaction(connection, batch.write, lambda: False)) == (260, 0, 0)
    assert 50_000 < longest < 1_000_000


async def test_what_nobody_waits_for_any_more_is_not_committed(sqlite_logs: Database) -> None:
    """Cancelled between two statements, where an interrupt does nothing: rolled back, lock and all."""
    batch = SqliteBatch(requests(3), [error()])
    with closing(sqlite3.connect(sqlite_logs.path, isolation_level=None)) as connection:
        with pytest.raises(Abandoned):
            in_transaction(connection, batch.write, lambda: True)
        assert not connection.in_transaction
        assert await sqlite_logs.count() == 0
        assert counts(in_transaction(connection, batch.write, lambda: False)) == (4, 0, 0)


NUMBER = st.from_regex(
    re.compile(rb"-?(0|[1-9][0-9]{0,2})(\.[0-9])?([eE][+-]?[0-9]{1,7})?"), fullmatch=True
)
PIECES = [b"8", b"e", b"E", b"-", b"+", b".", b"ud8", rb"\\", rb"\u0000", rb"\uD800", rb"\u00e9"]
TEXT = st.lists(st.sampled_from(PIECES)).map(lambda pieces: b'"' + b"".join(pieces) + b'"')


@given(st.lists(NUMBER | TEXT, max_size=4))
def test_the_quick_look_clears_nothing_that_the_close_one_does_not(values: list[bytes]) -> None:
    """It may only be wrong about what is good: then it is looked at closely."""
    json = b"[" + b",".join(values) + b"]"
    assert _is_good_json(json) or not _is_plain(json)
