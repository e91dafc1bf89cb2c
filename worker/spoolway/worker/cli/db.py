"""`spoolway db`: the database's tables, and which version of Spoolway they are of."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import orjson
import typer
from sqlalchemy.engine import URL

from spoolway import migrations
from spoolway.worker.cli.app import DatabaseUrl, Dir, app, one_line_errors
from spoolway.worker.config import UsageError, load
from spoolway.worker.connecting import explain

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]

db = typer.Typer(help="Make, migrate and check the database's tables.", no_args_is_help=True)
app.add_typer(db, name="db")


@db.command()
@one_line_errors
def upgrade(
    revision: Annotated[str, typer.Argument(help="Revision, or head for the newest.")] = "head",
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Bring the tables to this version. Does nothing when they are there.

    Any number may run at once: one migrates, the others wait until it has.

    Examples:

        spoolway db upgrade

        DATABASE_URL=postgresql://me:secret@db:5432/logs spoolway db upgrade
    """
    done = _run(lambda url: migrations.upgrade(url, revision), database_url, folder)
    _print_migrated(done, as_json)


@db.command()
@one_line_errors
def downgrade(
    revision: Annotated[str, typer.Argument(help="Revision, or base to drop the tables.")],
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take the tables back to an earlier version, and lose what only the later ones hold.

    Stop the workers first. Asks before it does; without a terminal it needs --yes.

    Examples:

        spoolway db downgrade 0001

        spoolway db downgrade base --yes
    """
    lost = (
        "drops request_logs and error_logs with all their rows"
        if revision == "base"
        else f"drops what the revisions after {revision} added, with its data"
    )
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"downgrade {lost}: confirm it with --yes")
        typer.confirm(f"This {lost}. Go on?", abort=True)
    done = _run(lambda url: migrations.downgrade(url, revision), database_url, folder)
    _print_migrated(done, as_json)


@db.command()
@one_line_errors
def current(database_url: DatabaseUrl = None, folder: Dir = None, as_json: Json = False) -> None:
    """Print the revision the database is at.

    Examples:

        spoolway db current

        spoolway db current --json
    """
    found = _run(migrations.current, database_url, folder)
    if as_json:
        _print_json(
            {
                "revision": found.revision,
                "newest": found.newest,
                "is_newest": found.is_newest,
                "is_known": found.is_known,
            }
        )
    elif found.is_newest:
        typer.echo(f"{found.revision} (newest)")
    elif found.is_known:
        typer.echo(f"{found.revision or 'base'} (newest is {found.newest}: spoolway db upgrade)")
    else:
        typer.echo(f"{found.revision} (of a newer spoolway; this one knows up to {found.newest})")


@db.command()
@one_line_errors
def history(as_json: Json = False) -> None:
    """List the revisions this version knows, newest first. Asks no database.

    Examples:

        spoolway db history

        spoolway db history --json
    """
    steps = migrations.history()
    if as_json:
        _print_json(steps)
    else:
        for step in steps:
            typer.echo(f"{step.revision}  {step.message}")


@db.command()
@one_line_errors
def check(database_url: DatabaseUrl = None, folder: Dir = None, as_json: Json = False) -> None:
    """Compare the database with this version's tables. Exit 1 if anything differs.

    One line per difference. Partitions and other tables in the database are not looked at.

    Examples:

        spoolway db check

        spoolway db check --json --dir /var/lib/spoolway
    """
    found = _run(migrations.check, database_url, folder)
    if as_json:
        _print_json({"differences": found})
    else:
        for line in found or ["no differences"]:
            typer.echo(line)
    raise typer.Exit(1 if found else 0)


@db.command()
@one_line_errors
def revision(
    message: Annotated[str, typer.Option("--message", "-m", help="What changes, in a few words.")],
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Draft a new revision (for development): from this database to the tables in the code.

    Writes a file beside the other revisions. Read every line of it before it is used.

    Examples:

        spoolway db revision -m "add request_logs.region"
    """
    path = _run(lambda url: migrations.revision(url, message), database_url, folder)
    if as_json:
        _print_json({"path": str(path)})
    else:
        typer.echo(path)


def _run(
    step: Callable[[URL], Coroutine[Any, Any, T]], database_url: str | None, folder: str | None
) -> T:
    """Run one step against the database; what an operator can mend is one line."""
    url = load(database_url=database_url, dir=folder).database
    _tell_of_waiting()
    try:
        return asyncio.run(step(url))
    except migrations.MigrationError as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        explained = explain(error, url)
        if explained is None:
            raise
        raise UsageError(explained) from error


def _tell_of_waiting() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("spoolway: %(message)s"))
    logger = logging.getLogger("spoolway.migrations.lock")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _print_migrated(done: migrations.Migrated, as_json: bool) -> None:
    if as_json:
        _print_json({"before": done.before, "after": done.after, "changed": done.changed})
    elif done.changed:
        typer.echo(f"migrated from {done.before or 'base'} to {done.after or 'base'}")
    else:
        typer.echo(f"already at {done.after or 'base'}")


def _print_json(value: object) -> None:
    typer.echo(orjson.dumps(value).decode())
