"""What an operator limits: the time of a statement, and the number of connections."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spoolway.worker.config import Settings, UsageError
from spoolway.worker.stores import (
    PostgresStore,
    Retryable,
    Unreachable,
    open_store,
    write_isolating,
)
from tests.servers import aeventually
from tests.sessions import most_sessions
from tests.stores import Database, delay, error, postgres_transaction, request, requests, within

pytest_plugins = ["tests.store_fixtures"]


@asynccontextmanager
async def opened(logs: Database, **settings: Any) -> AsyncIterator[PostgresStore]:
    """Open the store that these settings ask for."""
    store = open_store(Settings(database_url=logs.dsn, **settings))
    assert isinstance(store, PostgresStore)
    try:
        yield store
    finally:
        await store.close()


async def shown(store: PostgresStore, name: str) -> str:
    """What a setting is in the middle of one of the store's transactions."""

    async def ask(connection: Any) -> str:
        await connection.execute(store._begin)
        found = await connection.fetchval("SELECT current_setting($1)", name)
        await connection.execute("ROLLBACK")
        return str(found)

    return await store._run(ask)


def server_settings(**settings: str) -> dict[str, Any]:
    """`database_engine` with these server_settings."""
    return {"connect_args": {"server_settings": settings}}


async def test_the_shortest_statement_timeout_counts(newest_logs: Database) -> None:
    """The worker's deadline, the engine's argument, the role: none makes another one longer."""
    async with opened(newest_logs) as store:
        assert await shown(store, "statement_timeout") == "9s"
        assert await shown(store, "lock_timeout") == "5s"
        assert await shown(store, "application_name") == "spoolway"
    for given, expected in (("2s", "2s"), ("750", "750ms"), ("1min", "9s"), ("0", "9s")):
        engine = server_settings(statement_timeout=given, application_name="mine", jit="off")
        async with opened(newest_logs, database_engine=engine) as store:
            assert await shown(store, "statement_timeout") == expected
            assert await shown(store, "application_name") == "mine"
            assert await shown(store, "jit") == "off"
    await newest_logs.sql(
        f"ALTER DATABASE \"{newest_logs.url.database}\" SET statement_timeout = '1500ms'"
    )
    async with opened(newest_logs) as store:
        assert await shown(store, "statement_timeout") == "1500ms"


async def test_a_limit_that_is_no_time_is_told(newest_logs: Database) -> None:
    """A typing error in a timeout is one line at the start, not a traceback later."""
    engine = server_settings(statement_timeout="soon")
    with pytest.raises(UsageError, match="statement_timeout is 'soon'"):
        open_store(Settings(database_url=newest_logs.dsn, database_engine=engine))


async def test_a_batch_that_takes_too_long_goes_in_in_pieces(newest_logs: Database) -> None:
    """A statement_timeout too short for the batch, not for a part of it: all lands, each row once."""
    await newest_logs.sql(
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN"
        " IF NEW.model_name = ''bad'' THEN RAISE ''no''; END IF;"
        " PERFORM pg_sleep(0.002); RETURN NEW; END'",
        "CREATE TRIGGER nap BEFORE INSERT ON request_logs FOR EACH ROW EXECUTE FUNCTION nap()",
    )
    batch = requests(300)
    async with opened(
        newest_logs, database_engine=server_settings(statement_timeout="250ms")
    ) as store:
        await store.write(batch[:1])
        with pytest.raises(Retryable) as raised:
            await store.write(batch)
        assert raised.value.sqlstate == "57014"
        outcome = await write_isolating(store, batch)
        assert (outcome.written.inserted, outcome.written.duplicates) == (299, 1)
        # Around a bad row, which is refused before time is up, as well.
        outcome = await write_isolating(store, [request(model_name="bad"), *requests(300)])
    assert (outcome.written.inserted, len(outcome.refused)) == (300, 1)
    assert await newest_logs.count() == 600


