"""`spoolway db copy`: all rows of one database into another one, and the proof that they are there."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from sqlalchemy.engine import URL

from spoolway import migrations
from spoolway.spool import DeadLetters
from spoolway.worker.cli.app import Dir, Json, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.db import db
from spoolway.worker.cli.place import require_owner
from spoolway.worker.cli.shown import count, print_json, say, table
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.cli.visible import warn_of_password
from spoolway.worker.config import Settings, UsageError, database_url, load, shown_url
from spoolway.worker.connecting import explain
from spoolway.worker.identity import make_folder
from spoolway.worker.plan import Halt

if TYPE_CHECKING:
    from spoolway.worker.copying import Copied, Source, Target

_NAMED: Final = 20
"""Days and ids that are named; of the rest the number."""


@db.command()
@one_line_errors
def copy(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            callback=warn_of_password,
            metavar="URL",
            help="PostgreSQL or SQLite with Spoolway's tables, or a yaLLMproxy SQLite file.",
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--to",
            callback=warn_of_password,
            metavar="URL",
            help="PostgreSQL or SQLite.  [env: DATABASE_URL; default: spoolway.db in --dir]",
            show_default=False,
        ),
    ] = None,
    folder: Dir = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and compare both sides, change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy all rows into another database, then compare both: counts and checksums.

    Safe beside workers on either side, and at any time again: what the target has already is
    recognised, and never overwritten. Ctrl-C ends it after the step in hand; the next run goes on.
    Rows that cannot be copied become dead letters in --dir. Exit 1 if the target does not have all
    that was read, with the days that differ.

    A password is better not on the command line, where every user of the machine sees it: give the
    target in DATABASE_URL, and the source's password in PGPASSWORD or ~/.pgpass.

    Examples:

        DATABASE_URL=postgresql://me:secret@db/logs spoolway db copy --from sqlite:///var/spoolway.db

        spoolway db copy --from postgresql://me@old/logs --to postgresql://me@new/logs

        spoolway db copy --from sqlite:////srv/yallmproxy/logs/yaLLM.db --dry-run --json
    """
    settings = load(database_url=target, dir=folder)
    try:
        origin = database_url(source)
    except UsageError as error:
        raise UsageError(str(error).replace("DATABASE_URL", "--from")) from None
    if _place(origin) == _place(settings.database):
        raise UsageError(f"--from and --to are the same database, {shown_url(origin)}")
    make_folder(settings.dir)
    require_owner(settings.dir)
    say_what_is_logged()
    raise typer.Exit(
        run_stoppable(lambda stop: _copy(origin, settings, stop, dry_run=dry_run, as_json=as_json))
    )


async def _copy(
    origin: URL, settings: Settings, stop: Stop, *, dry_run: bool, as_json: bool
) -> int:
    """Copy, print what became of it, and return the exit code."""
    from spoolway.worker.copying import Copy, opened_source  # and the drivers: not for `db current`

    began = time.monotonic()
    try:
        async with AsyncExitStack() as opened:
            async with _explained(origin, "--from"):
                source = await opened.enter_async_context(opened_source(origin))
            async with _explained(settings.database, "--to"):
                target = await opened.enter_async_context(_opened_target(settings, dry_run=dry_run))
            dead = DeadLetters(settings.dir / "dead")
            bars = _bars(source)
            copied = await Copy(source, target, dead, stop.event, bars, dry_run=dry_run).run()
    except Halt as error:
        say(f"{error}; run the same command again to go on")
        return 1
    seconds = time.monotonic() - began
    if as_json:
        print_json(_as_json(source, copied, seconds, dry_run=dry_run))
    else:
        _print(copied, seconds, settings, dry_run=dry_run)
    if stop.signal is not None and not copied.is_whole:
        return stop.exit_code
    return 0 if copied.is_same or (dry_run and not copied.dead and not copied.conflicts) else 1


