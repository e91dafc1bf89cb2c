"""`spoolway config`, and the flags that every command has."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError

from spoolway.producer import Producer
from tests.commands import environment, refusal, run
from tests.configured import Operator, operator
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.workers import BIN, WorkerProcess, count, ending

__all__ = ["operator"]

SECRET = "s3cret@/%"
FILE = """
model_list: []
database:
  backend: postgres
  connection:
    postgres: {host: db, database: logs, user: me, password: "${DB_PASSWORD}"}
  pool_size: 6
  poolsize: 7
dependencies:
  postgres:
    connect_args: {password: "${DB_PASSWORD}", command_timeout: 60}
"""


@pytest.fixture
def file(operator: Operator) -> str:
    """A configuration file that every user may read."""
    path = operator.folder / "config.yaml"
    path.write_text(FILE)
    path.chmod(0o644)
    return str(path)


def test_config_show_says_every_value_and_where_it_is_from(file: str) -> None:
    """Flags, environment, `.env`, file and default; passwords are hidden, in JSON too."""
    Path(".env").write_text(f"DB_PASSWORD='{SECRET}'\nSPOOLWAY_GROUP=us\n")
    given = ("--config", file, "--database-max-overflow", "3")
    redis = {"REDIS_URL": "redis://:s3cret@cache:6379/0", "SPOOLWAY_STREAM": "x"}
    shown = run("config", "show", *given, **redis)
    assert shown.code == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.out.splitlines()}
    assert rows["DATABASE_URL"] == (
        f"postgresql://me:***@db:5432/logs {file}: database.connection.postgres"
    )
    assert rows["DATABASE_POOL_SIZE"] == f"6 {file}: database.pool_size"
    assert rows["DATABASE_MAX_OVERFLOW"] == "3 flag --database-max-overflow"
    assert rows["SPOOLWAY_GROUP"] == "us .env: SPOOLWAY_GROUP"
    assert rows["SPOOLWAY_STREAM"] == "x env SPOOLWAY_STREAM"
    assert rows["REDIS_URL"] == "redis://:***@cache:6379/0 env REDIS_URL"
    assert rows["SPOOLWAY_BATCH_EVENTS"] == "4000 default"
    assert rows["database_engine.connect_args.password"].startswith("*** ")

    listed = run("config", "show", "--changed", "--json", *given, **redis)
    values = {row["setting"]: row["value"] for row in listed.json}
    assert values["database_pool_size"] == 6
    assert "batch_events" not in values
    assert "s3cret" not in shown.out + shown.err + listed.out + listed.err


def test_config_check_says_what_is_ignored_and_what_is_wrong(file: str) -> None:
    """Exit 0 if a worker would start; 2, with the one line that it would say, if not."""
    refused = run("config", "check", "--config", file)
    assert "DB_PASSWORD" in refusal(refused)
    no_ca = "postgresql://me@db/logs?sslmode=verify-full&sslrootcert=nowhere.pem"
    refused = run("config", "check", DATABASE_URL=no_ca)
    assert "nowhere.pem" in refusal(refused)
    given = {"DB_PASSWORD": SECRET, "SPOOLWAY_BATCHEVENTS": "7"}
    done = run("config", "check", "--config", file, **given)
    assert done.code == 0
    for line in (
        "ignored: SPOOLWAY_BATCHEVENTS: no setting (did you mean SPOOLWAY_BATCH_EVENTS?)",
        f"ignored: model_list in {file}, line 2: not Spoolway's",
        f"ignored: database.poolsize in {file}, line 8: no setting (did you mean pool_size?)",
    ):
        assert line in done.out.splitlines()
    assert "careless" not in done.out
    Path(file).write_text(Path(file).read_text() + f"# {SECRET}")
    careless = run("config", "check", "--config", file, **given).out.splitlines()[-1]
    assert careless == f"careless: {file} holds a password, and every user can read it: chmod o-r"
    in_json = run("config", "check", "--json", "--config", file, **given).json
    assert [one["what"].split()[0] for one in in_json["ignored"]] == [
        "SPOOLWAY_BATCHEVENTS",
        "model_list",
        "database.poolsize",
    ]
    assert "s3cret" not in done.out + done.err


def test_every_command_takes_a_configuration_file_and_the_pools_flags(operator: Operator) -> None:
    """All that read settings take --config; those that open a database --database-…, too."""
    (operator.folder / "x.yaml").write_text("database: {pool_size: 0}")
    for command in (
        *(("worker",), ("up",), ("replay",), ("config", "show"), ("db", "current")),
        *(("db", "upgrade"), ("db", "check")),
    ):
        said = refusal(run(*command, "--config", "x.yaml"))
        assert said.startswith("spoolway: database.pool_size in x.yaml, line 1: "), command
        said = refusal(run(*command, "--database-pool-size", "many"))
        assert said.startswith("spoolway: --database-pool-size: "), command
        said = refusal(run(*command, "--database-max-overflow=-1", "--database-echo"))
        assert said.startswith("spoolway: --database-max-overflow: "), command
    for command in (("health",), ("status",), ("spool", "ls"), ("dead", "ls")):
        said = refusal(run(*command, "--config", "x.yaml"))
        assert said.startswith("spoolway: database.pool_size in x.yaml, line 1: "), command


def test_arq_reads_the_same_file(operator: Operator) -> None:
    """`arq spoolway.worker.settings.WorkerSettings` has no flags, but SPOOLWAY_CONFIG."""
    (operator.folder / "x.yaml").write_text("database:\n  pool_size: 0\n")
    done = subprocess.run(
        [str(BIN / "arq"), "spoolway.worker.settings.WorkerSettings"],
        env=environment(SPOOLWAY_CONFIG="x.yaml"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "database.pool_size in x.yaml, line 2: " in done.stderr


def test_worker_runs_from_the_proxys_file_and_dotenv_alone(
    newest_postgres: PostgresServer, newest_postgres_url: str, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Sections of yaLLMproxy, the password from `.env`, pool and engine from OpenGateLLM's: rows."""
    server = newest_postgres
    (tmp_path / ".env").write_text(f"DB_PASSWORD='{server.password}'\nREDIS_URL={valkey.url}\n")
    (tmp_path / "config.yaml").write_text(f"""
model_list: []
spoolway: {{dir: {tmp_path / "var"}}}
database:
  backend: postgres
  connection:
    postgres:
      host: 127.0.0.1
      port: {server.port}
      database: {newest_postgres_url.rpartition("/")[2]}
      user: {server.user}
      password: ${{DB_PASSWORD}}
dependencies:
  postgres:
    pool_size: 2
    connect_args: {{server_settings: {{statement_timeout: 9s}}, command_timeout: 9}}
""")
    log = tmp_path / "log"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [str(BIN / "spoolway"), "worker", "--config", "config.yaml"],
            cwd=tmp_path,
            env=environment(),
            stdout=output,
            stderr=output,
        )
    try:
        with Producer(valkey.url) as producer:
            assert producer.emit({"type": "request", "outcome": "success"})
        eventually(
            lambda: count(newest_postgres_url) == 1,
            timeout=60,
            ignoring=(DBAPIError,),  # there are no tables yet
        )
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0, log.read_text()
    finally:
        worker.kill()
        worker.wait()
    assert server.password not in log.read_text()


