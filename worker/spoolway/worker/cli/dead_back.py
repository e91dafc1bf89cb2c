"""`spoolway dead replay` and `purge`: dead letters back into the database, or gone for good."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from spoolway.spool import UNREADABLE, DeadLetters, KeptLetter
from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, Yes, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.dead import dead
from spoolway.worker.cli.letters import Reasons, dead_letters, digests_of, reading
from spoolway.worker.cli.place import require_owner
from spoolway.worker.cli.shown import count, is_terminal, print_json, printable
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError, load

_REMOVE_AT_ONCE: Final = 100_000
"""Letters of a file that are remembered before it is made anew without them."""


@dead.command()
@one_line_errors
def replay(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Only these.", show_default=False)
    ] = None,
    reason: Reasons = None,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Decode the raw bytes anew and put them into the database, when what refused them is mended.

    What becomes a row, or is one already, is removed from the dead letters; the rest stays. Exit 1
    if anything does. Safe to repeat, beside workers and at any moment of a crash.

    Examples:

        spoolway dead replay

        spoolway dead replay --reason outside-window

        spoolway dead replay 3f9c0a1b2c3d 77b1
    """
    settings = load(database_url=database_url, dir=folder)
    letters = dead_letters(settings)
    require_owner(settings.dir)
    say_what_is_logged()
    with reading(letters.folder):
        wanted = digests_of(letters, ids) if ids else None
        code = run_stoppable(
            lambda stop: _replay(settings, letters, wanted, reason, stop, as_json=as_json)
        )
    raise typer.Exit(code)


@dead.command()
@one_line_errors
def purge(
    reason: Reasons = None,
    before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="Only those first seen before (UTC)."
        ),
    ] = None,
    yes: Yes = False,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Delete dead letters for good. Asks before it does; without a terminal it needs --yes.

    Lines that are no letters stay, unless it is --reason unreadable.

    Examples:

        spoolway dead purge --reason undecodable --before 2026-01-31

        spoolway dead purge --yes
    """
    settings = load(dir=folder)
    letters = dead_letters(settings)
    require_owner(settings.dir)
    asked = datetime.now(UTC)
    until = before.replace(tzinfo=UTC) if before else None

    def is_meant(kept: KeptLetter) -> bool:
        if kept.reason not in (reason or (kept.reason,)):
            return False
        if kept.letter is None and UNREADABLE not in (reason or ()):
            return False
        seen = _first_seen(kept)
        if until is not None and (seen is None or seen >= until):
            return False
        # Not what came while the question stood.
        return seen is None or not asked <= seen <= datetime.now(UTC)

    with reading(letters.folder):
        number = sum(1 for kept in letters.letters() if is_meant(kept))
        if number and not yes:
            what = f"deletes {count(number, 'dead letter')} in {letters.folder} for good"
            if not is_terminal():
                raise UsageError(f"purge {what}: confirm it with --yes")
            typer.confirm(f"This {what}. Go on?", abort=True)
        purged = sum(_purge(letters, path, is_meant) for path in letters.files()) if number else 0
    if as_json:
        print_json({"purged": purged})
    else:
        typer.echo(f"deleted {count(purged, 'dead letter')}")


async def _replay(
    settings: Settings,
    letters: DeadLetters,
    wanted: set[bytes] | None,
    reason: list[str] | None,
    stop: Stop,
    *,
    as_json: bool,
) -> int:
    """Replay, print what became of them, and return the exit code."""
    from spoolway.worker.destinations import opened_database
    from spoolway.worker.opening import window_of
    from spoolway.worker.plan import Halt
    from spoolway.worker.reviving import Revived, Reviving

    def is_meant(kept: KeptLetter) -> bool:
        is_wanted = wanted is None or kept.digest in wanted
        return is_wanted and kept.reason in (reason or (kept.reason,))

    number = sum(1 for kept in letters.letters() if is_meant(kept))
    revived = Revived()
    if number:
        try:
            store = await stop.before_stop(opened_database(settings))
        except Halt as error:
            revived.stopped = str(error)
        else:
            try:
                with bar("replaying", number, "letters") as progressed:
                    revived = await Reviving(
                        store,
                        letters,
                        window_of(settings),
                        stop.event,
                        batch_events=settings.batch_events,
                        batch_bytes=settings.batch_bytes,
                        progressed=progressed,
                    ).run(is_meant)
            finally:
                await store.close()
    untried = max(0, number - revived.letters - revived.unreadable) if revived.stopped else 0
    left = revived.left + revived.unreadable + untried
    if as_json:
        print_json(
            {
                "inserted": revived.inserted,
                "duplicate": revived.duplicate,
                "left": left,
                "unreadable": revived.unreadable,
                "stopped": revived.stopped,
            }
        )
    elif not number:
        typer.echo(f"no dead letters to replay in {letters.folder}")
    else:
        typer.echo(f"{revived.inserted:,} inserted, {revived.duplicate:,} duplicate, {left:,} left")
        if revived.stopped:
            typer.echo(f"stopped: {printable(revived.stopped)}")
        if revived.left:
            typer.echo("what is left is refused as before: spoolway dead ls")
        if revived.unreadable:
            typer.echo(f"lines that are no letters (unreadable): {revived.unreadable:,}")
    if not left:
        return 0
    return 1 if stop.signal is None else stop.exit_code


def _purge(letters: DeadLetters, path: Path, is_meant: Callable[[KeptLetter], bool]) -> int:
    purged = 0
    digests: set[bytes] = set()
    for kept in letters.letters_of(path):
        if is_meant(kept):
            digests.add(kept.digest)
        if len(digests) >= _REMOVE_AT_ONCE:
            purged += letters.remove(path, digests)
            digests = set()
    return purged + (letters.remove(path, digests) if digests else 0)


def _first_seen(kept: KeptLetter) -> datetime | None:
    try:
        seen = datetime.fromisoformat(kept.first_seen)
    except ValueError:
        return None
    return seen if seen.tzinfo else seen.replace(tzinfo=UTC)
