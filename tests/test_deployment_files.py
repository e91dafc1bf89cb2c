"""compose.yml, Dockerfile and their neighbours: what can be proven without a Docker engine.

The commands they contain are run here against the real servers; the images are not built.
"""

import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from spoolway.worker.config import Settings
from tests.servers import PostgresServer, ValkeyServer

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose.yml"
INTERPOLATED = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def _interpolate(text: str) -> str:
    """Put the defaults in, as Compose does; a required variable gets a stand-in."""
    return INTERPOLATED.sub(lambda m: m[3] if m[2] == "-" else "stand-in", text)


def _dockerfile_stages() -> list[list[tuple[str, str]]]:
    """Give each stage as a list of (instruction, arguments), continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    stages: list[list[tuple[str, str]]] = []
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        instruction, _, arguments = line.partition(" ")
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, arguments.strip()))
    return stages


def _last(instruction: str) -> str:
    """Give the arguments of the image's effective (last) instruction of that name."""
    return [arguments for name, arguments in _dockerfile_stages()[-1] if name == instruction][-1]


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

    assert staying.keys() == {"valkey", "postgres", "worker"}
    for name, service in staying.items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert service["restart"] == "unless-stopped", name


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
    """The worker's health is `spoolway health`, and its grace exceeds its 10 s stop."""
    worker = _services()["worker"]

    assert worker["healthcheck"]["test"] == ["CMD", "spoolway", "health"]
    assert int(worker["stop_grace_period"].removesuffix("s")) > 10


def test_worker_and_migrate_can_write_only_where_they_must() -> None:
    """The image runs read-only and without capabilities; dead letters have a volume."""
    services = _services()

    for name in ("worker", "migrate"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    folder = services["worker"]["environment"]["SPOOLWAY_DIR"]
    assert f"spoolway:{folder}" in services["worker"]["volumes"]
    assert "spoolway" in yaml.safe_load(COMPOSE.read_text())["volumes"]


def test_ports_are_published_on_the_loopback_address_only() -> None:
    """Neither Valkey nor PostgreSQL is reachable from another machine."""
    published = [port for s in _services().values() for port in s.get("ports", [])]

    assert published
    for port in published:
        assert port.startswith("127.0.0.1:"), port


def test_urls_name_the_services_they_connect_to() -> None:
    """Host, user, database and port in the URLs are those of the services beside them."""
    services = _services()
    for name in ("migrate", "worker"):
        url = urlsplit(_interpolate(services[name]["environment"]["DATABASE_URL"]))
        postgres = services["postgres"]["environment"]
        assert url.hostname in services
        assert url.port == 5432
        assert url.username == postgres["POSTGRES_USER"]
        assert url.path == f"/{postgres['POSTGRES_DB']}"
        assert url.password == _interpolate(postgres["POSTGRES_PASSWORD"])
    assert urlsplit(services["worker"]["environment"]["REDIS_URL"]).hostname in services


def test_every_variable_set_for_the_worker_is_a_setting() -> None:
    """What compose.yml and the Dockerfile set is read by the worker: no misspelt name is ignored."""
    known = {field.validation_alias for field in Settings.model_fields.values()}
    services = _services()
    given = services["worker"]["environment"].keys() | services["migrate"]["environment"].keys()
    in_image = {word.partition("=")[0] for word in shlex.split(_last("ENV"))}

    assert given <= known
    assert {name for name in in_image if name.startswith("SPOOLWAY")} <= known


def test_env_example_lists_exactly_the_variables_of_the_compose_file() -> None:
    """.env.example has every variable, with the same defaults, and no password."""
    example = dict(
        line.lstrip("#").split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if re.match(r"#?[A-Z_]+=", line)
    )
    # Outside of comments, where a variable may be spoken of.
    text = re.sub(r"^\s*#.*$", "", COMPOSE.read_text(), flags=re.MULTILINE)
    used = {m[1]: m[3] if m[2] == "-" else "" for m in INTERPOLATED.finditer(text)}

    assert used == example
    assert "${POSTGRES_PASSWORD:?" in text


def test_image_tag_is_the_projects_version() -> None:
    """`docker compose build` tags what it builds with the version it is."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    for name in ("worker", "migrate"):
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


def test_image_runs_as_a_user_of_its_own() -> None:
    """The image's user is a number other than root's, and owns the folder it writes to."""
    uid, gid = _last("USER").split(":")

    assert int(uid) >= 1000
    assert int(gid) >= 1000
    setup = next(a for name, a in _dockerfile_stages()[-1] if name == "RUN")
    assert f"--uid {uid}" in setup
    assert "--mode=0700 /var/lib/spoolway" in setup
    assert "SPOOLWAY_DIR=/var/lib/spoolway" in _last("ENV")


def test_image_stops_checks_and_starts_as_documented() -> None:
    """SIGTERM stops it, `spoolway health` checks it, `spoolway worker` is what it runs."""
    assert _last("STOPSIGNAL") == "SIGTERM"
    assert _last("HEALTHCHECK").endswith('CMD ["spoolway", "health"]')
    assert _last("ENTRYPOINT") == '["spoolway"]'
    assert _last("CMD") == '["worker"]'


def test_image_holds_nothing_that_is_not_pinned() -> None:
    """Every package comes from, or is constrained by, a pinned requirements file."""
    installs = [
        command
        for stage in _dockerfile_stages()
        for name, arguments in stage
        if name == "RUN"
        for command in arguments.split("&&")
        if "pip install" in command
    ]

    assert len(installs) == 3
    for command in installs:
        words = shlex.split(command)
        assert {"-r", "-c", "--no-deps"} & set(words), command


def test_build_context_holds_what_the_image_is_built_from_and_no_more() -> None:
    """.dockerignore starts from nothing and admits the rooms and what hatchling reads."""
    lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {
        path.split("/")[0]
        for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    files = {"pyproject.toml", "README.md", "LICENSE"}
    pins = {"requirements.txt", "requirements-worker.txt"}

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == rooms | files | pins


@pytest.mark.parametrize("command", ["worker", "db upgrade", "health"])
def test_every_command_of_the_deployment_files_exists(command: str) -> None:
    """What compose.yml and the Dockerfile call is a command of the installed console script."""
    spoolway = Path(sysconfig.get_path("scripts")) / "spoolway"

    result = subprocess.run(
        [spoolway, *command.split(), "--help"], capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, result.stderr
