"""docs/troubleshooting.md for its tests: what it quotes, and whether that is what comes out.

A quoted block names the test that produces it: `<!-- produced: test_x -->`. In a quoted line `…`
stands for anything; all else must be a line that the test has heard, without a log's time.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TEXT: Final = (Path(__file__).parent.parent / "docs" / "troubleshooting.md").read_text()
_PRODUCED: Final = re.compile(r"<!-- produced: (\w+) -->\n```text\n(.*?)```", re.DOTALL)
_SHELL: Final = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_SQL: Final = re.compile(r"```sql\n(.*?)```", re.DOTALL)
_TIME: Final = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ")


def anchor(heading: str) -> str:
    """Return where a heading is found, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def anchors() -> list[str]:
    """Return the anchors of the page's sections."""
    return [anchor(found) for found in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)]


def section(name: str) -> str:
    """Return the text of the section at an anchor."""
    for part in TEXT.split("\n## ")[1:]:
        heading, _, rest = part.partition("\n")
        if anchor(heading) == name:
            return rest
    raise LookupError(f"the page has no section #{name}")


def produced() -> dict[str, list[str]]:
    """Return the quoted lines by the test that produces them."""
    found: dict[str, list[str]] = {}
    for test, block in _PRODUCED.findall(TEXT):
        found.setdefault(test, []).extend(block.splitlines())
    return found


def commands(text: str = TEXT) -> list[str]:
    """Return the command lines of a text, without their comments."""
    lines = [line for block in _SHELL.findall(text) for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def sql(name: str) -> list[str]:
    """Return the statements of a section."""
    blocks = "\n".join(_SQL.findall(section(name)))
    return [statement.strip() for statement in blocks.split(";\n") if statement.strip()]


class Quoted:
    """What the page quotes of one test, and what that test has heard so far."""

    def __init__(self, test: str) -> None:
        self._lines = produced()[test]
        self._heard: list[str] = []

    def heard(self, output: str, names: Mapping[str, str] | None = None) -> None:
        """Note what came out; `names` are this machine's addresses and paths, and the page's."""
        for found, shown in sorted((names or {}).items(), key=lambda one: -len(one[0])):
            output = output.replace(found, shown)
        self._heard += [_TIME.sub("", line.rstrip()) for line in output.splitlines()]

    def verify(self) -> None:
        """Assert that every quoted line is one that was heard."""
        missing = [
            line for line in self._lines if not any(map(_pattern(line).fullmatch, self._heard))
        ]
        assert not missing, "\n".join(["not heard:", *missing, "but:", *self._heard])


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.rstrip().split("…"))))
