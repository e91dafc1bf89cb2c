"""deploy/systemd: what systemd itself says of the units, and their command in their surroundings."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.confined import drains_and_stops, environment_names
from tests.servers import ValkeyServer
from tests.workers import BIN

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "systemd"
WORKER, MIGRATE = FOLDER / "spoolway-worker@.service", FOLDER / "spoolway-migrate.service"
SERVE = FOLDER / "spoolway-serve.service"
UNITS = [WORKER, MIGRATE, SERVE]
INSTALLED = "/opt/spoolway/bin/spoolway"
EXPOSURE = 15
"""Tenths, as systemd-analyze counts; up to 20 it says OK. The units have 12 with systemd 252."""

systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; it needs no running systemd for this."""
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def values(unit: Path, name: str) -> list[str]:
    """Return what a unit sets, in order."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


def variables(lines: list[str]) -> dict[str, str]:
    """Return NAME=value lines as a dict."""
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    """The units as if Spoolway were installed where this environment is."""
    for unit in UNITS:
        text = unit.read_text()
        assert f"ExecStart={INSTALLED} " in text
        (tmp_path / unit.name).write_text(text.replace(INSTALLED, str(BIN / "spoolway")))
    return [tmp_path / unit.name for unit in UNITS]


@systemd
def test_systemd_has_nothing_to_say_against_the_units(copies: list[Path]) -> None:
    """`systemd-analyze verify` is silent about each; about a misspelt setting it is not."""
    done = analyze("verify", "--man=no", *copies)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

    copies[0].write_text(copies[0].read_text().replace("UMask=", "UMusk="))
    assert "UMusk" in analyze("verify", "--man=no", copies[0]).stderr


@systemd
def test_units_are_closed_as_far_as_they_can_be(copies: list[Path]) -> None:
    """`systemd-analyze security` gives each no more than 1.5 of 10; one without a rule has more."""
    threshold = ("security", "--offline=true", f"--threshold={EXPOSURE}")
    for unit in copies:
        done = analyze(*threshold, unit)
        assert done.returncode == 0, done.stdout + done.stderr

    copies[0].write_text(copies[0].read_text().replace("ProtectSystem=strict\n", ""))
    copies[0].write_text(copies[0].read_text().replace("SystemCallFilter=@system-service\n", ""))
    assert analyze(*threshold, copies[0]).returncode != 0


def test_units_set_what_the_worker_reads() -> None:
    """Every variable in the units and in spoolway.env.example is a setting, and none is a secret."""
    example = variables((FOLDER / "spoolway.env.example").read_text().splitlines())
    given = [variables(values(unit, "Environment")) for unit in UNITS]

    for names in (*given, example):
        assert names.keys() <= environment_names()
    assert "change-me" in example["DATABASE_URL"]
    for unit, names in zip(UNITS, given, strict=True):
        assert names["SPOOLWAY_DIR"] == f"/var/lib/{values(unit, 'StateDirectory')[0]}"
        assert not re.search("password|secret", unit.read_text(), re.IGNORECASE)
    # systemd lets a file win over Environment=: what an operator writes there counts.
    assert values(WORKER, "EnvironmentFile") == ["/etc/spoolway/spoolway.env"]
    assert values(MIGRATE, "EnvironmentFile")[-1] == "-/etc/spoolway/migrate.env"
    assert values(SERVE, "EnvironmentFile")[-1] == "-/etc/spoolway/serve.env"


def test_units_keep_the_worker_going_and_its_files_closed() -> None:
    """Started anew for ever, stopped with time to finish, after the migration but not held up by it."""
    assert values(WORKER, "Restart") == ["on-failure"]
    assert values(WORKER, "StartLimitIntervalSec") == ["0"]
    assert int(values(WORKER, "TimeoutStopSec")[0]) > 10
    assert "spoolway-migrate.service" in values(WORKER, "After")[0]
    assert "spoolway-migrate.service" in values(WORKER, "Wants")
    assert values(WORKER, "Requires") == values(WORKER, "BindsTo") == []
    assert values(SERVE, "Restart") == ["on-failure"]
    assert int(values(SERVE, "TimeoutStopSec")[0]) > 5
    for unit in UNITS:
        assert values(unit, "UMask") == ["0077"]
        assert values(unit, "StateDirectoryMode") == ["0700"]
        assert values(unit, "User") == values(unit, "Group") == ["spoolway"]
    assert (
        (FOLDER / "spoolway.sysusers.conf").read_text().splitlines()[-1].startswith("u spoolway ")
    )


@pytest.mark.chaos
def test_unit_s_command_runs_in_what_the_unit_leaves_it(
    private_folder: Path, valkey: ValkeyServer
) -> None:
    """ExecStart, with the unit's variables, no capability, one folder, and no code in data."""
    folder = private_folder / "state"
    folder.mkdir(mode=0o700)
    environment = {
        **variables(values(WORKER, "Environment")),
        # As spoolway.env would have it. PostgreSQL is not needed for what is tested here.
        "DATABASE_AUTO_MIGRATE": "true",
        "REDIS_URL": valkey.url,
        "SPOOLWAY_DIR": str(folder),
        "SPOOLWAY_HTTP_PORT": "0",
    }
    [start] = values(WORKER, "ExecStart")
    command = start.replace(INSTALLED, str(BIN / "spoolway")).split()
    grace = float(values(WORKER, "TimeoutStopSec")[0])

    with drains_and_stops(command, folder, valkey, environment, grace=grace, no_code_in_data=True):
        assert (folder / "spoolway.db").stat().st_mode & 0o777 == 0o600
