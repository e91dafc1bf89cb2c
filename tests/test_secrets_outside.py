"""Passwords of the database and of Redis: they go to those two, and nowhere else.

One that can be found again is given to every command, in every way that works and in many that fail;
then it is looked for in all that was said, written, pushed or shown by the kernel.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest

from spoolway.producer import Producer
from tests.commands import run
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.workers import WorkerProcess, drained, ending, push, request_line, spooled

CORE = "Zq7sentinelV9"
PASSWORD = f"{CORE}@/:%+ ?#1"
QUOTED = quote(PASSWORD, safe="")
WRONG = quote(f"{CORE}-wrong", safe="")
ROLE = "keeper"


@pytest.fixture
def postgres(newest_postgres: PostgresServer) -> Iterator[str]:
    """Address and name of a database of a role with that password."""
    server = newest_postgres
    server.sql(f"drop database if exists {ROLE}")
    server.sql(f"drop role if exists {ROLE}")
    server.sql(f"create role {ROLE} login password '{PASSWORD}'")
    server.create_database(ROLE)
    server.sql(f"alter database {ROLE} owner to {ROLE}")
    yield f"127.0.0.1:{server.port}/{ROLE}"
    server.drop_database(ROLE)
    server.sql(f"drop role {ROLE}")


def database_url(where: str, password: str = QUOTED) -> str:
    """The database as an operator names it."""
    return f"postgresql://{ROLE}:{password}@{where}"


def of_everybody(pid: int) -> bytes:
    """What ps shows of a process and of all that it has started."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return b"\n".join(Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in family)


def in_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_redis(server: ValkeyServer) -> bytes:
    """Every key with what is in it, and the clients' names."""
    with server.client() as client:
        keys = list(client.scan_iter())
        return b"\n".join([*keys, *(client.dump(key) or b"" for key in keys)])


