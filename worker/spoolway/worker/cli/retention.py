"""`spoolway retention`: removes what is older than it is to be kept, as the workers' cron does."""

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, app, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.shown import print_json, printable, size, table
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError, load

_DAYS: Final = {"requests": "request_days", "errors": "error_days", "bodies": "body_days"}
_NAMES: Final = {"requests": "request_logs", "errors": "error_logs", "bodies": "bodies"}


def _days(what: str) -> Any:
    name = what.upper()
    return typer.Option(
        min=0,
        metavar="DAYS",
        help=f"Days to keep; 0: for ever.  [env: SPOOLWAY_{name}_RETENTION_DAYS]",
        show_default=False,
    )


@app.command()
@one_line_errors
def retention(  # noqa: PLR0917 - Typer passes them all by name
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go; change nothing.")
    ] = False,
    request_days: Annotated[int | None, _days("request")] = None,
    error_days: Annotated[int | None, _days("error")] = None,
    body_days: Annotated[int | None, _days("body")] = None,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum", help="Write an SQLite file anew first, once: then it can shrink. Locks it."
        ),
    ] = False,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Remove rows and bodies of UTC days that are older than they are to be kept.

    What the workers do every hour; safe beside them, and to interrupt and repeat: Ctrl-C ends it
    after the step in hand. Bodies (body, response, stream_chunks) go with their rows, or before.
    On PostgreSQL the rows of a dropped partition are the server's estimate; on SQLite bytes are.

    Examples:

        spoolway retention --dry-run

        spoolway retention --request-days 90 --error-days 365 --body-days 14

        DATABASE_URL=postgresql://me:secret@db:5432/logs spoolway retention --dry-run --json
    """
    settings = load(
        database_url=database_url,
        dir=folder,
        request_retention_days=request_days,
        error_retention_days=error_days,
        body_retention_days=body_days,
    )
    say_what_is_logged()
    if vacuum:
        _vacuum(settings)
    code = run_stoppable(lambda stop: _retain(settings, stop, dry_run=dry_run, as_json=as_json))
    raise typer.Exit(code)


async def _retain(settings: Settings, stop: Stop, *, dry_run: bool, as_json: bool) -> int:
    """Remove, or only look; print what and return the exit code."""
    from spoolway.worker.destinations import opened_database
    from spoolway.worker.plan import Halt
    from spoolway.worker.retention import keep_of, remove_old
    from spoolway.worker.stores import StoreError
    from spoolway.worker.stores.partitions import utc_today
    from spoolway.worker.stores.retaining import Cuts, Removed

    keep, today = keep_of(settings), utc_today()
    removed = Removed()
    stopped: str | None = None
    try:
        store = await stop.before_stop(opened_database(settings))
    except Halt as error:
        stopped = str(error)
    else:
        with bar("removing", None, "rows") as progressed:

            def stepped(step: Removed) -> bool:
                removed.add(step)
                progressed(step.requests.rows + step.errors.rows + step.bodies.rows)
                return stop.signal is None

            try:
                if dry_run:
                    looking = (await store.retention()).due(Cuts.of(keep, today))
                    removed = await stop.before_stop(looking)
                else:
                    await remove_old(store, keep, today, stepped=stepped)
            except (StoreError, Halt) as error:
                stopped = str(error)
            finally:
                await store.close()
    if stop.signal is not None:
        stopped = "interrupted; the next run goes on there"
    shown = {}
    for part, name in _NAMES.items():
        days, share = getattr(keep, part), getattr(removed, part)
        first = (today - timedelta(days=days)).isoformat() if days else None
        shown[name] = {
            "keep_days": days,
            "first_day_kept": first,
            "partitions": share.partitions,
            "rows": share.rows,
            "bytes": share.bytes,
        }
    if as_json:
        print_json({"dry_run": dry_run, **shown, "stopped": stopped})
    else:
        _print(shown, dry_run=dry_run)
        if stopped:
            typer.echo(f"stopped: {printable(stopped)}")
    return 0 if stopped is None else 1 if stop.signal is None else stop.exit_code


def _print(shown: dict[str, dict[str, Any]], *, dry_run: bool) -> None:
    heads = (
        "would go" if dry_run else "removed",
        "days kept",
        "before",
        "partitions",
        "rows",
        "size",
    )
    rows = [
        (
            name,
            str(one["keep_days"] or "all"),
            one["first_day_kept"] or "-",
            f"{one['partitions']:,}",
            f"{one['rows']:,}",
            size(one["bytes"]) if one["bytes"] else "-",
        )
        for name, one in shown.items()
    ]
    for line in table([heads, *rows], right=(1, 3, 4, 5)):
        typer.echo(line)


def _vacuum(settings: Settings) -> None:
    from spoolway.worker.connecting import explain
    from spoolway.worker.stores.retention_sqlite import rewrite

    url = settings.database
    if url.get_backend_name() != "sqlite":
        raise UsageError("--vacuum is for SQLite: PostgreSQL's partitions are dropped whole")
    try:
        rewrite(Path(url.database or ""))
    except sqlite3.Error as error:
        raise UsageError(explain(error, url) or str(error)) from error
