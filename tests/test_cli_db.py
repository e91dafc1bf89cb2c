"""`spoolway db`: what it prints, how it ends, and what a mistake is told."""

import asyncio
import inspect
import io
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import spoolway.worker.cli
from spoolway import migrations
from spoolway.worker.config import database_url
from tests.servers import PostgresServer, ValkeyServer
from tests.servers.ports import ReservedPort

ROOT = Path(__file__).parent.parent
SPOOLWAY = Path(sys.executable).with_name("spoolway")
NEWEST = migrations.newest()
SECRET = "hunter2:/@%"
QUOTED = "hunter2%3A%2F%40%25"


Run = Callable[..., subprocess.CompletedProcess[str]]


def _environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without its settings of Spoolway, and with these."""
    ours = ("DATABASE_", "REDIS_", "SPOOLWAY_", "PG")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**clean, "COLUMNS": "200", **settings}


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """`spoolway db ...` as a process of its own, in tmp_path, with settings of its own."""

    def run(
        *arguments: str,
        command: tuple[str | Path, ...] = (SPOOLWAY,),
        stdin: int = subprocess.DEVNULL,
        **settings: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "db", *arguments],
            cwd=tmp_path,
            env=_environment(**settings),
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The same, as the installed command calls it, but in this process: ten times as fast."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            patch.setattr("os.environ", _environment(**settings))
            patch.setattr("sys.argv", ["spoolway", "db", *arguments])
            patch.setattr("sys.stdin", io.StringIO())
            with pytest.raises(SystemExit) as ended:
                spoolway.worker.cli.main()
        code = ended.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(sys.argv, code, *capfd.readouterr())

    return run


def _json(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.stderr == ""
    return orjson.loads(done.stdout)


# --- A life of a database -----------------------------------------------------


def test_a_database_is_made_looked_at_and_dropped(main: Run, tmp_path: Path) -> None:
    """Without any setting it is SQLite in ./var; each command says in words where the tables are."""
    steps = [
        (("upgrade",), 0, f"migrated from base to {NEWEST}\n"),
        (("upgrade",), 0, f"already at {NEWEST}\n"),
        (("current",), 0, f"{NEWEST} (newest)\n"),
        (("check",), 0, "no differences\n"),
        (("downgrade", "base", "--yes"), 0, f"migrated from {NEWEST} to base\n"),
        (("current",), 0, f"base (newest is {NEWEST}: spoolway db upgrade)\n"),
    ]
    for arguments, code, output in steps:
        done = main(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (code, output, "")
    done = main("check")
    assert done.returncode == 1
    assert "error_logs: table is missing\nrequest_logs: table is missing\n" in done.stdout
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["spoolway.db"]


def test_json_is_one_value_on_stdout(main: Run) -> None:
    """With --json every command prints what a script needs, and nothing else."""

    def run(*arguments: str) -> Any:
        return _json(main(*arguments, "--json"))

    assert run("upgrade") == {"before": None, "after": NEWEST, "changed": True}
    assert run("current") == {
        "revision": NEWEST,
        "newest": NEWEST,
        "is_newest": True,
        "is_known": True,
    }
    assert run("check") == {"differences": []}
    assert run("history")[-1] == {
        "revision": "0001",
        "down_revision": None,
        "message": "request_logs and error_logs",
    }
    assert run("downgrade", "base", "--yes") == {"before": NEWEST, "after": None, "changed": True}


@pytest.mark.parametrize(
    "command", ["upgrade", "downgrade", "current", "history", "check", "revision"]
)
def test_help_shows_examples(main: Run, command: str) -> None:
    """Every command's help ends in lines that can be typed as they are."""
    done = main(command, "--help")
    assert done.returncode == 0
    assert f" spoolway db {command}" in done.stdout


