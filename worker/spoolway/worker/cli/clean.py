"""`spoolway clean`: deletes what a state folder keeps on disk. The database is never touched."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from spoolway.worker.clearing import Cleared, Kept, archived, clear, dead, spooled
from spoolway.worker.cli.app import Dir, Json, Yes, app, one_line_errors
from spoolway.worker.cli.place import require_owner, state_folder
from spoolway.worker.cli.shown import count, is_terminal, print_json, size
from spoolway.worker.config import UsageError, load

_KINDS = {"spool": spooled, "dead": dead, "archive": archived}
_WHAT = {"spool": "event", "dead": "dead letter", "archive": ""}
_LOST = {
    "spool": "which are not in the database and would be lost (spoolway replay puts them there)",
    "dead": "which are not in the database (spoolway dead replay brings them back)",
    "archive": "which spoolway replay --archive could read again",
}


@app.command()
@one_line_errors
def clean(  # noqa: PLR0917 - Typer passes them all by name
    spool: Annotated[bool, typer.Option("--spool", help="Segments of the spool.")] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Dead letters.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="Files of the archive.")] = False,
    older_than: Annotated[
        int | None,
        typer.Option(min=0, metavar="DAYS", help="Only files of UTC days before these."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted.")
    ] = False,
    yes: Yes = False,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Delete spool, dead letters or archive of a state folder for good. Never the database.

    What is spooled or dead is nowhere else: replay it first, unless it is to be lost. Files that a
    worker, a proxy or a replay has open stay, and then the exit code is 1. Asks before it deletes;
    without a terminal it needs --yes.

    Examples:

        spoolway clean --archive --older-than 30

        spoolway clean --spool --dead --dry-run

        spoolway clean --dead --older-than 7 --yes --dir /var/lib/spoolway
    """
    chosen = [
        kind
        for kind, is_wanted in (("spool", spool), ("dead", dead), ("archive", archive))
        if is_wanted
    ]
    if not chosen:
        raise UsageError("say what to delete: --spool, --dead, --archive")
    path = state_folder(load(dir=folder))
    require_owner(path)
    until = None if older_than is None else datetime.now(UTC).date() - timedelta(days=older_than)
    try:
        listed = {kind: _before(until, list(_KINDS[kind](path))) for kind in chosen}
        found = {kind: clear(files, rehearse=True) for kind, files in listed.items()}
        if not dry_run and any(one.files for one in found.values()):
            if not yes:
                _confirm(found)
            found = {kind: clear(files) for kind, files in listed.items()}
    except OSError as error:
        where = error.filename or path
        raise UsageError(f"{where} cannot be cleared: {error.strerror or error}") from None
    if as_json:
        print_json(
            {"dry_run": dry_run, **{kind: _as_json(kind, one) for kind, one in found.items()}}
        )
    else:
        for kind, one in found.items():
            typer.echo(
                f"{'would delete' if dry_run else 'deleted'} {_said(kind, one)} in {path / kind}"
            )
            if one.in_use:
                typer.echo(f"{count(one.in_use, 'file')} of the {kind} in use: left")
    raise typer.Exit(1 if any(one.in_use for one in found.values()) else 0)


def _before(until: date | None, files: list[Kept]) -> list[Kept]:
    return [file for file in files if until is None or file.day < until]


def _confirm(found: dict[str, Cleared]) -> None:
    for kind, one in found.items():
        what = f"clean deletes {_said(kind, one)}, {_LOST[kind]}"
        if one.files and not is_terminal():
            raise UsageError(f"{what}: confirm it with --yes")
        if one.files:
            typer.echo(f"{what}.", err=True)
    typer.confirm("Delete all of it for good?", abort=True, err=True)


def _said(kind: str, one: Cleared) -> str:
    files = f"{count(one.files, 'file')} of the {kind}, {size(one.bytes)}"
    return f"{files}, {count(one.events, _WHAT[kind])}" if _WHAT[kind] else files


def _as_json(kind: str, one: Cleared) -> dict[str, int]:
    numbers = {"files": one.files, "bytes": one.bytes, "in_use": one.in_use}
    return {**numbers, "events": one.events} if _WHAT[kind] else numbers
