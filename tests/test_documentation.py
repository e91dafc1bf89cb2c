"""The README says what the code does."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from spoolway.producer import Producer
from spoolway.schema import DEFAULT_STREAM, RequestEvent, decode_frame, decode_line
from spoolway.worker.config import Settings
from tests.configured import Operator, operator
from tests.servers import ValkeyServer
from tests.workers import BIN

__all__ = ["operator"]

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


SETTINGS = (ROOT / "docs" / "settings.md").read_text()


def table(marker: str, page: str = README) -> dict[str, tuple[str, ...]]:
    """The table below a marker: first column → the others, of which the last is text."""
    lines = page.split(f"<!-- {marker}:")[1].splitlines()[3:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *others, text = (cell.strip() for cell in line.strip("|").split("|"))
        cells = tuple(cell.strip("`") for cell in others)
        rows[name.strip("`") or cells[0]] = (*cells, text)
    return rows


def _shown(default: object) -> str:
    if default is None or default in ({}, ()):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_every_setting_is_documented_with_its_default() -> None:
    """The table of settings is the settings class: names, defaults and what they mean."""
    declared = {
        str(field.validation_alias or name): (name, _shown(field.default), field.description)
        for name, field in Settings.model_fields.items()
    }
    assert table("settings", SETTINGS) == declared
    in_readme = table("settings")
    assert len(in_readme) == 10
    for name, row in in_readme.items():
        assert row == declared[name][1:]


def test_example_of_a_configuration_file_is_one(operator: Operator) -> None:
    """The file in docs/settings.md is read, and nothing in it is ignored."""
    example = SETTINGS.split("<!-- example:")[1].split("```yaml\n")[1].split("```")[0]
    found = operator.gives({"REDIS_PASSWORD": "a@b", "DB_PASSWORD": "c/d"}, yaml=example)
    assert found.unused == []
    assert len(found.sources) == 6


def test_readme_has_every_argument_of_the_producer() -> None:
    """The table of arguments is the constructor's signature."""
    parameters = inspect.signature(Producer).parameters
    declared = {
        name: "" if parameter.default is None else str(parameter.default)
        for name, parameter in parameters.items()
    }
    assert {name: default for name, (default, _) in table("producer").items()} == declared


def test_readme_names_every_command() -> None:
    """Each command that `spoolway --help` lists stands in the README."""
    shown = subprocess.run(
        [str(BIN / "spoolway"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^  (\w+) ", shown.split("Commands:")[1], flags=re.MULTILINE)
    assert commands
    for command in commands:
        assert f"spoolway {command}" in README


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link in the README and in docs/ names a file that exists."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_example_of_the_readme_works_as_it_stands(valkey: ValkeyServer) -> None:
    """The five lines for a proxy run, and their event is on the stream when they have ended."""
    example = README.split("### Your own code")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in example.splitlines() if line]) <= 5
    code = example.replace("redis://localhost:6379/0", valkey.url)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    with valkey.client() as client:
        ((_, fields),) = client.xrange(DEFAULT_STREAM)
    (line,) = decode_frame(fields)
    event = decode_line(line)
    assert isinstance(event, RequestEvent)
    assert (event.model_name, event.outcome, event.prompt_tokens) == ("gpt-4o", "success", 12)
    assert event.duration_ms is not None


def test_examples_of_the_readme_are_copied_from_files_that_are_tested() -> None:
    """Each line of a block that says where it is from stands there, in this order."""
    copied = re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert len(copied) >= 4
    for name, block in copied:
        lines = iter([line.strip() for line in (ROOT / name).read_text().splitlines()])
        for wanted in filter(None, map(str.strip, block.splitlines())):
            assert any(line.startswith(wanted) for line in lines), f"{wanted!r} is not in {name}"


def test_every_claim_of_what_happens_when_things_break_names_a_test_that_exists() -> None:
    """The page's proofs are in the test suite, under the names that stand there."""
    page = README.split("## When things break")[1].split("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", page))
    defined = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert len(named) > 20
    assert named - defined == set()
