"""Forms of database URLs: each that connects is connected with."""

import getpass
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text

from spoolway.migrations.connection import connected
from spoolway.worker.config import Settings
from spoolway.worker.stores import PostgresStore, open_store
from tests.configured import Operator, operator
from tests.servers import PostgresServer

__all__ = ["operator"]

FORMS = {
    "postgres": "postgres://{user}:{encoded}@127.0.0.1:{port}/postgres",
    "postgresql": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres",
    "the driver's": "postgresql+asyncpg://{user}:{encoded}@127.0.0.1:{port}/postgres",
    "not encoded": "postgresql://{user}:{raw}@127.0.0.1:{port}/postgres",
    "disable": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres?sslmode=disable",
    "allow": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres?sslmode=allow",
    "prefer": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres?sslmode=prefer",
    "ssl=": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres?ssl=false",
    "timeouts": "postgresql://{user}:{encoded}@127.0.0.1:{port}/postgres?connect_timeout=5&command_timeout=60",
    "socket": "postgresql://{user}@/postgres?host={folder}&port={port}",
    "socket as host": "postgresql://{user}@{quoted_folder}:{port}/postgres",
    "socket and port": "postgresql://{user}@:{port}/postgres?host={folder}",
    "Cloud SQL": "postgresql://{user}@:{port}/postgres?host={cloudsql}",
    "several hosts": "postgresql://{user}:{encoded}@127.0.0.1:1,127.0.0.1:{port}/postgres?target_session_attrs=read-write",
    "in options": "postgresql://127.0.0.1:{port}/postgres?user={user}&password={encoded}",
    "user@server": "postgresql://azure@server:{encoded}@127.0.0.1:{port}/postgres",
    "user%40server": "postgresql://azure%40server:{encoded}@127.0.0.1:{port}/postgres",
}


@pytest.fixture
def cloudsql(newest_postgres: PostgresServer, private_folder: Path) -> Path:
    """A folder as Cloud SQL's proxy makes it, with the server's socket in it."""
    folder = private_folder / "cloudsql" / "project:region:instance"
    folder.parent.mkdir()
    folder.symlink_to(newest_postgres.socket_folder)
    return folder


@pytest.fixture
def azure(newest_postgres: PostgresServer) -> None:
    """A user with an @ in its name."""
    password = newest_postgres.password.replace("'", "''")
    newest_postgres.sql(
        "do $$ begin if not exists (select from pg_roles where rolname = 'azure@server') then "
        f"""create role "azure@server" login password '{password}'; end if; end $$"""
    )


async def test_every_form_of_url_connects(
    operator: Operator, newest_postgres: PostgresServer, cloudsql: Path, azure: None
) -> None:
    """As the user it names, within its own name for the application and its own options."""
    server = newest_postgres
    values = {
        "user": server.user,
        "raw": server.password,
        "encoded": quote(server.password, safe=""),
        "port": server.port,
        "folder": server.socket_folder,
        "quoted_folder": quote(str(server.socket_folder), safe=""),
        "cloudsql": cloudsql,
    }
    for name, form in FORMS.items():
        url = form.format(**values)
        url += f"{'&' if '?' in url else '?'}application_name=x%20y+z&options=-c%20work_mem%3D5MB"
        settings = operator.gives({"DATABASE_URL": url}).settings
        async with connected(settings.database) as connection:
            said = await connection.execute(
                text(
                    "select current_user, current_setting('application_name'),"
                    " current_setting('work_mem')"
                )
            )
            user = "azure@server" if "@server" in name or "40" in name else server.user
            assert tuple(said.one()) == (user, "x y+z", "5MB"), name
    timeouts = operator.gives({"DATABASE_URL": FORMS["timeouts"].format(**values)}).settings
    assert timeouts.database_engine == {"connect_args": {"command_timeout": 60.0}}


