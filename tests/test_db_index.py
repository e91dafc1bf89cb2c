"""`spoolway db index`: the optional index for search."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from spoolway.schema.tables import request_logs
from spoolway.worker.reading import search_index
from spoolway.worker.reading.logs import SEARCHED, LogQuery, Logs
from spoolway.worker.reading.words import in_json
from tests.commands import refusal, run
from tests.reading_database import reading
from tests.reading_traffic import NOW
from tests.servers import PostgresServer, postgres_binaries
from tests.stores import Database, Templates, id_at, request

pytest_plugins = ["tests.store_fixtures"]

INDEX = "ix_request_logs_search"


@pytest.fixture
def with_trigrams(
    templates: Templates, postgres_servers: Callable[[str], PostgresServer]
) -> Iterator[Database]:
    """A migrated database on a server that has pg_trgm; skips without one."""
    for label in postgres_binaries():
        with templates.postgres(postgres_servers(label)) as fresh:
            found = asyncio.run(
                fresh.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
            )
            if found:
                yield fresh
                return
    pytest.skip("no PostgreSQL with pg_trgm here (Debian: apt install postgresql)")


@pytest.fixture
def without_trigrams(
    templates: Templates, postgres_servers: Callable[[str], PostgresServer]
) -> Iterator[Database]:
    """A migrated database on a server that has no pg_trgm: those of the wheels."""
    for label in reversed(postgres_binaries()):
        with templates.postgres(postgres_servers(label)) as fresh:
            found = asyncio.run(
                fresh.sql("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
            )
            if not found:
                yield fresh
                return
    pytest.skip("every PostgreSQL here has pg_trgm")


async def write(logs: Database, days: int) -> None:
    """Write 20 requests of each day."""
    items = [
        request(id_at(NOW - timedelta(days=day, seconds=n)), body={"text": f"naïve needle-{n}."})
        for day in range(days)
        for n in range(20)
    ]
    async with logs.opened() as store:
        await store.write(items)


def test_the_index_covers_every_day_also_those_to_come(with_trigrams: Database) -> None:
    """Built for the days there are, and by PostgreSQL itself for a new one; dropped as a whole."""
    logs = with_trigrams
    asyncio.run(write(logs, 2))
    url = logs.dsn
    assert "no index" in run("db", "index", "list", DATABASE_URL=url).out
    assert run("db", "index", "create", DATABASE_URL=url).out == "built for 2 days\n"
    assert "already there" in run("db", "index", "create", DATABASE_URL=url).out
    asyncio.run(write(logs, 4))
    assert run("db", "index", "list", DATABASE_URL=url).out.startswith("search: 4 of 4 days, ")
    assert run("db", "check", DATABASE_URL=url).out == "no differences\n"

    [(is_valid,)] = asyncio.run(
        logs.sql(f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{INDEX}'::regclass")
    )
    assert is_valid
    assert run("db", "index", "drop", DATABASE_URL=url).out == "dropped\n"
    assert run("db", "index", "drop", DATABASE_URL=url).out == "there was none\n"


async def test_search_uses_the_index(with_trigrams: Database) -> None:
    """The statement that a page is made with asks for the expressions that the index is of."""
    logs = with_trigrams
    await write(logs, 1)
    assert await search_index.create(logs.url, lambda _: None) == 1
    async with reading(logs) as database:
        page = await Logs(database).page(LogQuery(q="NAÏVE needle-7"))
        assert len(page.data) == 1
    condition = in_json("postgresql", [request_logs.c[name] for name in SEARCHED], ["NAÏVE", "a%b"])
    sql = (
        select(request_logs.c.id)
        .where(condition)
        .compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
            compile_kwargs={"literal_binds": True},
        )
    )
    # Of so few rows it would read all: whether it can use the index is what is asked.
    plan = "\n".join(row[0] for row in await logs.sql("SET enable_seqscan = off", f"EXPLAIN {sql}"))
    assert "_search" in plan, plan


async def test_an_interrupted_build_is_gone_on_with(with_trigrams: Database) -> None:
    """What it has left is made anew; days that were built before stay as they are."""
    logs = with_trigrams
    await write(logs, 3)
    await search_index.create(logs.url, lambda _: None)
    *_, day = await logs.partitions()
    await search_index.drop(logs.url)
    # As a build leaves it that is killed between its steps.
    async with logs.opened():
        await logs.sql(
            f"CREATE INDEX {INDEX} ON ONLY request_logs USING gin"
            ' (((body::text)) COLLATE "C" gin_trgm_ops)',
            f"CREATE INDEX {day}_search ON {day} (path)",
        )
    found = await search_index.state(logs.url)
    assert found is not None
    assert (found.days, found.indexed) == (3, 0)
    await search_index.drop(logs.url)
    assert await logs.sql(f"SELECT to_regclass('{day}_search'), to_regclass('{INDEX}')") == [
        (None, None)
    ]
    assert await search_index.create(logs.url, lambda _: None) == 3


def test_a_server_without_trigrams_says_so(without_trigrams: Database) -> None:
    """What is missing, where it is to be had, and that search works without."""
    ended = run("db", "index", "create", DATABASE_URL=without_trigrams.dsn)
    assert "no pg_trgm" in refusal(ended)
    assert "no index" in run("db", "index", "list", DATABASE_URL=without_trigrams.dsn).out


def test_sqlite_has_none(sqlite_logs: Database) -> None:
    """It is said, and nothing is done."""
    url = f"sqlite:///{sqlite_logs.path}"
    for command in ("create", "drop", "list"):
        assert "SQLite has no index" in refusal(run("db", "index", command, DATABASE_URL=url))
