"""Roles: one owns the tables and migrates; the worker's may do what docs/postgresql.md grants."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL

from spoolway import migrations
from spoolway.worker.stores import PostgresStore, Unknown
from spoolway.worker.stores.partitions import utc_today
from spoolway.worker.stores.retaining import Cuts
from tests.servers import PostgresServer
from tests.stores import Database, error, id_at, request

DOCUMENTED = Path(__file__).parents[1] / "docs" / "postgresql.md"
WRITING, RETENTION = re.findall(
    r"<!-- tests/test_postgres_roles.py runs these -->\n```sql\n(.*?)```",
    DOCUMENTED.read_text(),
    re.DOTALL,
)


@dataclass
class Roles:
    """A database, as its owner and as the worker see it."""

    server: PostgresServer
    owner: Database
    worker: URL

    async def grant(self, statements: str) -> None:
        """Run what the documentation says, as the owner."""
        name = self.owner.url.database
        text = statements.replace("DATABASE logs", f'DATABASE "{name}"')
        await self.owner.sql(*text.strip().split("\n"))

    @asynccontextmanager
    async def store(self) -> AsyncIterator[PostgresStore]:
        """Open a store as the worker's role."""
        store = PostgresStore(self.worker, pool_size=2, write_timeout=10)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture
async def roles(postgres_server: PostgresServer, postgres_url: str) -> AsyncIterator[Roles]:
    """Both roles, on every PostgreSQL found; migrated by the owner, nothing granted."""
    server = postgres_server
    name = postgres_url.rpartition("/")[2]
    for role in ("spoolway_owner", "spoolway_worker"):
        server.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
    server.sql(f'ALTER DATABASE "{name}" OWNER TO spoolway_owner')
    server.sql(f'REVOKE TEMPORARY ON DATABASE "{name}" FROM PUBLIC')
    urls = [
        URL.create("postgresql+asyncpg", role, "secret", "127.0.0.1", server.port, database=name)
        for role in ("spoolway_owner", "spoolway_worker")
    ]
    await migrations.upgrade(urls[0])
    yield Roles(server, Database(urls[0], server), urls[1])
    server.drop_database(name)
    for role in ("spoolway_owner", "spoolway_worker"):
        server.sql(f"DROP ROLE {role}")


async def run(store: PostgresStore, statement: str, *arguments: str) -> None:
    """Run SQL on a connection of a store, and so with its role."""

    async def step(connection: Any) -> None:
        await connection.execute(statement, *arguments)

    await store._run(step)


async def test_the_documented_grants_are_enough_and_no_more(roles: Roles) -> None:
    """The worker's role writes, recognises, links, adds up and makes partitions; rows are not its to change."""
    await roles.grant(WRITING)
    await migrations.require_newest(roles.worker)
    old = id_at(datetime.now(UTC) - timedelta(days=30))
    async with roles.store() as store:
        batch = [request(), request(old), error(request())]
        late = request()
        batch.append(error(late))
        assert (await store.write(batch)).inserted == 4
        assert (await store.write([*batch, late])).duplicates == 4
        assert await store.link_errors() == 0
        assert await (await store.rollup()).merge()
        for statement in (
            "UPDATE request_logs SET model_name = 'x'",
            "DELETE FROM request_logs",
            "DELETE FROM error_logs",
            "UPDATE error_logs SET error_message = 'x'",
            "DROP TABLE request_logs",
            "TRUNCATE error_logs",
            f"SELECT spoolway_drop_partition('request_logs', '{utc_today()}')",
            "CREATE TABLE mine (id int)",
        ):
            with pytest.raises(Unknown) as refused:
                await run(store, statement)
            assert refused.value.sqlstate == "42501", statement

        await roles.grant(RETENTION)
        retention = await store.retention()
        yesterday = utc_today() - timedelta(days=1)
        cuts = Cuts(requests=yesterday, errors=yesterday, bodies=utc_today() + timedelta(days=1))
        dropped = [removed async for removed in retention.steps(cuts)]
        assert sum(one.requests.partitions + one.errors.partitions for one in dropped) == 2
    assert [name[-8:] for name in await roles.owner.partitions()] == [f"{utc_today():%Y%m%d}"]


async def test_a_role_that_may_not_make_partitions_uses_those_that_are_there(roles: Roles) -> None:
    """Made ahead by the owner they are filled; a day without one is held, and says what is missing."""
    await roles.grant(WRITING.partition("GRANT EXECUTE")[0])
    for table in ("request_logs", "error_logs"):
        await roles.owner.sql(f"SELECT spoolway_make_partition('{table}', '{utc_today()}')")
    tomorrow = request(id_at(datetime.now(UTC) + timedelta(days=1)))
    async with roles.store() as store:
        assert (await store.write([request()])).inserted == 1
        with pytest.raises(Unknown, match="function spoolway_make_partition") as refused:
            await store.write([tomorrow])
        assert refused.value.sqlstate == "42501"
        for table in ("request_logs", "error_logs"):
            await roles.owner.sql(
                f"SELECT spoolway_make_partition('{table}', '{utc_today() + timedelta(days=1)}')"
            )
        assert (await store.write([tomorrow])).inserted == 1


async def test_functions_of_the_owner_do_nothing_else(roles: Roles) -> None:
    """Whoever may call them chooses one of two tables and a day: no other name, no search_path."""
    await roles.grant(WRITING + RETENTION)
    await roles.owner.sql("CREATE TABLE precious (id uuid) PARTITION BY RANGE (id)")
    async with roles.store() as store:
        for function in ("make", "drop"):
            for name in ("precious", 'request_logs"; DROP TABLE precious; --', ""):
                with pytest.raises(Unknown) as refused:
                    await run(
                        store, f"SELECT spoolway_{function}_partition($1, current_date)", name
                    )
                assert refused.value.sqlstate == "42P01"

        # A table of the caller's own, first on its search_path, is not what is altered.
        await run(
            store,
            "BEGIN; SET LOCAL search_path = pg_temp, public;"
            "CREATE TEMP TABLE request_logs (id uuid) PARTITION BY RANGE (id) ON COMMIT DROP;"
            f"SELECT public.spoolway_make_partition('request_logs', '{utc_today()}'); COMMIT",
        )
        # Neither is a function that fits better than PostgreSQL's own, where it may make one.
        await roles.owner.sql("GRANT CREATE ON SCHEMA public TO spoolway_worker")
        for name in ("to_char(date, text)", "format(text, text, text)", "format(text, text)"):
            await run(
                store,
                f"CREATE FUNCTION public.{name} RETURNS text LANGUAGE plpgsql"
                " AS 'BEGIN RAISE ''called''; END'",
            )
        for call in (
            "make_partition('error_logs', current_date)",
            "drop_partition('error_logs', current_date)",
            "note_expired(current_date, now())",
        ):
            await run(store, f"SELECT spoolway_{call}")
    assert await roles.owner.partitions() == [f"request_logs_p{utc_today():%Y%m%d}"]
