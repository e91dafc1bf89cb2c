"""`.ci/audit`: what it makes of what pip-audit says. The advisory service itself is not asked here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOUND = """Found 1 known vulnerability in 1 package
Name   Version ID            Fix Versions
jinja2 2.4.1   PYSEC-2014-8  2.7.2
"""
CLEAN = "No known vulnerabilities found\n"
MIRROR = CLEAN + "Name Skip Reason\njinja2 Dependency not found and could not be audited\n"
AWAY = "requests.exceptions.ConnectionError: Failed to resolve\n"


@pytest.mark.parametrize(
    ("control", "pins", "said", "codes"),
    [
        (FOUND, CLEAN, "No known vulnerabilities", (0, 0)),
        (FOUND, FOUND, "PYSEC-2014-8", (1, 1)),
        (FOUND, AWAY, "audit skipped", (1, 0)),
        (AWAY, AWAY, "audit skipped", (1, 0)),
        (MIRROR, MIRROR, "audit skipped", (1, 0)),
    ],
    ids=["clean", "vulnerable", "goes away", "away", "a mirror without advisories"],
)
def test_a_vulnerability_fails_and_silence_is_not_called_clean(
    tmp_path: Path, control: str, pins: str, said: str, codes: tuple[int, int]
) -> None:
    """What is found fails, in CI too; who cannot be asked fails `make audit`, and is skipped in CI."""
    for name in (".ci/audit", "requirements.txt", "requirements-audit.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)
    bin_folder = tmp_path / ".venv-audit" / "bin"
    bin_folder.mkdir(parents=True)
    pip_audit = bin_folder / "pip-audit"
    pip_audit.write_text(
        f"#!/bin/sh\ncase $2 in requirements.txt) cat <<'END'\n{pins}END\n;;"
        f"*) cat <<'END'\n{control}END\n;;esac\n"
    )
    pip_audit.chmod(0o755)
    installed = subprocess.run(
        ["sh", "-c", 'echo "$PWD $(cksum <requirements-audit.txt)"'],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    (tmp_path / ".venv-audit" / ".spoolway-installed").write_bytes(installed.stdout)

    for arguments, expected in zip(([], ["--if-reachable"]), codes, strict=True):
        done = subprocess.run(
            [tmp_path / ".ci" / "audit", sys.executable, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (expected, "")
        assert said in done.stdout
