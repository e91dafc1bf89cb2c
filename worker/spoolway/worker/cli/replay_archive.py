"""`spoolway replay --archive`: what was archived, into a database that has lost it or is new."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import typer

from spoolway.spool import DeadLetters
from spoolway.worker.archived import ArchiveReport, archive_files, replay_archive
from spoolway.worker.batch import Window
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.place import require_owner
from spoolway.worker.cli.shown import count, print_json, printable
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError
from spoolway.worker.plan import Halt

_EVER: Final = Window(timedelta(days=365 * 50), timedelta(days=365))
"""What was taken once is taken again, however old it is by now."""


def replay_days(
    settings: Settings, first: datetime | None, last: datetime | None, *, as_json: bool
) -> int:
    """Replay the files of these days, print what became of it, and return the exit code."""
    folder = settings.dir / "archive"
    try:
        files = archive_files(folder, first and first.date(), last and last.date())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror or error}") from None
    if not files:
        raise UsageError(
            f"there is no file of these days in {folder}: SPOOLWAY_ARCHIVE makes workers write it"
        )
    require_owner(settings.dir)
    say_what_is_logged()
    # What comes out of the archive is in it.
    settings = settings.model_copy(update={"archive": False})
    return run_stoppable(lambda stop: _replay(settings, files, stop, as_json=as_json))


async def _replay(settings: Settings, files: list[Path], stop: Stop, *, as_json: bool) -> int:
    from spoolway.worker.destinations import ToDatabase, opened_database

    began = time.monotonic()
    try:
        store = await stop.before_stop(opened_database(settings))
        try:
            destination = ToDatabase(store, DeadLetters(settings.dir / "dead"), settings, _EVER)
            with bar("replaying", None) as progressed:
                report = await replay_archive(files, destination, stop.event, progressed)
        finally:
            await store.close()
    except Halt as error:
        report = ArchiveReport(left=str(error))
    _print(report, time.monotonic() - began, as_json=as_json)
    if report.left is not None and stop.signal is not None:
        return stop.exit_code
    return 1 if report.left is not None or report.damaged else 0


def _print(report: ArchiveReport, seconds: float, *, as_json: bool) -> None:
    done = report.done
    if as_json:
        print_json(
            {
                "files": report.files,
                "events": done.events,
                "inserted": done.inserted,
                "duplicate": done.duplicate,
                "dead": done.dead,
                "damaged": report.damaged,
                "left": report.left,
                "seconds": round(seconds, 3),
            }
        )
        return
    typer.echo(
        f"{count(done.events, 'event')} of {count(report.files, 'file')} in {seconds:.1f} s: "
        f"{done.inserted:,} inserted, {done.duplicate:,} there before, {done.dead:,} dead"
    )
    for damaged in report.damaged:
        typer.echo(f"damaged: {printable(damaged)}")
    if report.left is not None:
        typer.echo(f"not all: {printable(report.left)}")
