"""`spoolway config`: what the settings are, where each is from, and whether they are valid."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, RedisUrl, app, one_line_errors
from spoolway.worker.cli.shown import count, print_json, printable, table
from spoolway.worker.config import Configuration, Settings, read_configuration
from spoolway.worker.config.masked import masked
from spoolway.worker.masking import secrets_of

config = typer.Typer(help="Show and check the settings.", no_args_is_help=True)
app.add_typer(config, name="config")


@config.command()
@one_line_errors
def show(
    changed: Annotated[bool, typer.Option("--changed", help="Leave out the defaults.")] = False,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Print every setting, its value and where that is from; passwords are hidden.

    Examples:

        spoolway config show

        spoolway config show --changed --config /etc/spoolway/config.yaml
    """
    found = read_configuration(database_url=database_url, redis_url=redis_url, dir=folder)
    rows = [row for row in _rows(found) if row["source"] != "default" or not changed]
    if as_json:
        print_json(rows)
        return
    lines = [
        (name, text, str(row["source"]))
        for row in rows
        for name, text in _lines(row["variable"] or row["setting"], row["value"])
    ]
    for line in table([("setting", "value", "source"), *lines]):
        typer.echo(printable(line))


@config.command()
@one_line_errors
def check(
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Read all settings, and say what in them is ignored. Exit 2 if a worker would not start.

    Nothing is connected.

    Examples:

        spoolway config check

        spoolway config check --config /etc/spoolway/config.yaml
    """
    found = read_configuration(database_url=database_url, redis_url=redis_url, dir=folder)
    from spoolway.worker.stores import open_store  # the drivers: not for the other commands

    open_store(found.settings)  # connects at its first use; refuses files and arguments now
    careless = list(_readable_by_all(found))
    if as_json:
        ignored = [{"what": one.what, "why": one.why} for one in found.unused]
        print_json({"file": found.file, "ignored": ignored, "careless": careless})
        return
    typer.echo(f"valid: {count(len(found.sources), 'setting')} given, the others have defaults")
    for unused in found.unused:
        typer.echo(printable(f"ignored: {unused.what}: {unused.why}"))
    for line in careless:
        typer.echo(printable(f"careless: {line}"))


def _rows(found: Configuration) -> Iterator[dict[str, Any]]:
    for name, field in Settings.model_fields.items():
        yield {
            "setting": name,
            "variable": field.validation_alias,
            "value": masked(found.settings, name),
            "source": found.sources.get(name, "default"),
        }


def _lines(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a setting's name and value; of one with keys, those of each."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _lines(f"{name}.{key}", each)
    elif value is None or value == {}:
        yield name, ""
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _readable_by_all(found: Configuration) -> Iterator[str]:
    """Yield the files with passwords in them that every user of this machine may read."""
    for file in filter(None, (found.file, ".env")):
        try:
            status = Path(file).stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
            text = Path(file).read_text(errors="replace")
            if any(secret in text for secret in secrets_of(found.settings)):
                yield f"{Path(file).absolute()} holds a password, and every user can read it: chmod o-r"
