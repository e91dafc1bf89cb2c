"""The database as who only looks at it has it: read only, with limits, however it is reached."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, literal, select, text

from spoolway.schema import new_id
from spoolway.schema.tables import error_logs, request_logs
from spoolway.worker.config import Settings, UsageError
from spoolway.worker.reading import BadQuery, ReadDatabase, TooSlow, Unavailable
from spoolway.worker.reading.logs import LogQuery, Logs
from tests.reading_database import reading
from tests.servers import Pgbouncer, PostgresServer
from tests.servers.waiting import aeventually
from tests.stores import Database, requests, within

pytest_plugins = ["tests.store_fixtures"]

IDS = select(request_logs.c.id).order_by(request_logs.c.id)


async def fill(logs: Database, count: int) -> list[Any]:
    """Write so many requests; return their ids in order."""
    items = requests(count)
    async with logs.opened() as store:
        await store.write(items)
    return sorted(item.event.id for item in items)


def endless() -> Any:
    """A question that takes hours, on either database."""
    numbers = select(literal(1).label("n")).cte(recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < 2_000_000_000))
    return select(func.count()).select_from(numbers)


async def test_rows_are_read_all_of_one_moment_or_in_parts(logs: Database) -> None:
    """All of a statement's, its first, several statements' together, and many in parts."""
    ids = await fill(logs, 5)
    async with reading(logs) as database:
        assert [row.id for row in await database.fetch(IDS)] == ids
        first = await database.first(IDS.limit(1))
        assert first is not None
        assert first.id == ids[0]
        assert await database.first(IDS.where(request_logs.c.path == "no")) is None
        assert [len(part) async for part in database.stream(IDS, at_once=2)] == [2, 2, 1]
        one, two = await database.fetch_together(IDS, select(func.count()).select_from(error_logs))
        assert (len(one), two[0][0]) == (5, 0)


async def test_a_question_ends_at_its_time_limit(logs: Database) -> None:
    """The server ends it, and SQLite does; the connection is good for the next one."""
    async with reading(logs, query_timeout=0.2) as database, within(20):
        for _ in range(8):  # more than there are connections or threads
            with pytest.raises(TooSlow):
                await database.fetch(endless())
        with pytest.raises(TooSlow):
            async for _ in database.stream(endless()):
                pass
        assert await database.fetch(IDS, seconds=5) == []


async def test_a_question_that_nobody_waits_for_any_more_ends(logs: Database) -> None:
    """A client that hangs up cancels its task: the server stops working, and so does SQLite."""
    async with reading(logs, query_timeout=60) as database:
        tasks = [asyncio.create_task(database.fetch(endless())) for _ in range(4)]
        await aeventually(lambda: busy(logs, database), timeout=20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() for task in tasks)

        async def is_idle() -> bool:
            return not await busy(logs, database)

        await aeventually(is_idle, timeout=20)
        async with within(20):
            assert await database.fetch(IDS) == []


async def busy(logs: Database, database: ReadDatabase) -> bool:
    """Tell whether the database works on what we asked."""
    if logs.is_sqlite:
        backend: Any = database._backend
        return bool(backend._engine.pool.checkedout())
    [(count,)] = await logs.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'spoolway read' AND state = 'active'"
    )
    return bool(count)


async def test_nothing_is_written_by_any_statement(logs: Database) -> None:
    """Not even by a statement that is no question, were one ever to be built."""
    ids = await fill(logs, 1)
    async with reading(logs) as database:
        for sql in ("DELETE FROM request_logs", "CREATE TABLE x (y int)", "DROP TABLE error_logs"):
            with pytest.raises(Exception, match=r"read.?only|cannot be reached"):
                await database.fetch(text(sql))  # type: ignore[arg-type]  # what no caller could write
        assert [row.id for row in await database.fetch(IDS)] == ids
    assert await logs.ids() == ids


async def test_a_stream_that_is_left_early_lets_go_of_its_connection(logs: Database) -> None:
    """Any number of times: an export whose client has gone."""
    await fill(logs, 5)
    async with reading(logs) as database, within(20):
        for _ in range(8):
            parts = database.stream(IDS, at_once=1)
            assert len(await anext(parts)) == 1
            await parts.aclose()  # type: ignore[attr-defined]  # an iterator that is a generator
        assert len(await database.fetch(IDS)) == 5


async def test_a_value_that_the_database_cannot_compare_with_is_a_bad_question(
    logs: Database,
) -> None:
    """Never a failure of the server's: NUL, numbers without end, text that is none."""
    async with reading(logs) as database:
        for value in ("a\0", "\ud800"):
            with suppress(BadQuery):  # SQLite compares with NUL
                assert await database.fetch(IDS.where(request_logs.c.path == value)) == []
        for number in (2**63, -(2**70)):
            with pytest.raises(BadQuery):
                await database.fetch(IDS.where(request_logs.c.http_status == number))


async def test_a_database_without_our_tables_says_what_to_do(
    newest_postgres_url: str, tmp_path: Path
) -> None:
    """Without its name, its address or the statement: the page shows it to whoever looks."""
    (tmp_path / "empty.db").touch()
    for url in (newest_postgres_url, f"sqlite:///{tmp_path / 'empty.db'}"):
        database = ReadDatabase.open(Settings(database_url=url))
        with pytest.raises(Unavailable, match="spoolway db upgrade") as away:
            await database.fetch(IDS)
        await database.close()
        assert "127.0.0.1" not in str(away.value)
        assert "select" not in str(away.value).lower()
        assert "select" not in away.value.reason.lower()  # what a command prints, in one line
        assert "spoolway db upgrade" in away.value.reason


