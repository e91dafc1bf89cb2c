"""What the worker logs: one record a line, whoever says it, and never a password."""

import asyncio
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import quote

import orjson
import pytest

from spoolway.worker.config import Settings, load
from spoolway.worker.logs import complain, configure_logging
from spoolway.worker.masking import Mask, secrets_of
from tests.commands import environment, own_process_state
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import BIN, WorkerProcess, ending

PASSWORD = "Kö/ln@7 %41#s3cret"
"""With all that a URL writes otherwise: each of its spellings must stay unseen."""
SPELLINGS = {PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), "s3cret", "ln@7", "ln%407"}


def url_of(scheme: str, host: str, path: str) -> str:
    """Return a URL with the password in it."""
    return f"{scheme}://me:{quote(PASSWORD, safe='')}@{host}/{path}"


@pytest.fixture
def logged() -> Callable[..., list[str]]:
    """Configure logging for a moment, say something, and return the lines on stderr."""

    def lines_of(say: Callable[[], object], **settings: str) -> list[str]:
        stderr = io.StringIO()
        with (
            warnings.catch_warnings(),
            own_process_state(),
            mock.patch.object(sys, "stderr", stderr),
        ):
            warnings.simplefilter("always")
            with mock.patch.dict(os.environ, environment(**settings), clear=True):
                configure_logging(load())
            say()
        return stderr.getvalue().splitlines()

    return lines_of


def _raise(text: str) -> None:
    raise RuntimeError(text)


def _log_exception(text: str) -> None:
    try:
        _raise(text)
    except RuntimeError:
        logging.getLogger("somebody.else").exception("failed: %s", text)


def _in_thread(text: str) -> None:
    thread = threading.Thread(target=_raise, args=(text,), name="t")
    thread.start()
    thread.join()


def _uncaught(text: str) -> None:
    try:
        _raise(text)
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)


def _in_a_task(text: str) -> None:
    async def lost() -> None:
        async def failing() -> None:
            _raise(text)

        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        asyncio.get_running_loop().call_exception_handler(
            {"message": text, "exception": task.exception()}
        )

    asyncio.run(lost())


SAYINGS: dict[str, Callable[[str], object]] = {
    "a library's record": lambda text: logging.getLogger("uvicorn.error").error(text),
    "an exception": _log_exception,
    "a warning": lambda text: warnings.warn(text, stacklevel=1),
    "a thread": _in_thread,
    "what nobody caught": _uncaught,
    "a task": _in_a_task,
    "a refusal": complain,
}


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS.keys())
def test_whatever_is_said_is_one_json_object_a_line(
    say: Callable[[str], object], logged: Callable[..., list[str]]
) -> None:
    """Line ends, control characters, lone surrogates and passwords in it change nothing of that."""
    hostile = f'one\ntwo\x1b[2J\r"\ud800 {PASSWORD}'
    [line] = logged(
        lambda: say(hostile),
        SPOOLWAY_LOG_FORMAT="json",
        DATABASE_URL=url_of("postgresql", "h", "d"),
    )
    record = orjson.loads(line)
    assert record.keys() - {"exception"} == {"time", "level", "logger", "message"}
    assert "s3cret" not in line
    assert "one\ntwo" in record.get("exception", "") + record["message"]


@pytest.mark.parametrize("say", SAYINGS.values(), ids=SAYINGS.keys())
def test_text_from_events_cannot_forge_a_line(
    say: Callable[[str], object], logged: Callable[..., list[str]]
) -> None:
    """Every line that begins at the left edge is a record; nothing moves the cursor."""
    forged = "2026-01-01 00:00:00,000 ERROR   spoolway.drain: LOST everything"
    found = logged(lambda: say(f"x\n{forged}\x1b[2J\u202e"))
    assert not any(line.startswith(forged) for line in found)
    assert [line for line in found if not line.startswith((" ", "20", "spoolway: "))] == []
    assert all(line.isprintable() for line in found)


def test_passwords_are_found_however_they_are_written() -> None:
    """As it is, percent-encoded, in a repr, in JSON; from every setting that holds one."""
    settings = Settings(
        database_url=url_of("postgresql", "h", "d") + "?sslpassword=of-the-key",
        redis_url=url_of("redis", "h", "0"),
        jobs_redis_url="redis://h/0?password=of-the-jobs",
        database_engine={"connect_args": {"password": "of-the-driver"}},
    )
    mask = Mask(secrets_of(settings))
    for secret in (PASSWORD, "of-the-key", "of-the-jobs", "of-the-driver"):
        spellings = {secret, quote(secret, safe=""), repr(secret), json.dumps(secret)}
        for spelling in spellings:
            assert "***" in mask(f"before {spelling} after"), spelling
            assert secret not in mask(spelling)
    awkward = "a'b\"c\\d"
    masked = Mask({awkward})
    for spelling in (awkward, repr(awkward), json.dumps(awkward)):
        assert "c" not in masked(spelling)
    assert Mask({"", "abc"})("abc") == "abc", "nobody can read a log without its words"