def test_worker_that_is_switched_off_stays_up_and_touches_nothing(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    """`monitoring_postgres_enabled: false`: healthy, said once; no event is read, none is lost."""
    (tmp_path / "x.yaml").write_text("settings: {monitoring_postgres_enabled: false}")
    with valkey.client() as client:
        client.xadd("spoolway:events", {"v": 1})
        folder = tmp_path / "var"
        worker = WorkerProcess(
            "sqlite:////nowhere/x.db", valkey.url, folder, SPOOLWAY_CONFIG=str(tmp_path / "x.yaml")
        )
        with ending(worker):
            worker.start()
            status = eventually(worker.status, timeout=30)
            assert status is not None
            assert status["state"] == "disabled"
            assert run("health", "--dir", str(folder)).code == 0
            assert worker.process is not None
            worker.process.send_signal(signal.SIGTERM)
            assert worker.process.wait(10) == 0
            assert worker.output().count("switched off") == 1
        assert client.xlen("spoolway:events") == 1
        assert client.exists("spoolway:events") == 1
        assert client.xinfo_groups("spoolway:events") == []


def test_producer_that_is_switched_off_does_nothing(
    valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPOOLWAY_ENABLED=false: no thread, no connection, no file; what is no yes or no is refused."""
    monkeypatch.setenv("SPOOLWAY_ENABLED", "off")
    producer = Producer(valkey.url, folder=tmp_path / "var")
    assert not producer.emit({"type": "request"})
    with producer.record(model_name="x") as record:
        record.error(ValueError("x"))
    assert producer.flush(0)
    assert (producer.stats.accepted, producer.stats.dropped) == (0, 0)
    assert not producer._background.started
    assert producer.close(0)
    assert not (tmp_path / "var").exists()
    monkeypatch.setenv("SPOOLWAY_ENABLED", "perhaps")
    with pytest.raises(ValueError, match="SPOOLWAY_ENABLED is true or false"):
        Producer(valkey.url)
    assert "SPOOLWAY_ENABLED" in os.environ
