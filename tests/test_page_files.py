"""The page's files as they are written: no HTML out of text, nothing inline, nothing from elsewhere."""

import hashlib
import re
from pathlib import Path
from typing import Final

from spoolway.worker.serve.page_files import FOLDER, PageFiles

VENDOR: Final = FOLDER / "vendor"
OURS: Final = sorted(
    path for path in FOLDER.rglob("*") if path.is_file() and VENDOR not in path.parents
)
SCRIPTS: Final = [path for path in OURS if path.suffix == ".js"]
INDEX: Final = (FOLDER / "index.html").read_text()
FORBIDDEN: Final = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    r"|setHTML|\beval\b|new Function|\.cssText|srcdoc\s*=|set(?:Timeout|Interval)\(\s*[\"'`]"
    r"|import\(|setAttribute\(\s*[\"']style|javascript:"
)
_COMMENT: Final = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)


def _code(path: Path) -> str:
    return _COMMENT.sub("", path.read_text())


def test_no_script_makes_html_or_code_of_text() -> None:
    """Of all the ways to do that, not one is there."""
    found = {path.name: FORBIDDEN.findall(_code(path)) for path in SCRIPTS}

    assert {name: hits for name, hits in found.items() if hits} == {}


def test_the_document_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    """No script or style in it, no handler, no address but our own: the policy allows none."""
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", INDEX) == []
    links = re.findall(r'(?:href|src)="([^"]+)"', INDEX)
    assert [link for link in links if not link.startswith(("/assets/", "#"))] == []
    for path in OURS:
        if path.suffix in (".js", ".css"):
            assert (
                re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import", _code(path)) == []
            )


def test_all_that_is_needed_is_named_in_the_document_and_is_there() -> None:
    """Every module is loaded at once, not one after the other; and no file is of no use."""
    named = set(re.findall(r'(?:href|src)="(/assets/[^"]+)"', INDEX))
    served = {path for path in PageFiles().paths if path.startswith("/assets/")}

    assert named == {path for path in served if not path.endswith(".txt")}


def test_modules_import_what_is_there() -> None:
    """Each import is of a file of ours, by its relative path, and of a name that it exports."""
    for path in SCRIPTS:
        for names, where in re.findall(r'import \{([^}]+)\} from "([^"]+)"', path.read_text()):
            module = (path.parent / where).resolve()
            assert module in SCRIPTS, (path, where)
            exported = re.findall(
                r"export (?:async )?(?:function|const|class) (\w+)", module.read_text()
            )
            used = {name.split(" as ")[0].strip() for name in names.split(",")} - {""}
            assert used <= set(exported), (path, where)
            body = path.read_text().replace(f"import {{{names}}}", "")
            local = {name.split(" as ")[-1].strip() for name in names.split(",")} - {""}
            assert [name for name in local if not re.search(rf"\b{name}\b", body)] == [], path


def test_what_is_not_ours_is_as_it_was_published() -> None:
    """Each vendored file has the checksum that vendor/README.md says, and its licence beside it."""
    said = dict(
        re.findall(
            r"\| `([^`]+)` \| `[^`]+` \| `([0-9a-f]{64})` \|", (VENDOR / "README.md").read_text()
        )
    )
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "README.md"
    }

    assert said == there
    assert "Permission is hereby granted" in (VENDOR / "uPlot.LICENSE.txt").read_text()


def test_text_stands_out_from_its_ground() -> None:
    """Each colour of text on each ground it stands on: 4.5 : 1 in light and in dark (WCAG AA)."""
    theme = (FOLDER / "theme.css").read_text()
    pairs = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}), (?:#\w{6})\)", theme))
    dark = dict(re.findall(r"--([\w-]+): light-dark\((?:#\w{6}), (#\w{6})\)", theme))
    grounds = {
        **dict.fromkeys(("text", "dim"), ("ground", "surface", "raised", "accent-ground")),
        **dict.fromkeys(("accent",), ("ground", "surface", "accent-ground")),
        "good": ("surface", "ground", "good-ground"),
        "poor": ("surface", "ground", "poor-ground"),
        "bad": ("surface", "ground", "bad-ground"),
        "unknown": ("surface",),
        "on-accent": ("accent",),
    }
    for colours in (pairs, dark):
        for text, on in grounds.items():
            for ground in on:
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for name in colours:
            if name.startswith("chart-") or name == "edge":
                assert _contrast(colours[name], colours["surface"]) >= 3 or name == "chart-requests"


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
