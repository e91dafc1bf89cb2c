"""Environment variables and `.env`: the settings' own names, and those of Go's database/sql."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from spoolway.worker.config.addresses import sqlite_url
from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.given import DRIVER, Given, Unused
from spoolway.worker.config.options import nearest
from spoolway.worker.config.settings import Settings
from spoolway.worker.config.variables import fill

CONFIG_FILE: Final = "SPOOLWAY_CONFIG"
FIELDS: Final = {
    str(field.validation_alias): name
    for name, field in Settings.model_fields.items()
    if field.validation_alias
}
_GO: Final = ("DB_DRIVER", "DATABASE_PATH", "DATABASE_MAX_IDLE_CONNS")
"""DATABASE_URL, DATABASE_POOL_SIZE and DATABASE_CONN_MAX_LIFETIME have the same name there."""
_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite3": "sqlite",
    "postgres": "postgresql",
    "postgresql": "postgresql",
    "pgx": "postgresql",
}
_MAX_BYTES: Final = 1 << 20


def of_environment(variables: Mapping[str, str]) -> Iterator[Given | Unused]:
    """Yield what environment variables give. Their values are taken as they are."""
    return _of(variables, lambda _, value: value, where="", source="env ")


def of_dotenv(values: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[Given | Unused]:
    """Yield what `.env` gives, with `${VAR}` in it put in."""

    def filled(name: str, value: str) -> str:
        try:
            return fill(value, variables)
        except ValueError as error:
            raise UsageError(f"{name} in .env, {error}") from None

    return _of(values, filled, where=" in .env", source=".env: ")


def read_dotenv() -> dict[str, str]:
    """Return what `.env` in the working directory says; nothing if there is none."""
    file = Path(".env")
    try:
        if not file.is_file():
            return {}
    except PermissionError:
        return {}  # sudo -u in somebody else's folder: what is in there is not for us
    try:
        status = file.stat()
        owners = {os.geteuid(), 0, Path.cwd().stat().st_uid}
        size = status.st_size
        text = file.read_text(encoding="utf-8") if size <= _MAX_BYTES else None
    except (OSError, UnicodeError) as error:
        reason = (
            os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no UTF-8"
        )
        raise UsageError(f".env in {Path.cwd()} cannot be read: {reason}") from None
    if status.st_mode & stat.S_IWOTH or status.st_uid not in owners:
        # In /tmp, say: it would choose where events go, and which Redis they are read from.
        raise UsageError(
            f".env in {Path.cwd()} is somebody else's, or writable for every user of this machine: "
            "close it (chmod o-w .env), remove it, or start in another folder"
        )
    if text is None:
        raise UsageError(f".env in {Path.cwd()} is larger than {_MAX_BYTES:,} bytes")
    from io import StringIO

    from dotenv import dotenv_values  # only where there is a file

    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def _of(
    variables: Mapping[str, str],
    read: Callable[[str, str], str],
    *,
    where: str,
    source: str,
) -> Iterator[Given | Unused]:
    def given(name: str, field: str, value: Callable[[], object], weak: bool = False) -> Given:
        return Given(field, f"{name}{where}", f"{source}{name}", value, weak)

    set_there = {name: value for name, value in variables.items() if value}
    driver = None
    if "DB_DRIVER" in set_there:
        told = read("DB_DRIVER", set_there["DB_DRIVER"])
        driver = _DRIVERS.get(told.lower())
        yield given("DB_DRIVER", DRIVER, partial(_driver, told, where))
    # Go programs look only at the one that their driver needs.
    for kind, name in (("postgresql", "DATABASE_PATH"), ("sqlite", "DATABASE_URL")):
        if (
            driver == kind
            and name in set_there
            and (kind != "sqlite" or "DATABASE_PATH" in set_there)
        ):
            del set_there[name]
            yield Unused(f"{name}{where}", f"DB_DRIVER is {driver}")
    for name in FIELDS.keys() & set_there.keys():
        yield given(name, FIELDS[name], partial(read, name, set_there[name]))
    if (path := set_there.get("DATABASE_PATH")) is not None:
        value = partial(_sqlite, path, read, where)
        yield given("DATABASE_PATH", "database_url", value)
    if (idle := set_there.get("DATABASE_MAX_IDLE_CONNS")) is not None:
        value = partial(read, "DATABASE_MAX_IDLE_CONNS", idle)
        yield given("DATABASE_MAX_IDLE_CONNS", "database_pool_size", value, weak=True)
    known = {*FIELDS, *_GO, CONFIG_FILE}
    for name in sorted(set_there.keys() - known):
        if name.startswith(("SPOOLWAY_", "DATABASE_")):
            yield Unused(f"{name}{where}", f"no setting{nearest(name, known)}")


def _driver(text: str, where: str) -> str:
    try:
        return _DRIVERS[text.lower()]
    except KeyError:
        raise UsageError(
            f"DB_DRIVER{where} is no database that Spoolway writes to: use sqlite or postgres"
        ) from None


def _sqlite(path: str, read: Callable[[str, str], str], where: str) -> str:
    try:
        return sqlite_url(read("DATABASE_PATH", path))
    except ValueError as error:
        raise UsageError(f"DATABASE_PATH{where} {error}") from None
