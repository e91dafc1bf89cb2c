"""`spoolway db backup` and `restore`: SQLite as one file; PostgreSQL has its own, and they say how."""

import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from sqlalchemy.engine import URL

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, one_line_errors
from spoolway.worker.cli.bar import bar
from spoolway.worker.cli.db import db
from spoolway.worker.cli.shown import count, print_json, size
from spoolway.worker.config import Settings, UsageError, load
from spoolway.worker.identity import slots_taken

if TYPE_CHECKING:
    from spoolway.worker.copying.sqlite_backup import Backup

_PAGE: Final = 4096


@db.command()
@one_line_errors
def backup(
    file: Annotated[Path, typer.Argument(help="File to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file of that name.")] = False,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Copy a SQLite database into one file while workers write, and check the copy.

    It holds what was committed when it began. For PostgreSQL it says what to run instead.

    Examples:

        spoolway db backup /backup/logs-2026-11-21.db

        spoolway db backup --force --dir /var/lib/spoolway /backup/logs.db
    """
    from spoolway.worker.copying.sqlite_backup import back_up  # with the drivers: not for all of db

    settings = load(database_url=database_url, dir=folder)
    path = _sqlite_file(settings, _dump, file)
    if not path.is_file():
        raise UsageError(f"there is no database {path}")
    try:
        with bar("copying", path.stat().st_size // _PAGE, "pages") as progressed:
            made = back_up(path, file, overwrite=force, progressed=progressed)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"{path} cannot be copied to {file}: {error}") from None
    _print(f"{file}", made, None, as_json=as_json)


@db.command()
@one_line_errors
def restore(
    file: Annotated[Path, typer.Argument(help="A backup, or any SQLite file of Spoolway's.")],
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Check a backup and put it in the place of a SQLite database; the old one is kept beside it.

    Stop the workers first: it is refused while anybody has the database open. For PostgreSQL it
    says what to run instead.

    Examples:

        spoolway db restore /backup/logs-2026-11-21.db
    """
    from spoolway.worker.copying.sqlite_backup import restore as put_back

    settings = load(database_url=database_url, dir=folder)
    path = _sqlite_file(settings, _restore_dump, file)
    if not file.is_file():
        raise UsageError(f"there is no file {file}")
    if file.absolute() == path.absolute():
        raise UsageError(f"{file} is the database itself")
    if settings.dir.is_dir() and slots_taken(settings.dir):
        raise UsageError(f"a worker runs in {settings.dir}: stop it first")
    try:
        checked, aside = put_back(file, path)
    except (OSError, sqlite3.Error) as error:
        raise UsageError(f"{file} cannot be put in the place of {path}: {error}") from None
    _print(f"{path}", checked, aside, as_json=as_json)


def _sqlite_file(settings: Settings, instead: Callable[[Path], list[str]], file: Path) -> Path:
    url = settings.database
    if url.get_backend_name() != "sqlite":
        words = [*instead(file), *_address(url)]
        raise UsageError(f"PostgreSQL is backed up by its own tools: {shlex.join(words)}")
    return Path(url.database or "")


def _dump(file: Path) -> list[str]:
    return ["pg_dump", "--format=custom", "--no-owner", f"--file={file}"]


def _restore_dump(file: Path) -> list[str]:
    return ["pg_restore", "--no-owner", "--single-transaction", str(file)]


def _address(url: URL) -> list[str]:
    """Return where the database is, without its password: that one is in PGPASSWORD or ~/.pgpass."""
    parts = {
        "host": url.host or url.query.get("host"),
        "port": url.port,
        "username": url.username,
        "dbname": url.database,
    }
    return [f"--{name}={value}" for name, value in parts.items() if value]


def _print(where: str, done: "Backup", aside: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "file": where,
                "revision": done.revision,
                "rows": done.rows,
                "bytes": done.bytes,
                "aside": str(aside) if aside else None,
            }
        )
        return
    rows = ", ".join(f"{count(number, 'row')} of {name}" for name, number in done.rows.items())
    typer.echo(f"{where}: {rows}, revision {done.revision}, {size(done.bytes)}, checked")
    if aside is not None:
        typer.echo(f"the database before it is {aside}")
