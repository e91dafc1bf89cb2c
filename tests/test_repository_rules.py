"""The repository's own rules: pins, packaging, the namespace, and reasons beside exceptions."""

import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = [Path(p) for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
PINNED_FILES = [
    "requirements.txt",
    "requirements-worker.txt",
    "requirements-litellm.txt",
    "requirements-audit.txt",
]

# name==version, optionally followed by an environment marker: nothing that could hold an address,
# a path, an option or a range.
PIN = re.compile(
    r"[a-z0-9][a-z0-9-]*==(\d+!)?[0-9][0-9a-z.]*( ; [a-z_]+ [<>=!]+ '[^'/:]*'( (and|or) .*)?)?"
)


def _direct_dependencies() -> dict[str, Requirement]:
    project = PROJECT["project"]
    lines = [
        *PROJECT["build-system"]["requires"],
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
        *(line for group in PROJECT["dependency-groups"].values() for line in group),
    ]
    return {canonicalize_name((r := Requirement(line)).name): r for line in lines}


def _pins(file: str) -> dict[str, str]:
    requirements = [Requirement(line) for line in (ROOT / file).read_text().splitlines()]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def _python_files() -> Iterator[Path]:
    for folder in [*{room.parts[0] for room in ROOMS}, "tests", "examples", "benchmarks"]:
        yield from sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", PINNED_FILES)
def test_requirements_are_exact_versions_without_address_or_path(file: str) -> None:
    """Each line of a requirements file is one exact version and says nothing of where it is from."""
    lines = (ROOT / file).read_text().splitlines()

    assert [line for line in lines if not PIN.fullmatch(line)] == []


def test_every_direct_dependency_is_pinned_to_a_version_it_allows() -> None:
    """What pyproject.toml asks for is in requirements.txt, at a version inside its range."""
    pins = _pins("requirements.txt")

    for name, requirement in _direct_dependencies().items():
        assert name in pins
        assert requirement.specifier.contains(pins[name].removeprefix("=="))


def test_the_image_gets_the_versions_that_were_tested() -> None:
    """requirements-worker.txt is a part of requirements.txt, and holds all the worker needs."""
    pins, worker_pins = _pins("requirements.txt"), _pins("requirements-worker.txt")
    project = PROJECT["project"]
    needed = {
        canonicalize_name(Requirement(line).name)
        for line in [*project["dependencies"], *project["optional-dependencies"]["worker"]]
    }

    assert worker_pins.items() <= pins.items()
    assert needed <= worker_pins.keys()
    assert "pytest" not in worker_pins


def test_the_environment_of_litellm_holds_what_a_proxy_installs() -> None:
    """requirements-litellm.txt has LiteLLM and the proxy's side, and nothing of the worker's."""
    pins = _pins("requirements-litellm.txt")

    for line in [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(
            pins[canonicalize_name(requirement.name)].removeprefix("==")
        )
    assert "litellm" in pins
    assert pins.keys().isdisjoint({"arq", "sqlalchemy", "alembic", "pytest"})


def test_every_direct_dependency_has_its_reason_in_the_docs() -> None:
    """docs/dependencies.md says what each direct dependency is for, and lists no other."""
    text = (ROOT / "docs" / "dependencies.md").read_text()
    documented = {
        canonicalize_name(m[1]): m[2]
        for m in re.finditer(r"^\| `([^`]+)` \|(.+)\|$", text, re.MULTILINE)
    }

    assert documented.keys() == _direct_dependencies().keys() | {"litellm", "pip-audit"}
    assert [name for name, reason in documented.items() if len(reason.split()) < 8] == []


def test_spoolway_is_a_namespace_without_a_file_of_its_own() -> None:
    """No `spoolway/` folder holds a file: one __init__.py there would hide all the other rooms."""
    assert [path for room in ROOMS for path in (ROOT / room).iterdir() if path.is_file()] == []


def test_every_room_is_a_typed_package() -> None:
    """Each room is one package with an __init__.py and a py.typed."""
    for room in ROOMS:
        package = ROOT / room / room.parts[0]
        assert (package / "__init__.py").is_file()
        assert (package / "py.typed").is_file()


def test_wheel_holds_every_file_of_every_room(tmp_path: Path) -> None:
    """What the rooms hold is in the wheel, the JSON Schemas and Alembic's template among it."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("spoolway-*.whl")
    packed = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("spoolway/")}
    expected = {
        path.relative_to(ROOT / room.parent).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    assert packed == expected
    assert "spoolway/migrations/script.py.mako" in packed
    assert any(re.fullmatch(r"spoolway/schema/json/[\w.-]+\.json", name) for name in packed)


def test_every_rule_switched_off_in_pyproject_has_its_reason() -> None:
    """A line that ignores a lint rule or a warning is followed, or preceded, by a comment."""
    text = (ROOT / "pyproject.toml").read_text()
    blocks = re.findall(
        r"^(?:ignore|\"[\w/*.]+\"|filterwarnings) = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL
    )
    lines = [line.strip() for block in blocks for line in ["", *block.splitlines()]]

    bare = [
        line
        for before, line in pairwise(lines)
        if line and not line.startswith(("#", '"error"'))
        if not re.search(r'",\s+# \w.{8,}$', line) and not before.startswith("#")
    ]

    assert len(blocks) == 2 + len(PROJECT["tool"]["ruff"]["lint"]["per-file-ignores"])
    assert bare == []


def test_every_exception_in_the_code_has_its_reason() -> None:
    """`noqa` and `type: ignore` name their rule, and say on the same line why it does not hold."""
    bare = []
    for path in _python_files():
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type != tokenize.COMMENT or not re.search(
                r"#\s*(noqa|type:\s*ignore)", token.string
            ):
                continue
            reason = re.sub(
                r"#\s*(noqa:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|type:\s*ignore\[[\w, -]+\])",
                "",
                token.string,
            )
            if re.search(r"noqa|type:\s*ignore", reason) or len(reason.split()) < 3:
                bare.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}")

    assert bare == []


@pytest.mark.parametrize(
    "target",
    [
        "run",
        "test",
        "litellm",
        "chaos",
        "audit",
        "lint",
        "types",
        "format",
        "bench",
        "bench-check",
        "bench-proxy",
        "bench-scale",
        "clean",
    ],
)
def test_make_lists_every_target(target: str) -> None:
    """`make` without arguments names each target with what it does."""
    # Not as a part of the `make test` that runs this.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    result = subprocess.run(
        ["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )

    assert re.search(rf"^  make {target} +\w", result.stdout, re.MULTILINE)
