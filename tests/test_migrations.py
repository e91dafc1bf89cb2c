"""Migrations: exactly the declared tables, once, on every database, whoever else is at it."""

import asyncio
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from spoolway import migrations
from spoolway.migrations.lock import KEY
from spoolway.schema.tables import JSON_COLUMNS
from spoolway.schema.usage import usage_pending
from tests.servers import PostgresServer, aeventually, postgres_binaries
from tests.versions import postgres_versions

SPOOLWAY = Path(sys.executable).with_name("spoolway")
NEWEST = migrations.newest()


@pytest.fixture(params=["sqlite", *postgres_versions()])
def url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_servers: Callable[[str], PostgresServer],
) -> Iterator[URL]:
    """An empty database: a SQLite file that is not there yet, and every PostgreSQL found."""
    if request.param == "sqlite":
        yield _sqlite(tmp_path)
    else:
        with _postgresql(postgres_servers(request.param)) as fresh:
            yield fresh


@pytest.fixture
def newest_url(newest_postgres: PostgresServer) -> Iterator[URL]:
    """An empty database on the newest PostgreSQL."""
    with _postgresql(newest_postgres) as fresh:
        yield fresh


def _sqlite(folder: Path) -> URL:
    return make_url(f"sqlite+aiosqlite:///{folder / 'spoolway.db'}")


@contextmanager
def _postgresql(server: PostgresServer) -> Iterator[URL]:
    name = f"m_{uuid.uuid4().hex}"
    yield make_url(server.create_database(name)).set(drivername="postgresql+asyncpg")
    server.drop_database(name)


@asynccontextmanager
async def _connect(url: URL) -> AsyncIterator[AsyncConnection]:
    """A connection whose statements take effect at once, unless it says BEGIN itself."""
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        yield connection


async def _run(url: URL, *statements: str) -> None:
    async with _connect(url) as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def _ask(url: URL, query: str) -> list[tuple[object, ...]]:
    async with _connect(url) as connection:
        return [tuple(row) for row in await connection.execute(text(query))]


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


# --- The tables ---------------------------------------------------------------


async def test_upgrade_leaves_no_difference_to_the_declared_tables(url: URL) -> None:
    """After `upgrade`, `check` finds nothing."""
    assert await migrations.upgrade(url) == migrations.Migrated(None, NEWEST)
    assert await migrations.check(url) == []


CATALOG = {
    "sqlite": """
        SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'spoolway_%' AND type <> 'view'
    """,
    "postgresql": """
        SELECT 'column', attrelid::regclass::text, attname, attnum::text,
               format_type(atttypid, atttypmod), attnotnull::text,
               (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                WHERE adrelid = attrelid AND adnum = attnum)
        FROM pg_attribute
        WHERE attnum > 0 AND attrelid::regclass::text ~ '^(request_logs|error_logs|usage_(pending|(model_)?(hours|days)))$'
        UNION ALL
        SELECT 'index', pg_get_indexdef(indexrelid), indisunique::text, '', '', '', '' FROM pg_index
        WHERE indrelid::regclass::text ~ '^(request|error|usage)_'
        UNION ALL
        SELECT 'constraint', conname, pg_get_constraintdef(oid), '', '', '', '' FROM pg_constraint
        WHERE conrelid::regclass::text ~ '^(request|error|usage)_'
        UNION ALL
        SELECT 'partitioned', partrelid::regclass::text, pg_get_partkeydef(partrelid), '', '', '', ''
        FROM pg_partitioned_table
    """,
}
"""What the database itself says of its tables; compression is not declared in the metadata."""


def _bare_sql(rows: list[tuple[object, ...]]) -> set[str]:
    """SQLite keeps the text of CREATE as it was typed: spaces mean nothing."""
    return {" ".join(repr(row).replace("\\n", " ").replace("\\t", " ").split()) for row in rows}


async def test_upgrade_makes_what_the_declared_tables_would_make(url: URL) -> None:
    """The database's own catalog is the same after the revisions as after `create_all`."""
    await migrations.upgrade(url)
    catalog = CATALOG[url.get_backend_name()]
    migrated = await _ask(url, catalog)
    await migrations.downgrade(url, "base")
    async with _connect(url) as connection:
        await connection.run_sync(usage_pending.metadata.create_all)

    assert _bare_sql(migrated) == _bare_sql(await _ask(url, catalog))
    assert len(migrated) > 10


