"""The command line as an operator meets it: help, mistakes, and `spoolway up`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spoolway.producer import Producer
from tests import commands
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.workers import BIN, WorkerProcess, count, ending

SPOOLWAY = str(BIN / "spoolway")


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command with these settings alone."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SPOOLWAY_", "DATABASE_", "REDIS_"))
    }
    return subprocess.run(
        [SPOOLWAY, *arguments],
        cwd=cwd,
        env={**inherited, "SPOOLWAY_STARTUP_TIMEOUT": "0", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that the command refused as promised, and return what it said."""
    said = [line for line in done.stderr.splitlines() if line.startswith("spoolway: ")]
    assert done.returncode == 2, done.stderr
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "s3cret" not in done.stderr + done.stdout
    return said[0]


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        (
            {"DATABASE_URL": "mysql://u:s3cret@db/logs"},
            ["DATABASE_URL", "'mysql'", "postgresql://"],
        ),
        ({"DATABASE_URL": "postgresql+psycopg://u:s3cret@db/x"}, ["psycopg", "asyncpg"]),
        ({"DATABASE_URL": "s3cret"}, ["DATABASE_URL", "malformed"]),
        ({"DATABASE_URL": "sqlite://"}, ["in-memory", "sqlite:///path"]),
        ({"REDIS_URL": "http://:s3cret@cache"}, ["REDIS_URL", "'http'", "redis://"]),
        ({"REDIS_URL": "redis://:s3cret@cache:port"}, ["REDIS_URL", "malformed"]),
        ({"REDIS_URL": "redis://:s3cret@127.0.0.1:1/0"}, ["127.0.0.1:1", "REDIS_URL"]),
        ({"SPOOLWAY_IN_FLIGHT": "0"}, ["SPOOLWAY_IN_FLIGHT", "greater than or equal to 1"]),
        ({"SPOOLWAY_DIR": "/proc/nowhere"}, ["/proc/nowhere", "SPOOLWAY_DIR"]),
    ],
)
def test_mistake_in_the_settings_is_one_line_that_says_what_to_do(
    environment: dict[str, str],
    names: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What, where and what to do; exit code 2, no traceback, never the password."""
    monkeypatch.chdir(tmp_path)
    settings = {"SPOOLWAY_STARTUP_TIMEOUT": "0", **environment}
    done = commands.run("worker", **settings)
    said = refusal(subprocess.CompletedProcess(["worker"], done.code, done.out, done.err))
    for name in names:
        assert name in said


def test_arq_command_refuses_the_same_mistakes_in_the_same_way(tmp_path: Path) -> None:
    """Under arq's own command, too, a mistake is one line and exit code 2."""
    done = subprocess.run(
        [str(BIN / "arq"), "spoolway.worker.settings.WorkerSettings"],
        cwd=tmp_path,
        env={**os.environ, "DATABASE_URL": "mysql://u:s3cret@db/logs"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "'mysql'" in refusal(done)


def test_wrong_password_is_named_and_never_printed(
    newest_postgres: PostgresServer, newest_postgres_url: str, tmp_path: Path
) -> None:
    """A wrong password at start: who, where, and not what."""
    name = newest_postgres_url.rsplit("/", 1)[1]
    url = newest_postgres.url(name, password="s3cret")
    said = refusal(run("worker", cwd=tmp_path, DATABASE_URL=url))
    assert "password" in said


def test_database_behind_this_version_is_refused_without_auto_migrate(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    """DATABASE_AUTO_MIGRATE=false: an old database is named, and the command that upgrades it."""
    environment = {"DATABASE_AUTO_MIGRATE": "false", "REDIS_URL": valkey.url}
    assert "spoolway db upgrade" in refusal(run("worker", cwd=tmp_path, **environment))


def test_every_command_has_help_with_examples() -> None:
    """`--help` of each command shows how it is used."""
    for command in (["worker"], ["up"], ["health"], ["db", "upgrade"]):
        done = commands.run(*command, "--help")
        assert done.code == 0
        assert f"spoolway {' '.join(command)}" in done.out


def test_health_says_that_no_worker_runs(tmp_path: Path) -> None:
    """Nothing there is not healthy, and says what to do."""
    done = run("health", cwd=tmp_path)
    assert done.returncode == 1
    assert "spoolway worker" in done.stdout


def up(folder: Path, *arguments: str) -> WorkerProcess:
    """`spoolway up` with its folder, on a free port."""
    return WorkerProcess(
        "",
        "",
        folder,
        command=("spoolway", "up", "--port", "0", *arguments),
        DATABASE_URL="",
        SPOOLWAY_API_PORT="0",
    )


def embedded_url(process: WorkerProcess) -> str:
    """The URL that `spoolway up` prints."""

    def printed() -> str:
        assert process.exit_code is None, process.output()
        lines = [line.split() for line in process.output().splitlines()]
        return next((line[1] for line in lines if line[:1] == ["Valkey"]), "")

    return eventually(printed, timeout=30, what="the embedded Valkey's URL")


def test_up_runs_everything_for_one_machine(tmp_path: Path) -> None:
    """`spoolway up`: a proxy's events are in SQLite; SIGINT stops all of it with exit code 0."""
    folder = tmp_path / "var"
    process = up(folder)
    with ending(process):
        process.start()
        producer = Producer(embedded_url(process))
        for _ in range(50):
            assert producer.emit({"type": "request", "outcome": "success"})
        assert producer.close(10)
        database = f"sqlite:///{folder / 'spoolway.db'}"
        eventually(lambda: (process.status() or {}).get("inserted") == 50, timeout=20)
        assert count(database) == 50
        assert process.process is not None
        process.process.send_signal(signal.SIGINT)
        assert process.process.wait(10) == 0
    assert not valkeys_of(folder), "Valkey was stopped, too"
    left = {file.name for file in folder.glob("spoolway.db*")}
    assert left == {"spoolway.db"}, "all rows are in the one file: it can be copied"


def valkeys_of(folder: Path) -> list[int]:
    """Processes whose working folder is the embedded Valkey's."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.readlink() == folder / "valkey":
                found.append(int(link.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_up_ends_when_its_valkey_does(tmp_path: Path) -> None:
    """Without its Valkey there is nothing to serve: it says so and exits, for its supervisor."""
    folder = tmp_path / "var"
    process = up(folder)
    with ending(process):
        process.start()
        embedded_url(process)
        eventually(process.status, timeout=20)
        (valkey,) = valkeys_of(folder)
        os.kill(valkey, signal.SIGKILL)
        assert process.process is not None
        assert process.process.wait(20) == 2
    assert "the embedded Valkey ended" in process.output()


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize(
    "valkey_first", [False, pytest.param(True, marks=pytest.mark.chaos)], ids=["up", "Valkey"]
)
def test_events_survive_a_kill_of_everything(valkey_first: bool, tmp_path: Path) -> None:
    """SIGKILL of `spoolway up`, or of its Valkey first: what was accepted is there at the next start.

    While a Valkey lives, a second start on the folder is refused: two servers would ruin one
    append-only file. It does not outlive its `spoolway up`.
    """
    folder = tmp_path / "var"
    first = up(folder)
    with ending(first):
        first.start()
        url = embedded_url(first)
        eventually(first.status, timeout=20)
        assert first.process is not None
        first.process.send_signal(signal.SIGSTOP)  # events stay on the stream
        producer = Producer(url)
        for _ in range(500):
            assert producer.emit({"type": "request", "outcome": "success"})
        assert producer.close(10)
        (valkey,) = valkeys_of(folder)
        second_try = ("up", "--port", "0", "--dir", str(folder))
        assert "already" in refusal(run(*second_try, cwd=tmp_path, SPOOLWAY_API_PORT="0"))
        if valkey_first:
            eventually(lambda: synced(folder), timeout=10)
            os.kill(valkey, signal.SIGKILL)
        first.process.kill()
        first.process.wait()
    second = up(folder)
    with ending(second):
        second.start()
        eventually(lambda: (second.status() or {}).get("inserted") == 500, timeout=20)
        second.terminate()


def synced(folder: Path) -> bool:
    """Whether the append-only file holds something."""
    return any(file.stat().st_size for file in (folder / "valkey").glob("appendonlydir/*.incr.aof"))


def test_up_says_when_its_port_is_taken(valkey: ValkeyServer, tmp_path: Path) -> None:
    """A port in use is named, with both ways out."""
    said = refusal(run("up", "--port", str(valkey.port), cwd=tmp_path, SPOOLWAY_API_PORT="0"))
    assert "REDIS_URL" in said
    assert "--port" in said
    said = refusal(run("up", "--port", "0", cwd=tmp_path, SPOOLWAY_API_PORT=str(valkey.port)))
    assert said.startswith(f"spoolway: SPOOLWAY_API_PORT: 127.0.0.1:{valkey.port} is in use")
