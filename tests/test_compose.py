"""compose.yml and .env.example: what can be proven without a Docker engine.

The commands they contain are run here against the real servers; no container is started.
"""

import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
import pytest
import redis
import yaml

from spoolway.worker.config import Settings
from tests.commands import SPOOLWAY, run
from tests.confined import confined, environment_names
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import count, push, request_line, spooled

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose.yml"
INTERPOLATED = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def _interpolate(text: str) -> str:
    """Put the defaults in, as Compose does; a required variable gets a stand-in."""
    return INTERPOLATED.sub(lambda m: m[3] if m[2] == "-" else "stand-in", text)


def _check_compose_schema(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_file_follows_the_compose_specification() -> None:
    """compose.yml is valid against the Compose specification's own schema."""
    result = _check_compose_schema(COMPOSE)

    assert result.returncode == 0, result.stdout + result.stderr


def test_compose_specification_check_notices_a_misspelt_key(tmp_path: Path) -> None:
    """The schema check is a check: one wrong key in one healthcheck fails it."""
    broken = tmp_path / "compose.yml"
    broken.write_text(COMPOSE.read_text().replace("start_period:", "start_perod:", 1))

    result = _check_compose_schema(broken)

    assert result.returncode == 1
    assert "start_perod" in result.stdout


def test_every_long_running_service_has_a_healthcheck_and_a_restart_policy() -> None:
    """A service that is meant to stay says when it is healthy and comes back by itself."""
    services = _services()
    staying = {name: s for name, s in services.items() if name != "migrate"}

    assert staying.keys() == {"valkey", "postgres", "worker", "serve", "prometheus", "grafana"}
    for name, service in staying.items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert service["restart"] == "unless-stopped", name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_migrate_runs_once_before_any_worker() -> None:
    """Workers start only after one migration has succeeded on a healthy database."""
    services = _services()
    migrate, worker = services["migrate"], services["worker"]

    assert migrate["command"] == ["db", "upgrade"]
    assert migrate["restart"] == "no"
    assert migrate["healthcheck"] == {"disable": True}
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert worker["depends_on"] == {
        "migrate": {"condition": "service_completed_successfully"},
        "valkey": {"condition": "service_healthy"},
    }
    assert worker["environment"]["DATABASE_AUTO_MIGRATE"] == "false"


def test_worker_is_healthy_by_its_own_word_and_has_time_to_stop() -> None:
    """The worker's health is `spoolway health`, and its grace exceeds its 10 s stop.

    Several of them have one volume: what one leaves in the spool, another one puts back.
    """
    worker = _services()["worker"]

    assert worker["healthcheck"]["test"] == ["CMD", "spoolway", "health"]
    assert int(worker["stop_grace_period"].removesuffix("s")) > 10


def test_the_page_is_served_from_a_folder_that_it_cannot_write_to() -> None:
    """`spoolway serve` has a token, the workers' folder read-only, and its own probe and port."""
    serve = _services()["serve"]
    [port] = serve["ports"]

    assert serve["command"] == ["serve"]
    assert "SPOOLWAY_API_TOKEN" in serve["environment"]
    folder = serve["environment"]["SPOOLWAY_DIR"]
    assert serve["volumes"] == [f"spoolway:{folder}:ro"]
    assert folder == _services()["worker"]["environment"]["SPOOLWAY_DIR"]
    number = str(Settings.model_fields["api_port"].default)
    assert port.endswith(f":{number}")
    assert f"127.0.0.1:{number}/healthz" in serve["healthcheck"]["test"][-1]
    assert int(serve["stop_grace_period"].removesuffix("s")) > 5


def test_services_can_write_only_where_they_must() -> None:
    """Nobody gains privileges; ours and the observers run read-only, without capabilities.

    The images of Valkey and PostgreSQL start as root, to hand their volume to their own user. Dead
    letters and the spool have a volume, and what is mounted from here cannot be written to.
    """
    services = _services()

    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name not in {"valkey", "postgres"}:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
        for volume in service.get("volumes", []):
            assert not volume.startswith(".") or volume.endswith(":ro"), volume
    folder = services["worker"]["environment"]["SPOOLWAY_DIR"]
    assert f"spoolway:{folder}" in services["worker"]["volumes"]
    assert "spoolway" in yaml.safe_load(COMPOSE.read_text())["volumes"]


def test_ports_are_published_on_the_loopback_address_only() -> None:
    """No service is reachable from another machine, and the worker's metrics not even from this."""
    published = [port for s in _services().values() for port in s.get("ports", [])]

    assert published
    for port in published:
        assert port.startswith("127.0.0.1:"), port
    assert "ports" not in _services()["worker"]


def test_urls_name_the_services_they_connect_to() -> None:
    """Host, user, database and port in the URLs are those of the services beside them."""
    services = _services()
    for name in ("migrate", "worker", "serve"):
        url = urlsplit(_interpolate(services[name]["environment"]["DATABASE_URL"]))
        postgres = services["postgres"]["environment"]
        assert url.hostname in services
        assert url.port == 5432
        assert url.username == postgres["POSTGRES_USER"]
        assert url.path == f"/{postgres['POSTGRES_DB']}"
        assert url.password == _interpolate(postgres["POSTGRES_PASSWORD"])
    assert urlsplit(services["worker"]["environment"]["REDIS_URL"]).hostname in services


def test_every_variable_set_for_the_worker_is_a_setting() -> None:
    """What compose.yml sets is read by the worker: no misspelt name is ignored."""
    services = _services()

    for name in ("worker", "migrate", "serve"):
        assert services[name]["environment"].keys() <= environment_names()


def test_env_example_lists_exactly_the_variables_of_the_compose_file() -> None:
    """.env.example has every variable, with the same defaults, and no password.

    Without a password nothing starts: there is no default that somebody could forget to change.
    """
    example = dict(
        line.lstrip("#").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if re.match(r"#?[A-Z_]+=", line)
    )
    # Outside of comments, where a variable may be spoken of.
    text = re.sub(r"^\s*#.*$", "", COMPOSE.read_text(), flags=re.MULTILINE)
    used = {m[1]: m[3] if m[2] == "-" else "" for m in INTERPOLATED.finditer(text)}

    assert used == example
    required = {m[1] for m in INTERPOLATED.finditer(text) if m[2] == "?"}
    assert required == {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD", "API_TOKEN"}
    assert {name for name in used if re.search("PASSWORD|TOKEN", name)} == required


def test_image_tag_is_the_projects_version() -> None:
    """`docker compose build` tags what it builds with the version it is."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    for name in ("worker", "migrate", "serve"):
        assert _services()[name]["image"] == f"spoolway:{version}"


def test_valkey_keeps_what_it_accepted_and_refuses_when_full(
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    """Started as in compose.yml, Valkey writes an append-only file and evicts nothing."""
    program, *arguments = [_interpolate(word) for word in _services()["valkey"]["command"]]
    directives = {
        name.removeprefix("--"): value
        for name, value in zip(arguments[::2], arguments[1::2], strict=True)
    }
    assert program == "valkey-server"

    with start_valkey(extra=directives).client() as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory") == {"maxmemory": str(512 * 1024**2)}

        # Full means refused and not evicted: shown, since it is what the promise rests on.
        client.xadd("events", {"data": "kept"})
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.xadd("events", {"data": "refused"})
        assert client.xlen("events") == 1


def test_postgres_is_not_healthy_while_only_its_setup_server_runs(
    start_postgres: Callable[..., PostgresServer],
) -> None:
    """The probe fails on a socket-only server, which the image runs during set-up, then passes."""
    probe = _services()["postgres"]["healthcheck"]["test"]
    environment = _services()["postgres"]["environment"]
    assert probe[:2] == ["CMD", "pg_isready"]
    assert f"--username={environment['POSTGRES_USER']}" in probe
    assert f"--dbname={environment['POSTGRES_DB']}" in probe

    def answers(server: PostgresServer, arguments: list[str]) -> bool:
        own_port = [f"--port={server.port}" if a == "--port=5432" else a for a in arguments]
        command = [str(server.bin_dir / "pg_isready"), *own_port]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0

    setting_up = start_postgres(settings={"listen_addresses": ""})
    assert answers(setting_up, [f"--host={setting_up.socket_folder}", "--port=5432"])
    assert not answers(setting_up, probe[2:])

    assert answers(start_postgres(), probe[2:])


def test_monitoring_is_a_profile_of_its_own() -> None:
    """Prometheus and Grafana come with `--profile monitoring` alone, read-only from this repository."""
    services = _services()
    watching = {name for name, service in services.items() if "profiles" in service}

    assert watching == {"prometheus", "grafana"}
    for name in watching:
        assert services[name]["profiles"] == ["monitoring"]
        assert re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"]), "pinned"
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_dir(), source
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    [job] = [job for job in config["scrape_configs"] if job["job_name"] == "spoolway"]
    assert job["dns_sd_configs"][0]["names"] == ["worker"], "each of its containers has an address"
    port = services["worker"]["environment"]["SPOOLWAY_HTTP_PORT"]
    assert str(job["dns_sd_configs"][0]["port"]) == port


@pytest.mark.chaos
def test_containers_share_the_volume_and_inherit_what_one_leaves(
    valkey: ValkeyServer, private_folder: Path
) -> None:
    """Two workers of two hosts' names on one folder: slots and health apart, the spool for both.

    What one has spooled when it goes away for good is put into the database by the other one.
    """
    folder = private_folder / "volume"
    folder.mkdir(mode=0o700)
    database = folder / "logs.db"
    settings = {
        "PATH": "/usr/bin:/bin",
        "REDIS_URL": valkey.url,
        "DATABASE_URL": f"sqlite:///{database}",
        "SPOOLWAY_DIR": str(folder),
        "SPOOLWAY_WRITE_TIMEOUT": "0.5",
    }

    def healthy(host: str) -> list[str]:
        command = confined([SPOOLWAY, "health", "--json"], folder, host=host)
        done = subprocess.run(command, env=settings, cwd=folder, capture_output=True, check=False)
        return [worker["consumer"] for worker in orjson.loads(done.stdout)["workers"]]

    workers = [
        subprocess.Popen(
            confined([SPOOLWAY, "worker"], folder, host=host), env=settings, cwd=folder
        )
        for host in ("one", "two")
    ]
    try:
        eventually(lambda: healthy("one") and healthy("two"), timeout=30, every=0.5)
        assert {*healthy("one"), *healthy("two")} in (
            {"one-0", "two-1"},
            {"one-1", "two-0"},
        )
        with closing(sqlite3.connect(database)) as locked:
            locked.execute("BEGIN IMMEDIATE")
            push(valkey, [request_line() for _ in range(10)], per_frame=1)
            eventually(lambda: spooled(folder) == 10, timeout=60)
            workers[0].kill()
            workers[0].wait()
            locked.rollback()
        eventually(lambda: spooled(folder) == 0, timeout=60)
        assert count(f"sqlite:///{database}") == 10
        workers[1].terminate()
        assert workers[1].wait(15) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
@pytest.mark.chaos
def test_prometheus_starts_as_in_the_compose_file(tmp_path: Path) -> None:
    """With these arguments and the mounted files, and healthy by the probe's own URL."""
    service = _services()["prometheus"]
    port = ReservedPort()
    command = [
        word.replace("/etc/prometheus", str(ROOT / "deploy" / "prometheus")).replace(
            "=/prometheus", f"={tmp_path}"
        )
        for word in service["command"]
    ]
    probe = service["healthcheck"]["test"][-1].replace(":9090", f":{port.number}")
    prometheus = subprocess.Popen(
        ["prometheus", *command, f"--web.listen-address=127.0.0.1:{port.number}"],
        stderr=subprocess.PIPE,
        text=True,
    )

    def answers() -> bool:
        assert prometheus.poll() is None, prometheus.stderr and prometheus.stderr.read()
        try:
            return httpx.get(probe, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers, timeout=30, what="a healthy Prometheus")
        rules = httpx.get(f"http://127.0.0.1:{port.number}/api/v1/rules", timeout=5).json()
        assert rules["data"]["groups"], "the rules for alerts are loaded"
    finally:
        prometheus.terminate()
        prometheus.communicate(timeout=30)


@pytest.mark.parametrize("command", ["worker", "db upgrade", "health", "replay", "serve"])
def test_every_command_of_the_deployment_files_exists(command: str) -> None:
    """What the deployment files call is a command of the installed console script."""
    assert run(*command.split(), "--help").code == 0
