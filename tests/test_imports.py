"""What the proxy's side imports: only what a proxy has installed, and not much of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {
    "alembic",
    "arq",
    "asyncpg",
    "aiosqlite",
    "pydantic",
    "pydantic_settings",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "typer",
    "yaml",
}
WITH_MORE = {"litellm"}
"""Modules that need more than a proxy's side installs; `make litellm` imports that one."""


def imported_by(statement: str) -> set[str]:
    """The top-level modules that a new interpreter has after the statement."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("room", ["spoolway.schema", "spoolway.spool", "spoolway.producer"])
def test_the_proxys_side_imports_nothing_of_the_workers(room: str) -> None:
    """A proxy that installs `spoolway` has neither database drivers nor arq, and needs none."""
    assert imported_by(f"import {room}") & HEAVY == set()


def test_a_producer_at_work_imports_nothing_of_the_workers() -> None:
    """Nor does anything that is imported later, where it is first used."""
    statement = (
        "from spoolway.producer import Producer; p = Producer('redis://127.0.0.1:1/0');"
        " p.emit({'type': 'request', 'body': {1: float('nan')}}); p.flush(0.1); p.close(0)"
    )

    assert imported_by(statement) & HEAVY == set()


# Each module in a process of its own that has the packages below loaded, and nothing of ours.
_EACH_BY_ITSELF = """
import importlib, os, sys
import msgspec, orjson, redis, redis.asyncio, tenacity, zstandard
failed = []
for module in sys.argv[1:]:
    if (child := os.fork()) == 0:
        importlib.import_module(module)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(module)
print(*failed)
"""


def test_every_module_of_the_proxys_side_imports_by_itself() -> None:
    """No module depends on another of ours having been imported before."""
    modules = [
        f"spoolway.{room}.{path.stem}"
        for room in ("spool", "producer")
        for path in (ROOT / room / "spoolway" / room).glob("[a-z]*.py")
        if path.stem not in WITH_MORE
    ]
    done = subprocess.run(
        [sys.executable, "-c", _EACH_BY_ITSELF, *modules, "spoolway.is_none"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )

    assert len(modules) > 20
    assert done.stdout.split() == ["spoolway.is_none"], done.stderr


def test_the_room_beside_it_is_not_imported() -> None:
    """Arrows go one way: the producer knows spool and schema, and no worker or migration."""
    code = "import sys, spoolway.producer; print([m for m in sys.modules if 'spoolway' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)

    assert b"spoolway.worker" not in done.stdout
    assert b"spoolway.migrations" not in done.stdout
    assert b"spoolway.schema.tables" not in done.stdout


def test_the_spool_knows_neither_redis_nor_a_database_nor_who_uses_it() -> None:
    """It is files alone: of the other rooms it imports the schema, and nothing of Redis."""
    code = "import sys, json, spoolway.spool; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    modules = json.loads(done.stdout)

    rooms = {name.split(".")[1] for name in modules if name.startswith("spoolway.")}
    assert rooms == {"schema", "spool"}
    assert "redis" not in modules