async def test_a_roundtrip_ends_where_it_began(url: URL) -> None:
    """Upgrade, downgrade to base (no table is left but Alembic's own), upgrade: no difference."""
    assert (await migrations.upgrade(url)).after == NEWEST
    assert await migrations.downgrade(url, "base") == migrations.Migrated(NEWEST, None)
    tables = (
        "SELECT name FROM sqlite_master"
        if _is_sqlite(url)
        else "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    left = {str(name) for (name,) in await _ask(url, tables)}
    assert {name for name in left if migrations.VERSION_TABLE not in name} == set()
    assert (await migrations.upgrade(url)).changed

    assert await migrations.check(url) == []
    assert (await migrations.current(url)).is_newest


async def test_json_columns_use_lz4_where_the_server_has_it(
    postgres_server: PostgresServer,
) -> None:
    """Every JSON column and the error's text are set to lz4, and partitions made later inherit it."""
    with _postgresql(postgres_server) as url:
        await migrations.upgrade(url)
        await _run(
            url,
            "CREATE TABLE r1 PARTITION OF request_logs DEFAULT",
            "CREATE TABLE e1 PARTITION OF error_logs DEFAULT",
        )
        compressed = await _ask(
            url,
            "SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attcompression = 'l'",
        )

        requests = JSON_COLUMNS["request_logs"]
        errors = [*JSON_COLUMNS["error_logs"], "error_message"]
        expected = {(table, column) for table in ("request_logs", "r1") for column in requests}
        expected |= {(table, column) for table in ("error_logs", "e1") for column in errors}
        expected.add(("usage_pending", "facts"))
        assert set(compressed) == (expected if postgres_server.has_lz4 else set())


# --- Many at once -------------------------------------------------------------


@asynccontextmanager
async def _lock_held(url: URL) -> AsyncIterator[None]:
    """Be the process that migrates, and take one's time."""
    async with _connect(url) as connection:
        if _is_sqlite(url):
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            await connection.exec_driver_sql("BEGIN")
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({KEY})")
        yield
        await connection.exec_driver_sql("ROLLBACK")


async def _start(url: URL, log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as stderr:
        return await asyncio.create_subprocess_exec(
            *(SPOOLWAY, "db", "upgrade", "--json", "--database-url"),
            url.render_as_string(hide_password=False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )


# The lock is the same in every version; eight processes are work.
@pytest.mark.parametrize("url", ["sqlite", list(postgres_binaries())[-1]], indirect=True)
@pytest.mark.chaos
async def test_eight_processes_at_once_migrate_exactly_once(url: URL, tmp_path: Path) -> None:
    """All eight find an empty database and wait for the lock; one of them migrates, none fails."""
    if _is_sqlite(url):
        await _run(url, "PRAGMA user_version = 1")  # the file must be there to be locked
    else:
        # A snapshot older than the lock would not see what the process before has done.
        await _run(
            url,
            f'ALTER DATABASE "{url.database}" SET default_transaction_isolation = "serializable"',
            f'ALTER DATABASE "{url.database}" SET lock_timeout = 100',
        )
    logs = [tmp_path / f"{number}.log" for number in range(8)]
    async with _lock_held(url):
        processes = [await _start(url, log) for log in logs]
        await aeventually(
            lambda: all(
                "waiting for another process to migrate" in log.read_text() for log in logs
            ),
            timeout=60,
        )
    outputs = [orjson.loads((await process.communicate())[0]) for process in processes]

    assert [process.returncode for process in processes] == [0] * 8
    assert [output["after"] for output in outputs] == [NEWEST] * 8
    assert sum(output["changed"] for output in outputs) == 1
    assert await migrations.check(url) == []


async def test_a_killed_migration_leaves_nothing_and_the_next_one_migrates(
    newest_url: URL, tmp_path: Path
) -> None:
    """SIGKILL in the middle of the revision: no table, no lock stays behind."""
    mark = (
        f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {KEY & 0xFFFFFFFF}"
    )
    async with _connect(newest_url) as connection:
        # A table of the same name that is not committed holds the revision up in its CREATE TABLE.
        await connection.exec_driver_sql("BEGIN")
        await connection.exec_driver_sql("CREATE TABLE request_logs (id int)")
        process = await _start(newest_url, tmp_path / "log")
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event_type = 'Lock' AND query LIKE '%CREATE TABLE request_logs%'"
        )
        await aeventually(lambda: _one(newest_url, blocked), timeout=30)
        assert await _one(newest_url, mark)
        process.kill()
        await process.wait()
        await connection.exec_driver_sql("ROLLBACK")
    assert (await migrations.current(newest_url)).revision is None

    assert (await migrations.upgrade(newest_url)).changed
    assert await migrations.check(newest_url) == []
    assert not await _one(newest_url, mark)


async def _one(url: URL, count: str) -> bool:
    return await _ask(url, count) == [(1,)]


async def test_a_migration_that_fails_leaves_nothing(url: URL) -> None:
    """The last statement of the revision fails: not even the first has happened."""
    await _run(
        url,
        "CREATE TABLE others (id INTEGER)",
        "CREATE INDEX ix_error_logs_unlinked ON others (id)",
    )

    with pytest.raises(DBAPIError):
        await migrations.upgrade(url)

    assert (await migrations.current(url)).revision is None
    await _run(url, "DROP TABLE others")
    assert (await migrations.upgrade(url)).changed
    assert await migrations.check(url) == []


async def test_a_database_that_is_up_to_date_needs_no_lock(url: URL) -> None:
    """While somebody holds the lock, `upgrade` of a migrated database returns at once."""
    await migrations.upgrade(url)
    async with _lock_held(url), asyncio.timeout(10):
        assert await migrations.upgrade(url) == migrations.Migrated(NEWEST, NEWEST)


async def test_waiting_for_the_lock_can_be_cancelled(url: URL) -> None:
    """A cancelled wait leaves nothing behind that would keep the next one out."""
    if _is_sqlite(url):
        await _run(url, "PRAGMA user_version = 1")
    async with _lock_held(url):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await migrations.upgrade(url)

    async with asyncio.timeout(30):
        assert (await migrations.upgrade(url)).changed


async def test_two_databases_are_migrated_by_one_process_at_once(
    newest_url: URL, tmp_path: Path
) -> None:
    """Alembic's module globals are not mixed up when several upgrades run in one loop."""
    urls = [newest_url, newest_url, _sqlite(tmp_path), _sqlite(tmp_path), _sqlite(tmp_path / "b")]

    done = await asyncio.gather(*(migrations.upgrade(url) for url in urls))

    assert [migrated.after for migrated in done] == [NEWEST] * 5
    assert sum(migrated.changed for migrated in done) == 3
    for url in urls:
        assert await migrations.check(url) == []


# --- What is not ours, or not of our time -------------------------------------


async def test_a_database_of_a_newer_version_is_left_alone(url: URL) -> None:
    """Everything but `current` refuses, and says which revision, what is known, and what to do."""
    await migrations.upgrade(url)
    await _run(url, f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999'")

    for refused in (
        lambda: migrations.upgrade(url),
        lambda: migrations.downgrade(url, "base"),
        lambda: migrations.check(url),
        lambda: migrations.require_newest(url),
    ):
        with pytest.raises(migrations.DatabaseIsNewer) as caught:
            await refused()
        assert (
            f"at revision 9999, which this version of spoolway does not know (its newest is {NEWEST})"
            in str(caught.value)
        )
        assert f"upgrade spoolway, or run `spoolway db downgrade {NEWEST}`" in str(caught.value)
    found = await migrations.current(url)
    assert (found.revision, found.is_newest, found.is_known) == ("9999", False, False)


async def test_who_must_not_migrate_is_told_that_the_database_is_older(url: URL) -> None:
    """`require_newest` refuses a database without tables and is silent about a migrated one."""
    await migrations.upgrade(url)
    await migrations.require_newest(url)
    await migrations.downgrade(url, "base")

    with pytest.raises(migrations.DatabaseIsOlder, match=r"at revision base.*spoolway db upgrade"):
        await migrations.require_newest(url)


async def test_tables_of_somebody_else_are_neither_touched_nor_reported(url: URL) -> None:
    """The proxy may keep its own tables, and its own Alembic, in the same database."""
    await _run(
        url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
        "INSERT INTO alembic_version VALUES ('theirs')",
        "CREATE TABLE users (id INTEGER)",
    )

    assert (await migrations.upgrade(url)).changed
    assert await migrations.check(url) == []
    await migrations.downgrade(url, "base")
    assert await _ask(url, "SELECT version_num FROM alembic_version") == [("theirs",)]
    assert await _ask(url, "SELECT * FROM users") == []


async def test_a_table_of_the_same_name_is_not_taken_for_ours(url: URL) -> None:
    """A request_logs that no revision made is an error that names it, and it stays as it is."""
    await _run(
        url, "CREATE TABLE request_logs (theirs INTEGER)", "INSERT INTO request_logs VALUES (7)"
    )

    with pytest.raises(migrations.TablesInTheWay, match="already has request_logs, not made by"):
        await migrations.upgrade(url)
    assert await _ask(url, "SELECT theirs FROM request_logs") == [(7,)]


async def test_only_upgrade_makes_a_sqlite_file(tmp_path: Path) -> None:
    """A mistyped path is told, and no empty file appears there."""
    url = _sqlite(tmp_path)
    for asked in (
        lambda: migrations.current(url),
        lambda: migrations.check(url),
        lambda: migrations.downgrade(url, "base"),
        lambda: migrations.require_newest(url),
    ):
        with pytest.raises(migrations.NoDatabaseFile, match="`spoolway db upgrade` makes it"):
            await asked()

    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240 - nothing else runs in this loop


async def test_an_unknown_revision_is_told(url: URL) -> None:
    """A revision that does not exist is an error that says where to look, before anything else."""
    with pytest.raises(migrations.UnknownRevision, match=r"no revision '7777'.*db history"):
        await migrations.upgrade(url, "7777")


# --- Drift --------------------------------------------------------------------

DRIFT = {
    "an extra column": (
        ["ALTER TABLE request_logs ADD COLUMN mine TEXT"],
        "request_logs: column mine is not declared",
    ),
    "a missing column": (
        ["ALTER TABLE request_logs DROP COLUMN cost"],
        "request_logs: column cost is missing",
    ),
    "a missing index": (
        ["DROP INDEX ix_request_logs_model_name"],
        "request_logs: index ix_request_logs_model_name (model_name) is missing",
    ),
    "an extra index": (
        ["CREATE INDEX mine ON error_logs (http_status)"],
        "error_logs: index mine (http_status) is not declared",
    ),
    "an index that is not partial": (
        [
            "DROP INDEX ix_error_logs_unlinked",
            "CREATE INDEX ix_error_logs_unlinked ON error_logs (request_id)",
        ],
        (
            "error_logs: index ix_error_logs_unlinked is for None, not request_log_id IS NULL AND "
            "request_id IS NOT NULL"
        ),
    ),
    "a missing table": (["DROP TABLE error_logs"], "error_logs: table is missing"),
}
DRIFT_OF_POSTGRESQL = {
    "an index of another kind": (
        [
            "DROP INDEX ix_request_logs_created_at",
            "CREATE INDEX ix_request_logs_created_at ON request_logs (created_at)",
        ],
        "request_logs: index ix_request_logs_created_at is btree, not brin",
    ),
    "a missing function": (
        ["DROP FUNCTION spoolway_make_partition(text, date)"],
        "function spoolway_make_partition(text,date) is missing",
    ),
    "another type": (
        ["ALTER TABLE request_logs ALTER COLUMN cost TYPE real"],
        "request_logs: column cost has type REAL, not DOUBLE PRECISION",
    ),
    "another nullability": (
        ["ALTER TABLE request_logs ALTER COLUMN path SET NOT NULL"],
        "request_logs: column path has nullable False, not True",
    ),
    "another default": (
        ["ALTER TABLE request_logs ALTER COLUMN created_at SET DEFAULT '2020-01-01'"],
        (
            "request_logs: column created_at has default '2020-01-01 00:00:00+00'::timestamp with "
            "time zone, not now()"
        ),
    ),
    "a missing check": (
        ["ALTER TABLE request_logs DROP CONSTRAINT ck_request_logs_outcome"],
        "request_logs: CHECK ck_request_logs_outcome is missing",
    ),
    "a check that allows something else": (
        [
            "ALTER TABLE request_logs DROP CONSTRAINT ck_request_logs_outcome",
            (
                "ALTER TABLE request_logs ADD CONSTRAINT ck_request_logs_outcome "
                "CHECK (outcome IN ('good', 'bad'))"
            ),
        ],
        (
            "request_logs: CHECK ck_request_logs_outcome is outcome = ANY (ARRAY['good'::text, "
            "'bad'::text]), not outcome IN ('success', 'error', 'cancelled')"
        ),
    ),
    "a missing foreign key": (
        ["ALTER TABLE error_logs DROP CONSTRAINT fk_error_logs_request_log_id"],
        "error_logs: constraint fk_error_logs_request_log_id is missing",
    ),
    "no partitions": (
        ["DROP TABLE error_logs", "CREATE TABLE error_logs (id uuid PRIMARY KEY)"],
        "error_logs: is partitioned by nothing, not RANGE (id)",
    ),
    "no primary key": (
        ["ALTER TABLE error_logs DROP CONSTRAINT pk_error_logs"],
        "error_logs: primary key is ()",
    ),
}


@pytest.mark.parametrize("drift", DRIFT)
async def test_check_finds(url: URL, drift: str) -> None:
    """What somebody changed by hand is one line that says what the database has."""
    statements, line = DRIFT[drift]
    await migrations.upgrade(url)
    await _run(url, *statements)

    assert line in await migrations.check(url)


@pytest.mark.parametrize("drift", DRIFT_OF_POSTGRESQL)
async def test_check_finds_on_postgresql(newest_url: URL, drift: str) -> None:
    """What Alembic does not look at is found too."""
    statements, line = DRIFT_OF_POSTGRESQL[drift]
    await migrations.upgrade(newest_url)
    await _run(newest_url, *statements)

    assert line in await migrations.check(newest_url)


async def test_check_finds_changed_columns_of_sqlite(tmp_path: Path) -> None:
    """SQLite's types, defaults and CHECKs are compared as well."""
    url = _sqlite(tmp_path)
    await migrations.upgrade(url)
    with sqlite3.connect(str(url.database)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for was, becomes in (
            ("cost DOUBLE", "cost TEXT"),
            ("request_time DATETIME NOT NULL", "request_time DATETIME"),
            ("%f000', 'now')", "%f', 'now')"),
            ("'cancelled'", "'gone'"),
        ):
            changed = connection.execute(
                "UPDATE sqlite_master SET sql = replace(sql, ?, ?) "
                "WHERE name = 'request_logs' AND instr(sql, ?)",
                (was, becomes, was),
            )
            assert changed.rowcount == 1
    connection.close()

    assert set(await migrations.check(url)) == {
        "request_logs: column request_time has nullable True, not False",
        "request_logs: column cost has type TEXT, not DOUBLE",
        (
            "request_logs: column created_at has default (strftime('%Y-%m-%d %H:%M:%f', 'now')), "
            "not (strftime('%Y-%m-%d %H:%M:%f000', 'now'))"
        ),
        (
            "request_logs: CHECK ck_request_logs_outcome is outcome IN ('success', 'error', 'gone'), "
            "not outcome IN ('success', 'error', 'cancelled')"
        ),
    }


async def test_check_finds_a_column_without_lz4(
    postgres_servers: Callable[[str], PostgresServer],
) -> None:
    """A restore with --no-toast-compression halves the write rate: it is told."""
    servers = (postgres_servers(label) for label in postgres_binaries())
    server = next((server for server in servers if server.has_lz4), None)
    if server is None:
        pytest.skip("no PostgreSQL with lz4 here")
    with _postgresql(server) as url:
        await migrations.upgrade(url)
        await _run(url, "ALTER TABLE request_logs ALTER COLUMN body SET COMPRESSION pglz")

        assert await migrations.check(url) == [
            "request_logs: column body is not compressed with lz4"
        ]


async def test_partitions_are_no_difference(newest_url: URL) -> None:
    """Partitions, attached and detached, are the worker's business."""
    await migrations.upgrade(newest_url)
    await _run(
        newest_url,
        "CREATE TABLE error_logs_p20260101 PARTITION OF error_logs DEFAULT",
        "CREATE TABLE request_logs_p20260101 PARTITION OF request_logs DEFAULT",
        "CREATE TABLE request_logs_p20250101 (LIKE request_logs)",
    )

    assert await migrations.check(newest_url) == []