def start_and_fail(folder: Path, *command: str, **settings: str) -> tuple[int, str]:
    """Run a worker that cannot start; return its exit code and all it said."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env=environment(SPOOLWAY_DIR=str(folder), SPOOLWAY_STARTUP_TIMEOUT="0.3", **settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def speaks_no_tls() -> Iterator[str]:
    """An address where somebody accepts, and answers with nonsense."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    client.sendall(b"go away\r\n" * 10)

        threading.Thread(target=answer, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "asked",
    [
        ("json", "wrong password", "Redis without TLS"),
        pytest.param(
            ("json", "no TLS", "Redis wants none", "no Redis", "no Sentinel"),
            marks=pytest.mark.chaos,
        ),
        pytest.param(
            ("text", "wrong password", "no TLS", "Redis wants none", "no Redis"),
            marks=pytest.mark.chaos,
        ),
    ],
    ids=" ".join,
)
def test_no_password_is_said_by_a_worker_that_cannot_start(
    asked: tuple[str, ...],
    tmp_path: Path,
    newest_postgres: PostgresServer,
    valkey: ValkeyServer,
    speaks_no_tls: str,
) -> None:
    """Wrong password, host, protocol, TLS, database; over both commands; at DEBUG."""
    log_format, *names = asked
    postgres, nobody = f"127.0.0.1:{newest_postgres.port}", f"127.0.0.1:{ReservedPort().number}"
    cases = {
        "wrong password": {"DATABASE_URL": url_of("postgresql", postgres, "postgres")},
        "no TLS": {
            "DATABASE_URL": url_of("postgresql", speaks_no_tls, "d?sslmode=require"),
            "REDIS_URL": url_of("redis", nobody, "0"),  # the database alone is waited for
        },
        "Redis wants none": {"REDIS_URL": url_of("redis", f"127.0.0.1:{valkey.port}", "0")},
        "no Redis": {"REDIS_URL": url_of("redis", nobody, "0")},
        "Redis without TLS": {"REDIS_URL": url_of("rediss", speaks_no_tls, "0")},
        "no Sentinel": {"REDIS_URL": url_of("redis+sentinel", nobody, "mymaster/0")},
    }
    said_by = {"spoolway": ("worker",), "arq": ("spoolway.worker.settings.WorkerSettings",)}
    started = {
        (name, command): {
            "REDIS_URL": valkey.url,
            "SPOOLWAY_LOG_FORMAT": log_format,
            "SPOOLWAY_LOG_LEVEL": "DEBUG",
            **cases[name],
        }
        for name in names
        for command in said_by
        if command == "spoolway" or name == "no Redis"
    }
    said: dict[tuple[str, str], tuple[int, str]] = {}

    def run(name: tuple[str, str], settings: dict[str, str]) -> None:
        folder = tmp_path / "-".join(name)
        said[name] = start_and_fail(folder, name[1], *said_by[name[1]], **settings)

    threads = [threading.Thread(target=run, args=one) for one in started.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.keys() == started.keys()
    for name, (code, output) in said.items():
        assert code != 0, name
        for spelling in SPELLINGS:
            assert spelling not in output, (name, output)
        if log_format == "json" and name[1] == "spoolway":
            records = [orjson.loads(line) for line in output.splitlines()]
            assert records[-1]["level"] == "CRITICAL", (name, output)


@pytest.mark.chaos
def test_no_password_is_said_in_an_outage(
    tmp_path: Path, start_valkey: Callable[..., ValkeyServer], private_postgres: PostgresServer
) -> None:
    """Database and Redis go away under a worker that says all it can; both take other passwords."""
    private_postgres.sql(f"ALTER ROLE CURRENT_USER PASSWORD '{PASSWORD}'")
    valkey = start_valkey(password=PASSWORD)
    worker = WorkerProcess(
        private_postgres.url("postgres", password=PASSWORD),
        valkey.url,
        tmp_path / "var",
        SPOOLWAY_LOG_LEVEL="DEBUG",
        SPOOLWAY_HTTP_PORT="0",
        DATABASE_ECHO="true",
        DATABASE_ECHO_POOL="true",
    )
    with ending(worker):
        worker.started()
        private_postgres.stop("immediate")
        valkey.kill()
        eventually(lambda: "spoolway:events" in worker.output() and "Redis" in worker.output())
        eventually(lambda: (worker.status() or {})["redis_failures"] > 1, timeout=20)
        assert worker.terminate() == 0
    output = worker.output()
    for spelling in SPELLINGS:
        assert spelling not in output
    assert all(line.startswith("{") for line in output.splitlines()), "and all of it is JSON"
    assert "password" not in (tmp_path / "var" / "worker-0.lock").read_text()


def test_arqs_command_logs_json_alone(tmp_path: Path, valkey: ValkeyServer) -> None:
    """With the dictionary that the page names, from the first line to the last."""
    command = ("arq", "--custom-log-dict", "spoolway.worker.logs.FOR_ARQ")
    worker = WorkerProcess(
        f"sqlite:///{tmp_path / 'logs.db'}",
        valkey.url,
        tmp_path / "var",
        command=(*command, "spoolway.worker.settings.WorkerSettings"),
    )
    with ending(worker):
        worker.started()
        worker.terminate()
    lines = worker.output().splitlines()
    assert [line for line in lines if not line.startswith("{")] == []
    assert any(record["message"].startswith("consumer ") for record in worker.logged())