@asynccontextmanager
async def _opened_target(settings: Settings, *, dry_run: bool) -> "AsyncIterator[Target | None]":
    """Open the target; a rehearsal does without one that is not there yet."""
    from spoolway.worker.copying import opened_target

    if not dry_run:
        async with opened_target(settings) as target:
            yield target
        return
    try:
        at = await migrations.current(settings.database)
    except migrations.NoDatabaseFile:
        at = None
    if at is None or not at.is_newest:
        yield None
        return
    async with opened_target(settings, migrate=False) as target:
        yield target


@asynccontextmanager
async def _explained(url: URL, option: str) -> AsyncIterator[None]:
    """Turn what an operator can mend into one line that says which database it is about."""
    try:
        yield
    except migrations.MigrationError as error:
        raise UsageError(f"{shown_url(url)}: {error}") from error
    except UsageError:
        raise
    except Exception as error:
        explained = explain(error, url)
        if explained is None:
            raise
        raise UsageError(explained.replace("DATABASE_URL", option)) from error


def _place(url: URL) -> object:
    if url.get_backend_name() == "sqlite":
        return Path(url.database or "").resolve()
    return url.host or url.query.get("host"), url.port or 5432, url.database


def _bars(source: "Source") -> Callable[[str], Any]:
    rows = sum(table.rows for table in source.tables)

    @contextmanager
    def shown(name: str) -> Iterator[Callable[[int], None]]:
        with bar(name, rows, "rows") as progressed:
            yield progressed

    return shown


def _as_json(
    source: "Source", copied: "Copied", seconds: float, *, dry_run: bool
) -> dict[str, Any]:
    from spoolway.worker.copying import total

    return {
        "source": source.kind,
        "dry_run": dry_run,
        "rows": copied.rows,
        "inserted": copied.inserted,
        "duplicate": copied.duplicate,
        "conflict": len(copied.conflicts),
        "conflicts": copied.conflicts[:_NAMED],
        "dead": copied.dead,
        "is_whole": copied.is_whole,
        "is_same": copied.is_same,
        "tables": {
            name: {
                "source": total(one.source).shown(),
                "target": total(one.target).shown(),
                "unlinked": one.unlinked,
                "differing_days": {
                    day: {
                        "source": one.source[day].shown(),
                        "target": one.target[day].shown(),
                    }
                    for day in one.differing[:_NAMED]
                },
            }
            for name, one in copied.tables.items()
        },
        "seconds": round(seconds, 3),
    }


def _print(copied: "Copied", seconds: float, settings: Settings, *, dry_run: bool) -> None:
    from spoolway.worker.copying import total

    done = "would be inserted" if dry_run else "inserted"
    typer.echo(
        f"{count(copied.rows, 'row')} read in {seconds:.1f} s: {copied.inserted:,} {done}, "
        f"{copied.duplicate:,} there before, {len(copied.conflicts):,} in conflict, "
        f"{copied.dead:,} dead"
    )
    lines = [("", "rows", "checksum")]
    for name, one in copied.tables.items():
        for side, days in (("source", one.source), ("target", one.target)):
            sums = total(days)
            lines.append((f"{name}, {side}", f"{sums.rows:,}", f"{sums.checksum:032x}"))
    for line in table(lines, right=(1,)):
        typer.echo(line)
    for name, one in copied.tables.items() if copied.is_whole and not dry_run else ():
        if one.differing:
            typer.echo(f"{name} differs on {_named(one.differing)}")
        if one.unlinked:
            typer.echo(f"{name}: {count(one.unlinked, 'link')} to a request missing in the target")
    if copied.conflicts:
        typer.echo(f"other content under the same id, left as it is: {_named(copied.conflicts)}")
    if copied.dead and not dry_run:
        typer.echo(
            f"what cannot be copied is in {settings.dir / 'dead'}: "
            f"spoolway dead ls --dir {settings.dir}"
        )
    if not copied.is_whole:
        typer.echo("interrupted: run the same command again to go on")
    elif copied.is_same:
        typer.echo("both sides are the same")


def _named(names: list[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
