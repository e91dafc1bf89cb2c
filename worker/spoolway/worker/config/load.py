"""Reading the settings from where they are: flags, environment, `.env`, YAML file, defaults.

What comes first wins, setting by setting; what loses is not even read. In one place two names may
not say different things of one setting.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from spoolway.worker.config.addresses import address
from spoolway.worker.config.environment import (
    CONFIG_FILE,
    of_dotenv,
    of_environment,
    read_dotenv,
)
from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.given import DRIVER, Given, Unused
from spoolway.worker.config.redis_address import check_jobs_redis, check_redis
from spoolway.worker.config.sections import of_yaml
from spoolway.worker.config.settings import Settings
from spoolway.worker.config.yaml_file import read_yaml

COMMAND_LINE: Final[ContextVar[Mapping[str, Any] | None]] = ContextVar("COMMAND_LINE", default=None)
"""The flags that every command has, besides those that a command passes itself."""
CONFIG: Final = "config"
"""The flag that names the YAML file."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and where each is from."""

    settings: Settings = field(repr=False)
    sources: dict[str, str]
    """Of the fields that are not default."""
    unused: list[Unused]
    file: str | None
    """The YAML file that was read."""


def load(**flags: Any) -> Settings:
    """Return the settings; a flag that is None was not given. `config` is the YAML file.

    Raises:
        UsageError: a value that cannot be used, named as it was given; never with a secret in it.
    """
    return read_configuration(**flags).settings


def read_configuration(**flags: Any) -> Configuration:
    """Return the settings with where they are from. Raises UsageError, as `load`."""
    given = {**(COMMAND_LINE.get() or {}), **{k: v for k, v in flags.items() if v is not None}}
    file: str | None = given.pop(CONFIG, None)
    dotenv = read_dotenv()
    variables = {**dotenv, **os.environ}
    file = file or variables.get(CONFIG_FILE) or None
    places = [
        _of_flags(given),
        of_environment(os.environ),
        of_dotenv(dotenv, variables),
        of_yaml(read_yaml(file, variables)) if file else iter(()),
    ]
    chosen, unused = _choose(places)
    values = {name: value for name, (_, value) in chosen.items() if name != DRIVER}
    settings = Settings(**values)
    names = {name: where.where for name, (where, _) in chosen.items()}
    _check(settings, names)
    if DRIVER in chosen:
        _check_driver(settings, chosen[DRIVER], names)
    sources = {name: where.source for name, (where, _) in chosen.items() if name != DRIVER}
    return Configuration(settings, sources, unused, file)


def flag_of(name: str) -> str:
    """Return the flag of a field."""
    return f"--{name.replace('_', '-')}"


def _of_flags(flags: Mapping[str, Any]) -> Iterator[Given]:
    for name, value in flags.items():
        yield Given(name, flag_of(name), f"flag {flag_of(name)}", partial(_itself, value))


def _itself(value: Any) -> Any:
    return value


def _choose(
    places: Iterable[Iterable[Given | Unused]],
) -> tuple[dict[str, tuple[Given, Any]], list[Unused]]:
    """Return what wins with its value, and all else."""
    chosen: dict[str, tuple[Given, Any]] = {}
    unused: list[Unused] = []
    for place in places:
        here: dict[str, list[Given]] = defaultdict(list)
        for found in place:
            if isinstance(found, Unused):
                unused.append(found)
            elif (first := chosen.get(_decided_by(found))) is not None:
                unused.append(Unused(found.where, f"{first[0].where} goes before it"))
            else:
                here[found.setting].append(found)
        for name, several in here.items():
            strong = [given for given in several if not given.is_weak] or several
            unused += [
                Unused(given.where, f"{strong[0].where} goes before it")
                for given in several
                if given not in strong
            ]
            if (winner := _agreed(strong)) is not None:
                chosen[name] = winner
    return chosen, unused


def _decided_by(found: Given) -> str:
    """Return the setting that leaves nothing to say for this: a driver is one of a URL below it."""
    return "database_url" if found.setting == DRIVER else found.setting


def _agreed(several: list[Given]) -> tuple[Given, Any] | None:
    """Return one of those that say the same. Raises UsageError if they do not."""
    found = [(given, value) for given in several if (value := given.read()) is not None]
    checked = [(given, _checked(given, value)) for given, value in found]
    for given, value in checked[1:]:
        first, wanted = checked[0]
        if _comparable(first, wanted) != _comparable(given, value):
            raise UsageError(
                f"{first.where} and {given.where} say different things: remove one of them"
            )
    return checked[0] if checked else None


def _checked(given: Given, value: Any) -> Any:
    """Return the value with its type. Raises UsageError."""
    if given.setting == DRIVER:
        return value
    try:
        return getattr(Settings(**{given.setting: value}), given.setting)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        said = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"{given.where}: {said}") from None


def _comparable(given: Given, value: Any) -> Any:
    """Return the value so that two spellings of it are the same."""
    if given.setting in ("database_url", "read_database_url"):
        return _address_of(value, given.where)
    return value


def _address_of(text: str, name: str) -> Any:
    try:
        return address(text).url
    except ValueError as error:
        raise UsageError(f"{name} {error}") from None


def _check(settings: Settings, names: Mapping[str, str]) -> None:
    """Raise UsageError at the start for what would fail in the middle of the way."""
    for field_name in ("database_url", "read_database_url"):
        if url := getattr(settings, field_name):
            _address_of(url, names[field_name])
    for field_name in ("redis_url", "jobs_redis_url"):
        if url := getattr(settings, field_name):
            try:
                check_redis(url)
            except ValueError as error:
                raise UsageError(f"{names[field_name]}: {error}") from None
    try:
        check_jobs_redis(settings.jobs_redis_url or settings.redis_url)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _check_driver(settings: Settings, driver: tuple[Given, Any], names: Mapping[str, str]) -> None:
    given, wanted = driver
    if settings.database.get_backend_name() == wanted:
        return
    if not settings.database_url:
        raise UsageError(f"{given.where} is {wanted}, and nothing says where: set DATABASE_URL")
    raise UsageError(
        f"{given.where} is {wanted}, and {names['database_url']} is not: remove one of them"
    )