def test_a_flag_wins_over_the_environment(main: Run, tmp_path: Path) -> None:
    """--database-url before DATABASE_URL, --dir before SPOOLWAY_DIR."""
    env = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/environment/a.db",
        "SPOOLWAY_DIR": f"{tmp_path}/environment",
    }
    flag = main("upgrade", "--database-url", "sqlite:///flag/a.db", **env)
    del env["DATABASE_URL"]
    folder = main("upgrade", "--dir", "folder", **env)

    assert (flag.returncode, folder.returncode) == (0, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"flag", "folder"}


def test_a_sqlite_database_is_its_owners_alone(main: Run, tmp_path: Path) -> None:
    """The folder is made with mode 0700 and the file with 0600; a folder that was there keeps its."""
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared").chmod(0o755)
    assert main("upgrade", "--dir", "new").returncode == 0
    assert main("upgrade", "--dir", "shared").returncode == 0

    def mode(path: str) -> int:
        return stat.S_IMODE((tmp_path / path).stat().st_mode)

    assert (mode("new"), mode("new/spoolway.db")) == (0o700, 0o600)
    assert (mode("shared"), mode("shared/spoolway.db")) == (0o755, 0o600)


def test_downgrade_without_a_terminal_needs_yes(main: Run) -> None:
    """A script that downgrades says so; otherwise the tables stay, and one line says why."""
    main("upgrade")

    done = main("downgrade", "base")

    assert done.returncode == 2
    assert done.stderr == (
        "spoolway: downgrade drops request_logs and error_logs with all their rows: confirm it "
        "with --yes\n"
    )
    assert main("check").returncode == 0


@pytest.mark.parametrize(("answer", "revision"), [("n", NEWEST), ("y", "base")])
def test_downgrade_on_a_terminal_asks(process: Run, main: Run, answer: str, revision: str) -> None:
    """Only "y" drops the tables."""
    main("upgrade")
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())

    done = process("downgrade", "base", stdin=terminal)
    os.close(terminal)
    os.close(keyboard)

    assert "drops request_logs and error_logs with all their rows. Go on?" in done.stdout
    assert done.returncode == (0 if answer == "y" else 1)
    assert main("current").stdout.startswith(revision)


# --- Bad input ----------------------------------------------------------------