async def test_engine_arguments_of_a_file_reach_the_server(
    operator: Operator, newest_postgres: PostgresServer
) -> None:
    """What OpenGateLLM's section says is how the worker's own connections are made."""
    found = operator.gives(
        {"SECRET": newest_postgres.password},
        yaml=f"""
dependencies:
  postgres:
    url: postgresql+asyncpg://{newest_postgres.user}:${{SECRET}}@127.0.0.1:{newest_postgres.port}/postgres
    pool_size: 2
    max_overflow: 1
    pool_pre_ping: true
    pool_recycle: 60
    connect_args:
      server_settings: {{application_name: from a file, statement_timeout: 120s, jit: off}}
      command_timeout: 60
""",
    )
    store = open_store(found.settings)
    assert isinstance(store, PostgresStore)
    try:
        async with store._engine.connect() as connection:
            said = await connection.execute(
                text("select current_setting('application_name'), current_setting('jit')")
            )
            assert tuple(said.one()) == ("from a file", "off")
        pool = store._engine.pool
        assert (pool.size(), pool._max_overflow) == (2, 1)  # type: ignore[attr-defined]  # a QueuePool has it
        assert (pool._pre_ping, pool._recycle) == (True, 60)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("mode", "asyncpg"),
    [
        ("sslmode=disable", "disable"),
        ("sslmode=require", "require"),
        ("sslmode=verify-ca", "verify-ca"),
        ("sslmode=verify-full", "verify-full"),
        ("ssl=verify-full", "verify-full"),
        ("ssl=true", "require"),
        ("ssl=require&sslrootcert=/etc/ca.pem&sslcert=/c.pem&sslkey=/k.pem", "require"),
    ],
)
def test_tls_is_said_in_the_words_of_libpq_and_of_asyncpg(
    operator: Operator, mode: str, asyncpg: str
) -> None:
    """What a server with a certificate makes of it is tested where one is started."""
    url = operator.gives({"DATABASE_URL": f"postgresql://me@db/logs?{mode}"}).settings.database
    assert url.query["ssl"] == asyncpg
    assert ("sslrootcert" in url.query) == ("sslrootcert" in mode)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///logs/rows.db", "logs/rows.db"),
        ("sqlite+aiosqlite:///logs/rows.db", "logs/rows.db"),
        ("sqlite+aiosqlite:////{folder}/logs/rows.db", "{folder}/logs/rows.db"),
        ("sqlite:////{folder}/a%b c.db", "{folder}/a%b c.db"),
    ],
)
async def test_sqlite_is_a_file_relative_or_absolute(
    operator: Operator, url: str, file: str
) -> None:
    """Three slashes and a path from here, four and one from the root."""
    folder = str(operator.folder).lstrip("/")
    settings = operator.gives({"DATABASE_URL": url.format(folder=folder)}).settings
    expected = operator.folder / file.format(folder=f"/{folder}")
    expected.parent.mkdir(exist_ok=True)
    async with connected(settings.database) as connection:
        await connection.execute(text("create table rows (id)"))
        await connection.commit()
    assert expected.stat().st_size > 0


REFUSED = {
    "sqlite://": ["in-memory", "spoolway replay"],
    "sqlite:///:memory:": ["in-memory", "sqlite:///path"],
    "sqlite+aiosqlite:///:memory:": ["in-memory"],
    "sqlite:///file::memory:?uri=true": ["in-memory"],
    "sqlite:///file:x?mode=memory&uri=true": ["in-memory"],
    "sqlite://rows.db": ["two slashes", "sqlite:///file"],
    "mysql://me:s3cret@db/logs": ["'mysql'", "postgresql://"],
    "postgresql://me:s3cret@db": ["names no database"],
    "postgresql://me:s3cret@db:5a32/logs": ["malformed", "percent-encode"],
    "postgresql://me:s3cret@db:70000/logs": ["70000", "65535"],
    "postgresql://me:s3cret@db/logs?sslmod=require": ["sslmod", "did you mean sslmode?"],
    "postgresql://me:s3cret@db/logs?sslmode=full": ["sslmode", "verify-full"],
    "postgresql://me:s3cret@db/logs?connect_timeout=s3cret": ["connect_timeout", "number"],
    "s3cret": ["malformed", "postgresql://"],
}


@pytest.mark.parametrize("url", REFUSED)
def test_url_that_cannot_work_is_refused_with_the_reason(operator: Operator, url: str) -> None:
    """Named as it was given, and never with what is secret in it."""
    for said in (
        operator.is_refused({"DATABASE_URL": url}),
        operator.is_refused(yaml=f"database:\n  url: '{url}'\n"),
        operator.is_refused(database_url=url),
    ):
        assert [name for name in REFUSED[url] if name not in said] == [], said
        assert said.startswith(
            ("DATABASE_URL ", "database.url in config.yaml, ", "--database-url ")
        )


def test_settings_made_by_a_program_understand_the_same(newest_postgres: PostgresServer) -> None:
    """`Settings` reads nothing from the environment, and takes every form of a URL."""
    settings = Settings(database_url=newest_postgres.socket_url("x"), database_pool_size=3)
    assert settings.database.database == "x"
    assert getpass.getuser() not in settings.database.render_as_string()