async def test_a_row_that_takes_too_long_alone_is_held(newest_logs: Database) -> None:
    """Where pieces do not help, the batch is as retryable as before, and soon told so."""
    await delay(newest_logs)
    async with opened(
        newest_logs, database_engine=server_settings(statement_timeout="100ms")
    ) as store:
        with pytest.raises(Retryable):
            await write_isolating(store, [*requests(20), request(model_name="slow")])
        assert await newest_logs.count() <= 20


async def test_a_command_timeout_is_a_deadline(newest_logs: Database) -> None:
    """What asyncpg gives up is unreachable, and leaves no connection in the middle of something."""
    await delay(newest_logs)
    engine = {"connect_args": {"command_timeout": 0.5}}
    async with opened(newest_logs, database_engine=engine) as store:
        with pytest.raises(Unreachable):
            await store.write([request(model_name="slow")])
        assert (await store.write([request()])).inserted == 1


async def test_an_exhausted_pool_is_told_as_such(newest_logs: Database) -> None:
    """Nothing waits longer than DATABASE_POOL_TIMEOUT for a connection, and what it waited for is said."""
    async with opened(
        newest_logs, database_pool_size=1, database_pool_timeout=0.2, write_timeout=5
    ) as store:

        def in_use() -> bool:
            use = store.pool_use()
            return use is not None and use.in_use == 1

        await store.write([request()])
        async with postgres_transaction(newest_logs, "LOCK TABLE request_logs"):
            first = asyncio.create_task(store.write([request()]))
            await aeventually(in_use)
            with pytest.raises(Unreachable, match="connection of the pool"):
                await store.write([request()])
        assert (await first).inserted == 1


async def test_never_more_connections_than_the_pool_may_have(newest_logs: Database) -> None:
    """Writes that are cancelled, overflow, connections that age: the server never sees one more."""
    await delay(newest_logs)

    async def sleeping() -> bool:
        [(found,)] = await newest_logs.sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event = 'PgSleep'"
        )
        return bool(found == 2)

    settings = {"database_pool_size": 2, "database_max_overflow": 1}
    with most_sessions(newest_logs.dsn) as most:
        async with opened(newest_logs, database_conn_max_lifetime=0.05, **settings) as store:
            for _ in range(8):
                slow = [
                    asyncio.create_task(store.write([request(model_name="slow")])) for _ in "ab"
                ]
                await aeventually(sleeping)
                quick = [asyncio.create_task(store.write(requests(50))) for _ in range(6)]
                await asyncio.wait(quick, return_when=asyncio.FIRST_COMPLETED)
                for task in slow:
                    task.cancel()
                await asyncio.gather(*slow, *quick, return_exceptions=True)
    assert most.by_name["spoolway"] == 3
    assert most.looks > 50


async def test_connect_timeout_of_the_url_is_kept() -> None:
    """Who takes a connection and says nothing is given up after that, not after a write's deadline."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"postgresql://me@127.0.0.1:{port}/logs?sslmode=disable&connect_timeout=0.2"
        store = open_store(Settings(database_url=url))
        async with within(5):
            with pytest.raises(Unreachable):
                await store.write([request()])
        await store.close()


async def test_echo_logs_statements_and_no_values(
    newest_logs: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """DATABASE_ECHO shows what is asked of the database, and nothing of what is written to it."""
    for name in ("sqlalchemy.engine", "sqlalchemy.pool", "spoolway.sql"):
        caplog.set_level(logging.NOTSET, name)  # and back at the end
    batch = [request(body={"said": "hush"}, path="/hush"), error(error_message="hush")]
    async with opened(newest_logs, database_echo=True, database_echo_pool=True) as store:
        await store.write(batch)
        await store.write(batch)
    shown = caplog.text
    for part in ("BEGIN ISOLATION", "COPY request_logs", "ON CONFLICT (id) DO NOTHING", "COMMIT"):
        assert part in shown, part
    assert "sqlalchemy.pool" in shown
    assert "hush" not in shown