async def test_a_database_that_is_away_is_unavailable_and_comes_back(
    private_postgres: PostgresServer, tmp_path: Path
) -> None:
    """The message is for anybody; the reason, with host and port, for the operator."""
    url = private_postgres.create_database("logs")
    database = ReadDatabase.open(Settings(database_url=url))
    assert (await database.fetch(select(literal(1))))[0][0] == 1
    private_postgres.stop("immediate")
    for _ in range(3):
        with pytest.raises(Unavailable) as away:
            await database.fetch(select(literal(1)))
        assert "127.0.0.1" not in str(away.value)
        assert "127.0.0.1" in away.value.reason
    private_postgres.start()
    assert (await database.fetch(select(literal(1))))[0][0] == 1
    await database.close()


async def test_a_sqlite_file_that_is_not_there_is_not_made(
    sqlite_logs: Database, tmp_path: Path
) -> None:
    """Nor is one that was put in the place of another read as the one before it."""
    path = tmp_path / "later.db"
    database = ReadDatabase.open(Settings(database_url=f"sqlite:///{path}"))
    with pytest.raises(Unavailable, match="no database yet") as away:
        await database.fetch(IDS)
    assert str(tmp_path) not in str(away.value)
    assert not path.exists()
    shutil.copy(sqlite_logs.path, path)
    assert await database.fetch(IDS) == []
    ids = await fill(sqlite_logs, 2)
    other = tmp_path / "other.db"
    await sqlite_logs.sql(f"VACUUM INTO '{other}'")
    other.replace(path)
    assert [row.id for row in await database.fetch(IDS)] == ids
    path.write_bytes(b"this is no database" * 1000)
    other.write_bytes(path.read_bytes())
    other.replace(path)
    with pytest.raises(Unavailable):
        await database.fetch(IDS)
    await database.close()


async def test_what_is_no_utf_8_in_a_sqlite_file_is_shown_as_far_as_it_is(
    sqlite_logs: Database,
) -> None:
    """Another program wrote it; one such row is no end to looking at the others."""
    ids = await fill(sqlite_logs, 2)
    await sqlite_logs.sql(
        f"UPDATE request_logs SET path = CAST(x'61ff62' AS TEXT) WHERE id = '{ids[0]}'"
    )
    async with reading(sqlite_logs) as database:
        rows = (await Logs(database).page(LogQuery())).data
        assert {row["path"] for row in rows} == {None, "a\ufffdb"}


async def test_a_pooler_in_transaction_mode_is_read_through(
    start_pgbouncer: Callable[..., Pgbouncer],
    newest_logs: Database,
    newest_postgres: PostgresServer,
) -> None:
    """On two server connections for many clients: no statement has a name, no session a setting."""
    pooler = start_pgbouncer(newest_postgres, settings={"default_pool_size": 2})
    ids = await fill(newest_logs, 30)
    url = pooler.url(newest_logs.dsn)
    databases = [ReadDatabase.open(Settings(database_url=url)) for _ in range(3)]
    for _ in range(5):
        with pytest.raises(TooSlow):
            await databases[0].fetch(endless(), seconds=0.05)
        found = await asyncio.gather(*(one.fetch(IDS) for one in databases * 4))
        assert all([row.id for row in rows] == ids for rows in found)
    parts = [part async for part in databases[0].stream(IDS, at_once=7)]
    assert [row.id for part in parts for row in part] == ids
    for one in databases:
        await one.close()


@pytest.mark.chaos
async def test_a_replica_is_read(
    start_postgres: Callable[..., PostgresServer], private_logs: Database
) -> None:
    """SPOOLWAY_READ_DATABASE_URL names another database than the workers write to."""
    assert private_logs.server is not None
    ids = await fill(private_logs, 3)
    replica = start_postgres(standby_of=private_logs.server)
    url = private_logs.url.set(drivername="postgresql", port=replica.port)
    async with reading(
        private_logs, read_database_url=url.render_as_string(hide_password=False)
    ) as database:
        private_logs.server.stop("immediate")
        assert [row.id for row in await database.fetch(IDS)] == ids
        page = await Logs(database).page(LogQuery())
        assert len(page.data) == 3


async def test_a_role_that_may_only_read_is_enough(newest_logs: Database) -> None:
    """SELECT on the tables: no other right is asked for."""
    ids = await fill(newest_logs, 2)
    role = f"r_{new_id().hex}"
    await newest_logs.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    url = newest_logs.url.set(drivername="postgresql", username=role, password="x")
    async with reading(
        newest_logs, read_database_url=url.render_as_string(hide_password=False)
    ) as database:
        with pytest.raises(Unavailable, match="may not be read"):
            await database.fetch(IDS)
        await newest_logs.sql(f"GRANT SELECT ON request_logs, error_logs TO {role}")
        assert [row.id for row in await database.fetch(IDS)] == ids
        assert await Logs(database).one(ids[0]) is not None
    await newest_logs.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_an_option_that_no_connection_can_be_made_with_is_said_at_once() -> None:
    """As the stores say it: in one line, before anything is asked."""
    with pytest.raises(UsageError, match="sslrootcert"):
        ReadDatabase.open(
            Settings(database_url="postgresql://a@127.0.0.1/b?sslrootcert=/no/such/file")
        )
