"""Dockerfile and .dockerignore: what the image is, and its own steps run without a Docker engine.

No image is built here: the base image, its layers and what an engine does with USER, VOLUME and
HEALTHCHECK are taken from their documentation.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.confined import UID, confined, drains_and_stops, environment_names
from tests.servers import ValkeyServer

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


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
        if stages:  # before the first one: ARG, for FROM alone
            stages[-1].append((instruction, arguments.strip()))
    return stages


def _last(instruction: str) -> str:
    """Give the arguments of the image's effective (last) instruction of that name."""
    return [arguments for name, arguments in _dockerfile_stages()[-1] if name == instruction][-1]


def test_image_runs_as_a_user_of_its_own() -> None:
    """The image's user is a number other than root's, and owns the folder it writes to."""
    uid, gid = _last("USER").split(":")

    assert uid == gid == str(UID)
    setup = next(a for name, a in _dockerfile_stages()[-1] if name == "RUN")
    assert f"--uid {uid}" in setup
    assert "--mode=0700 /var/lib/spoolway" in setup
    assert "SPOOLWAY_DIR=/var/lib/spoolway" in _last("ENV")
    names = {word.partition("=")[0] for word in shlex.split(_last("ENV"))}
    assert {name for name in names if name.startswith("SPOOLWAY")} <= environment_names()


def test_image_stops_checks_and_starts_as_documented() -> None:
    """SIGTERM stops it, `spoolway health` checks it, `spoolway worker` is what it runs."""
    assert _last("STOPSIGNAL") == "SIGTERM"
    assert _last("HEALTHCHECK").endswith('CMD ["spoolway", "health"]')
    assert _last("ENTRYPOINT") == '["spoolway"]'
    assert _last("CMD") == '["worker"]'
    assert _last("EXPOSE") == "9464"
    assert f'org.opencontainers.image.version="{PROJECT["project"]["version"]}"' in _last("LABEL")


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
    rooms = {
        path.split("/")[0]
        for path in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    }
    files = {"pyproject.toml", "README.md", "LICENSE"}
    pins = {"requirements.txt", "requirements-worker.txt"}

    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == rooms | files | pins


@pytest.mark.chaos
def test_steps_of_the_image_make_a_worker_that_runs_as_the_image_does(
    valkey: ValkeyServer, private_folder: Path
) -> None:
    """The build context alone, the Dockerfile's own commands, then its ENTRYPOINT in its ENV.

    With the base image's Python if there is one here; with a package index, or whatever pip is
    configured with.
    """
    python = shutil.which("python3.13") or sys.executable
    if subprocess.run([python, "--version"], capture_output=True, check=False).returncode:
        python = sys.executable
    context = private_folder / "src"
    _copy_build_context(context)
    opt = private_folder / "opt"
    build, final = _dockerfile_stages()
    for instruction, arguments in build:
        if instruction == "RUN":
            script = arguments.replace("/opt/", f"{opt}/").replace(
                "/dist", f"{private_folder}/dist"
            )
            script = re.sub(r"^python ", f"{python} ", script)
            done = subprocess.run(
                ["sh", "-euc", script], cwd=context, capture_output=True, text=True, check=False
            )
            if re.search("No matching distribution|Connection|Temporary failure", done.stderr):
                pytest.skip("no package index can be reached")
            assert done.returncode == 0, done.stderr
    assert [arguments for name, arguments in final if name == "COPY"] == [
        "--from=build /opt/spoolway /opt/spoolway"
    ]
    folder = private_folder / "state"
    folder.mkdir(mode=0o700)
    environment = dict(word.split("=", 1) for word in shlex.split(_last("ENV")))
    # As the image has it. The environment that Python made knows its place: it is not /opt here.
    environment["PATH"] = environment["PATH"].replace("/opt", str(opt)).replace("$PATH", os.defpath)
    environment |= {"SPOOLWAY_DIR": str(folder), "REDIS_URL": valkey.url}
    installed = opt / "spoolway" / "bin" / "spoolway"

    with drains_and_stops([installed, "worker"], folder, valkey, environment, grace=15):
        health = subprocess.run(
            confined([installed, "health"], folder),
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert health.returncode == 0, health.stdout + health.stderr
    assert not list((opt / "spoolway").rglob("pytest-*.dist-info")), "nothing of the tests"


def _copy_build_context(target: Path) -> None:
    """Copy what .dockerignore lets through."""
    admitted = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    target.mkdir()
    for name in admitted:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.py[cod]")
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, target / name)