REFUSED = (
    "PostgreSQL at {server} does not let user 'spoolway' in: wrong password, or no such user; "
    "correct them in DATABASE_URL\n"
)
NOT_SUPPORTED = "DATABASE_URL has scheme '{}', which is not supported: use postgresql:// (driver"
BAD = {
    "unknown scheme": ("mysql://me:{quoted}@db/logs", NOT_SUPPORTED.format("mysql")),
    "unknown driver": (
        "postgresql+psycopg://me:{quoted}@db/logs",
        NOT_SUPPORTED.format("postgresql+psycopg"),
    ),
    "no URL at all": (
        "me:{quoted}@db",
        "DATABASE_URL is malformed: expected postgresql://user:password@host:5432/name",
    ),
    "in memory": ("sqlite://", "DATABASE_URL names an in-memory SQLite database"),
    "wrong password": ("postgresql://spoolway:{quoted}@{server}/postgres", REFUSED),
    "wrong password as an option": (
        "postgresql://{server}/postgres?user=spoolway&password={quoted}",
        REFUSED,
    ),
    "unknown database": (
        "{server_url}/nowhere",
        (
            "PostgreSQL at {server} has no database 'nowhere': create it, or correct its name in "
            "DATABASE_URL\n"
        ),
    ),
    "no right to create tables": (
        "postgresql://limited:{quoted}@{server}/limited",
        (
            "user 'limited' may not do this in database 'limited' of PostgreSQL at {server}: "
            "permission denied for schema public; to migrate it needs CREATE on a schema of its "
            "search_path, and to be the owner of the tables that are there; to write, the grants "
            "of docs/postgresql.md\n"
        ),
    ),
    "nobody listens": (
        "postgresql://me:{quoted}@{nobody}/logs",
        (
            "PostgreSQL at {nobody} cannot be reached: nothing listens there: start it, or correct "
            "DATABASE_URL\n"
        ),
    ),
    "unknown host": (
        "postgresql://me:{quoted}@nowhere.invalid/logs",
        (
            "the host name 'nowhere.invalid' in DATABASE_URL cannot be resolved: correct it (in a "
            "password, @ : / ? # must be percent-encoded)\n"
        ),
    ),
    "no host name": (
        "postgresql://me:{quoted}@{long}.de/logs",
        "'{long}.de' in DATABASE_URL is no host name\n",
    ),
    "no port": (
        "postgresql://me:{quoted}@127.0.0.1:99999/logs",
        "DATABASE_URL has port 99999: a port is between 1 and 65535\n",
    ),
    "no socket": (
        "postgresql://me:{quoted}@/logs?host={folder}/nowhere",
        (
            "PostgreSQL at {folder}/nowhere:5432 cannot be reached: there is no such socket: start "
            "it, or correct DATABASE_URL\n"
        ),
    ),
    "no TLS": (
        "{server_url}/postgres?ssl=require",
        "PostgreSQL at {server} cannot be used: it speaks no TLS, or is not PostgreSQL\n",
    ),
    "unknown option": (
        "{server_url}/postgres?colour=blue",
        "DATABASE_URL has the option colour, which asyncpg does not know\n",
    ),
    "wrong option": (
        "{server_url}/postgres?ssl=perhaps",
        "DATABASE_URL has an option that asyncpg does not take: `ssl` parameter must be one",
    ),
    "below a file": (
        "sqlite:///{file}/a.db",
        (
            "SQLite database {file}/a.db cannot be opened: File exists ({file}); give a path that "
            "spoolway may write, in DATABASE_URL or by --dir\n"
        ),
    ),
    "a folder": (
        "sqlite:///{folder}",
        "SQLite database {folder} cannot be opened: Is a directory ({folder}); give a path",
    ),
    "where no folder can be made": (
        "sqlite:////proc/nowhere/a.db",
        (
            "SQLite database /proc/nowhere/a.db cannot be opened: No such file or directory "
            "(/proc/nowhere); give a path"
        ),
    ),
    "not a database": (
        "sqlite:///{file}",
        "{file} is not a SQLite database: name another file in DATABASE_URL\n",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(
    case: str, main: Run, newest_postgres: PostgresServer, tmp_path: Path
) -> None:
    """It says what, where and what to do; exit code 2, no traceback, and never a password."""
    file = tmp_path / "file"
    file.write_text("neither a folder nor a database\n" * 100)
    nobody = ReservedPort()
    names = {
        "quoted": QUOTED,
        "server": f"127.0.0.1:{newest_postgres.port}",
        "server_url": newest_postgres.url("x").removesuffix("/x"),
        "nobody": f"127.0.0.1:{nobody.number}",
        "long": "a" * 64,
        "folder": tmp_path,
        "file": file,
    }
    url, message = (template.format(**names) for template in BAD[case])
    if "limited" in url:
        _make_limited_user(newest_postgres)

    done = main("upgrade", DATABASE_URL=url)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"spoolway: {message}")
    assert done.stderr.count("\n") == 1
    for secret in (SECRET, QUOTED, "hunter2", newest_postgres.password):
        assert secret not in done.stderr


def _make_limited_user(server: PostgresServer) -> None:
    """PostgreSQL 15 and later let nobody but the owner create in `public`."""
    server.drop_database("limited")
    server.sql("drop role if exists limited")
    server.sql(f"create role limited login password '{SECRET}'")
    server.create_database("limited")


def test_a_server_that_never_answers_is_given_up(
    private_valkey: ValkeyServer, main: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes the connection and says nothing is told after a time (ten seconds; here half)."""
    private_valkey.suspend()
    monkeypatch.setattr(migrations.connection, "CONNECT_TIMEOUT", 0.5)
    url = f"postgresql://me:{QUOTED}@127.0.0.1:{private_valkey.port}/logs"

    done = main("upgrade", DATABASE_URL=url)

    assert done.returncode == 2
    assert done.stderr == (
        f"spoolway: PostgreSQL at 127.0.0.1:{private_valkey.port} does not answer: check host, "
        "port and firewall\n"
    )


@pytest.mark.parametrize(
    ("driver", "url"),
    [("asyncpg", f"postgresql://me:{QUOTED}@db/logs"), ("aiosqlite", "sqlite:///a.db")],
)
def test_a_missing_driver_is_told(process: Run, tmp_path: Path, driver: str, url: str) -> None:
    """It is named, with the command that installs it."""
    (tmp_path / "a.db").touch()
    without = (
        f"import sys; sys.modules[{driver!r}] = None; from spoolway.worker.cli import main; main()"
    )

    done = process("current", command=(sys.executable, "-c", without), DATABASE_URL=url)

    assert done.returncode == 2
    assert done.stderr == (
        f"spoolway: the database driver {driver} is not installed: pip install 'spoolway[worker]'\n"
    )


# --- From an installed wheel --------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The command of a wheel that is built from this repository and installed into a folder."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([*pip, *build], check=True, timeout=100)
    [wheel] = folder.glob("*.whl")
    target = folder / "site 100%"  # a path that ConfigParser would want to interpolate
    install = ["install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run([*pip, *install], check=True, timeout=100)
    # Without the repository's rooms, which an editable install has put on the path.
    start = f"""
        import os, sys
        kept = [path for path in sys.path if os.path.dirname(path) != {str(ROOT)!r}]
        sys.path[:] = [{str(target)!r}, *kept]
        import spoolway.migrations, spoolway.schema.tables, spoolway.worker.cli
        files = [m.__file__ for n, m in sys.modules.items() if n.startswith("spoolway.")]
        assert all(file.startswith({str(target)!r}) for file in files), files
        spoolway.worker.cli.main()
    """
    return (sys.executable, "-c", inspect.cleandoc(start))


def test_an_installed_wheel_migrates_without_its_repository(
    process: Run, installed: tuple[str, ...], newest_postgres_url: str
) -> None:
    """No alembic.ini, no working directory: the revisions are where the package is."""
    for url in ("sqlite:///a.db", newest_postgres_url):
        done = process("upgrade", command=installed, DATABASE_URL=url)
        assert (done.stdout, done.stderr) == (f"migrated from base to {NEWEST}\n", "")
        done = process("check", command=installed, DATABASE_URL=url)
        assert (done.stdout, done.stderr) == ("no differences\n", "")


@pytest.mark.chaos
def test_a_drafted_revision_brings_the_database_to_the_tables(
    process: Run, main: Run, installed: tuple[str, ...], newest_postgres_url: str, tmp_path: Path
) -> None:
    """`revision` writes what `check` found, `upgrade` runs it, and the version before refuses it."""

    def newer(url: str, *arguments: str) -> str:
        done = process(*arguments, command=installed, DATABASE_URL=url)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    urls = [f"sqlite:///{tmp_path}/a.db", newest_postgres_url]
    for url in urls:
        newer(url, "upgrade")
        asyncio.run(_drift(url))
    draft = Path(newer(urls[0], "revision", "-m", "put back"))
    try:
        drafted = f"{int(NEWEST) + 1:04}"
        assert draft.name == f"{drafted}_put_back.py"
        for url in urls:
            assert newer(url, "upgrade") == f"migrated from {NEWEST} to {drafted}"
            assert newer(url, "check") == "no differences"
            older = main("upgrade", DATABASE_URL=url)
            assert older.returncode == 2
            assert older.stderr == (
                f"spoolway: the database is at revision {drafted}, which this version of spoolway "
                f"does not know (its newest is {NEWEST}): upgrade spoolway, or run "
                f"`spoolway db downgrade {NEWEST}` with the newer version\n"
            )
            back = newer(url, "downgrade", NEWEST, "--yes")
            assert back == f"migrated from {drafted} to {NEWEST}"
    finally:
        draft.unlink()


async def _drift(url: str) -> None:
    engine = create_async_engine(database_url(url))
    async with engine.begin() as connection:
        await connection.execute(text("DROP INDEX ix_request_logs_outcome"))
        await connection.execute(text("ALTER TABLE error_logs DROP COLUMN backend_name"))
    await engine.dispose()