def leaks(said: dict[str, bytes]) -> list[str]:
    """Where it is."""
    return [place for place, data in said.items() if CORE.encode() in data]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_tells_its_passwords_to_nobody(
    postgres: str,
    newest_postgres: PostgresServer,
    start_valkey: Callable[..., ValkeyServer],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While it works, while its login is refused, while Redis is away; by ps, HTTP, files and keys.

    At its most talkative: DEBUG, with every statement and what the pool does.
    """
    valkey = start_valkey(password=PASSWORD, append_only="everysec")
    folder, server = tmp_path / "var", newest_postgres
    settings = {
        "SPOOLWAY_LOG_LEVEL": "DEBUG",
        "DATABASE_ECHO": "true",
        "DATABASE_ECHO_POOL": "true",
        "SPOOLWAY_HTTP_PORT": "0",
        "SPOOLWAY_ARCHIVE": "true",
    }
    worker = WorkerProcess(database_url(postgres), valkey.url, folder, **settings)
    said: dict[str, bytes] = {}
    with ending(worker), caplog.at_level(logging.DEBUG):
        worker.started()
        with Producer(valkey.url, folder=tmp_path / "proxy") as producer:
            assert producer.emit({"type": "request"})
            drained(valkey, worker)
            # Its login is refused from here on.
            server.sql(f"alter role {ROLE} password 'another'")
            server.sql(
                f"select pg_terminate_backend(pid) from pg_stat_activity where usename='{ROLE}'"
            )
            push(valkey, [request_line()])
            eventually(lambda: spooled(folder), timeout=30, what="a spool")
            said |= in_files(tmp_path)
            port = (worker.status() or {})["http"].rpartition(":")[2]
            for path in ("/metrics", "/healthz", "/readyz", "/nothing"):
                said[path] = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=10).content
            assert b"spoolway_" in said["/metrics"]
            said["ps"] = of_everybody(worker.pid)
            said["redis"] = in_redis(valkey)
            for command in ("status", "health --json", "config show", "db current", "retention"):
                done = run(
                    *command.split(),
                    DATABASE_URL=database_url(postgres),
                    REDIS_URL=valkey.url,
                    SPOOLWAY_DIR=str(folder),
                    **settings,
                )
                said[command] = done.raw + done.err.encode()
            valkey.kill()
            assert producer.emit({"type": "request"})
            eventually(lambda: (worker.status() or {})["redis_failures"] > 0, timeout=20)
            server.sql(f"alter role {ROLE} password '{PASSWORD}'")
            valkey.start()
        assert worker.terminate() == 0
    said["log of the proxy"] = caplog.text.encode()
    said |= in_files(tmp_path)

    assert leaks({"proof that it can be found": valkey.url.encode()})
    assert b"keeper" in said["config show"]
    assert re.search(rb"select|insert|copy", said[str(worker.log)], re.IGNORECASE)
    assert leaks(said) == []


MALFORMED = [
    {"DATABASE_URL": f"postgresql://me:{WRONG}@:badport/logs"},
    {"DATABASE_URL": f"postgresql://me:{WRONG}@127.0.0.1:99999/logs"},
    {"DATABASE_URL": f"postgresql://me:{CORE}@/:%@[::1/logs"},
    {"DATABASE_URL": f"postgresql://me:{WRONG}@127.0.0.1:1"},
    {"DATABASE_URL": f"postgresql://127.0.0.1:1/logs?password={WRONG}&sslmode=perhaps"},
    {"DATABASE_URL": f"postgresql://me:{WRONG}@127.0.0.1:1/logs?sslmode=verify-full&x={WRONG}"},
    {"DATABASE_URL": f"mysql://me:{WRONG}@127.0.0.1/logs"},
    {"DATABASE_URL": CORE},
    {"REDIS_URL": f"http://:{WRONG}@127.0.0.1"},
    {"REDIS_URL": f"redis://:{WRONG}@127.0.0.1:port"},
    {"REDIS_URL": f"redis://:{WRONG}@127.0.0.1:1/0?unknown={WRONG}"},
    {"REDIS_URL": f"rediss://:{WRONG}@127.0.0.1:1/0?ssl_ca_certs=/{WRONG}"},
    {"SPOOLWAY_JOBS_REDIS_URL": f"redis+cluster://:{WRONG}@127.0.0.1:1"},
    {"DATABASE_POOL_SIZE": CORE},
    {"DATABASE_MAX_OVERFLOW": "5", "DATABASE_POOL_TIMEOUT": CORE},
]


@pytest.mark.parametrize(
    "settings", MALFORMED, ids=[str(number) for number in range(len(MALFORMED))]
)
def test_what_is_wrong_with_a_url_is_said_without_its_password(
    settings: dict[str, str], tmp_path: Path
) -> None:
    """Malformed, unsupported, unreachable: by every command that takes it, and in `config check`."""
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1/0", "SPOOLWAY_STARTUP_TIMEOUT": "0"}
    given = {"SPOOLWAY_DIR": str(tmp_path), "SPOOLWAY_LOG_LEVEL": "DEBUG", **nowhere, **settings}
    said = {}
    for command in ("worker", "status", "db current", "config check", "config show"):
        done = run(*command.split(), **given)
        said[command] = done.raw + done.err.encode()
    assert leaks(said) == []
    assert any(said.values())


def test_a_login_that_is_refused_is_said_without_its_password(
    postgres: str, start_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    """By PostgreSQL and by Redis, to every command and to a proxy; also under arq's own command."""
    valkey = start_valkey(password="another")
    redis_url = f"redis://:{WRONG}@127.0.0.1:{valkey.port}/0"
    given = {
        "DATABASE_URL": database_url(postgres, WRONG),
        "REDIS_URL": redis_url,
        "SPOOLWAY_DIR": str(tmp_path / "var"),
        "SPOOLWAY_STARTUP_TIMEOUT": "0",
        "SPOOLWAY_LOG_LEVEL": "DEBUG",
    }
    said = {}
    for command in ("worker", "status", "db upgrade", "db check", "retention --dry-run"):
        done = run(*command.split(), **given)
        assert done.code in {1, 2} or command == "status", command
        said[command] = done.raw + done.err.encode()
    with ExitStack() as stop:
        arq = ("arq", "spoolway.worker.settings.WorkerSettings")
        # Its database would do, so that it is Redis that refuses.
        under_arq = WorkerProcess(
            f"sqlite:///{tmp_path / 'logs.db'}", redis_url, tmp_path / "arq", command=arq
        )
        stop.enter_context(ending(under_arq))
        under_arq.start()
        eventually(lambda: under_arq.exit_code is not None, timeout=30, what="its end")
    said |= in_files(tmp_path)

    assert b"password" in said["db check"]
    assert b"WRONGPASS" in said[str(under_arq.log)] or b"invalid" in said[str(under_arq.log)]
    assert leaks(said) == []


def test_a_password_on_the_command_line_is_warned_of() -> None:
    """The list of processes shows it to everybody: a warning, and no help that tells to do so."""
    url = f"postgresql://me:{CORE}@127.0.0.1:1/logs"
    done = run("db", "check", "--database-url", url)
    assert "spoolway: warning: whoever runs ps" in done.err
    assert "--database-url" in done.err
    assert CORE not in done.err
    assert (
        "warning"
        in run(
            "config", "check", "--redis-url", f"redis+sentinel://h:1/m?sentinel_password={CORE}"
        ).err
    )
    for harmless in ("postgresql://me@127.0.0.1:1/logs", "sqlite:///a:b@c.db"):
        assert "warning" not in run("db", "check", "--database-url", harmless).err

    for command in ("worker", "up", "replay", "status", "retention", "db upgrade", "db copy"):
        shown = run(*command.split(), "--help").out
        assert not re.search(r"--[a-z-]+\s+\w+://\w*:\w+@", shown), command
