"""`spoolway replay`: what was spooled while something was away, back to where it belongs."""

import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from spoolway.spool import DeadLetters, SegmentFile, SpoolFolder
from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, RedisUrl, app, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.place import require_owner, state_folder
from spoolway.worker.cli.shown import count, print_json, printable, say
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError, load
from spoolway.worker.plan import Destination, Halt, Plan, Report
from spoolway.worker.replaying import Replaying, count_events


class To(StrEnum):
    """Where to."""

    database = "database"
    stream = "stream"


class _Order(NamedTuple):
    """What was asked for."""

    to: To
    rate: float | None
    limit: int | None
    keep: bool

    def plan(self, settings: Settings) -> Plan:
        """Return it with the settings' sizes."""
        return Plan(
            settings.batch_events,
            settings.batch_bytes,
            limit=self.limit,
            rate=self.rate,
            keep=self.keep,
        )


@app.command()
@one_line_errors
def replay(  # noqa: PLR0917 - Typer passes them all by name
    folder: Dir = None,
    to: Annotated[
        To,
        typer.Option(help="Into the database at once, or back onto the stream for the workers."),
    ] = To.database,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only read: check and decode every event, change nothing."),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="N", help="At most so many events per second."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after so many events.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the segments; then they come again.")
    ] = False,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    archive: Annotated[
        bool,
        typer.Option("--archive", help="Not the spool but the archive, into the database."),
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With --archive: from the files of this day on."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="With --archive: up to the files of this day."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Put what is in the spool of a state folder (a worker's or a proxy's) where it belongs.

    Safe at any time, as often as you like, beside workers and other replays: an event that is in
    the database already is recognised. Ctrl-C finishes the step in hand, and the next run goes on
    there. Exit 1 if anything is left, with what and why; with --dry-run, if anything would not
    become a row.

    Examples:

        spoolway replay

        spoolway replay --dir /var/lib/spoolway --rate 2000

        spoolway replay --dir /var/lib/proxy --to stream --redis-url redis://cache:6379/0

        spoolway replay --dry-run --json

        spoolway replay --archive --since 2026-11-20 --until 2026-11-21
    """
    settings = load(database_url=database_url, redis_url=redis_url, dir=folder)
    state_folder(settings)
    if archive:
        if to is not To.database or dry_run or keep or rate is not None or limit is not None:
            raise UsageError("--archive goes with --since, --until and --json, and nothing else")
        from spoolway.worker.cli.replay_archive import replay_days

        raise typer.Exit(replay_days(settings, since, until, as_json=as_json))
    if since is not None or until is not None:
        raise UsageError("--since and --until are days of the archive: give --archive with them")
    if dry_run:
        if keep or rate is not None:
            raise UsageError("--dry-run changes nothing: leave out --keep and --rate")
        raise typer.Exit(_rehearse(settings, limit, as_json=as_json))
    require_owner(settings.dir)
    say_what_is_logged()
    order = _Order(to, rate, limit, keep)
    raise typer.Exit(run_stoppable(lambda stop: _replay(settings, order, stop, as_json=as_json)))


async def _replay(settings: Settings, order: _Order, stop: Stop, *, as_json: bool) -> int:
    """Replay, print what became of it, and return the exit code."""
    spool = SpoolFolder(settings.dir / "spool")
    began = time.monotonic()
    report = Report()
    if files := _segments(spool):
        # By the names: no file is read before the first event of the first one is on its way.
        known = sum(file.named_events or 0 for file in files)
        try:
            async with _opened(settings, order.to, stop) as destination:
                with bar("replaying", min(known, order.limit or known)) as progressed:
                    report = await Replaying(
                        spool,
                        destination,
                        order.plan(settings),
                        stop.event,
                        progressed=progressed,
                        waiting=_told_once(),
                    ).run()
        except Halt as error:
            report.leave(str(error), len(files), sum(map(count_events, files)))
    _print(report, order, spool.path, time.monotonic() - began, as_json=as_json)
    if not report.left:
        return 0
    return 1 if stop.signal is None else stop.exit_code


def _segments(spool: SpoolFolder) -> list[SegmentFile]:
    try:
        return spool.segments()
    except OSError as error:
        raise UsageError(f"{spool.path} cannot be read: {error.strerror or error}") from None


@asynccontextmanager
async def _opened(settings: Settings, to: To, stop: Stop) -> AsyncIterator[Destination]:
    """Open the destination, and close it. Raises Halt: it is away, or nobody wants it any more."""
    from spoolway.worker.destinations import ToDatabase, ToStream, opened_database

    # A chunk makes tens of thousands of objects, none of them in a cycle: see service.py.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    dead = DeadLetters(settings.dir / "dead")
    if to is To.stream:
        stream = ToStream(settings, dead)
        try:
            await stream.check()
            yield stream
        finally:
            await stream.close()
    else:
        store = await stop.before_stop(opened_database(settings))
        try:
            yield ToDatabase(store, dead, settings)
        finally:
            await store.close()


def _told_once() -> Callable[[int], None]:
    told = False

    def tell(segments: int) -> None:
        nonlocal told
        if not told:
            told = True
            say(f"waiting up to 15 s for {count(segments, 'segment')} in use by others")

    return tell


def _print(report: Report, order: _Order, path: Path, seconds: float, *, as_json: bool) -> None:
    done = report.done
    if as_json:
        print_json(
            {
                "to": order.to.value,
                "events": done.events,
                "inserted": done.inserted,
                "duplicate": done.duplicate,
                "sent": done.sent,
                "dead": done.dead,
                "segments": report.segments,
                "torn_bytes": report.torn_bytes,
                "seconds": round(seconds, 3),
                "left": {
                    "events": sum(left.events for left in report.left),
                    "segments": sum(left.segments for left in report.left),
                    "why": [
                        {
                            "reason": left.reason,
                            "events": left.events,
                            "segments": left.segments,
                        }
                        for left in report.left
                    ],
                },
            }
        )
        return
    if done.events or report.segments:
        became = (
            f"{done.sent:,} sent to the stream"
            if order.to is To.stream
            else f"{done.inserted:,} inserted, {done.duplicate:,} duplicate"
        )
        kept = ", segments kept" if order.keep else ""
        typer.echo(
            f"replayed {count(done.events, 'event')} in {seconds:.1f} s: {became}, "
            f"{done.dead:,} dead{kept}"
        )
        if done.dead:
            typer.echo("the dead: spoolway dead ls")
    elif not report.left:
        typer.echo(f"nothing to replay in {path}")
        return
    if report.torn_bytes:
        typer.echo(
            f"{count(report.torn_bytes, 'byte')} of torn writes cut off: a crash interrupted them, "
            "and nobody was told that they had succeeded"
        )
    for left in report.left:
        typer.echo(
            f"left: {count(left.events, 'event')} in {count(left.segments, 'segment')}: "
            f"{printable(left.reason)}"
        )
    if not report.left:
        typer.echo("left: nothing")


def _rehearse(settings: Settings, limit: int | None, *, as_json: bool) -> int:
    from spoolway.worker.inspecting import rehearse
    from spoolway.worker.opening import window_of

    spool = SpoolFolder(settings.dir / "spool")
    try:
        found = rehearse(spool, window_of(settings), limit)
    except OSError as error:
        raise UsageError(f"{spool.path} cannot be read: {error.strerror or error}") from None
    dead = found.dead.total()
    if as_json:
        print_json(
            {
                "events": found.events,
                "segments": found.segments,
                "dead": dict(found.dead),
                "torn_bytes": found.torn_bytes,
                "unreadable": found.unreadable,
            }
        )
    else:
        typer.echo(
            f"{count(found.events, 'event')} in {count(found.segments, 'segment')} would be "
            f"replayed; nothing was changed"
        )
        for reason, number in found.dead.most_common():
            typer.echo(f"would become dead letters: {number:,} {reason}")
        if found.torn_bytes:
            typer.echo(f"{count(found.torn_bytes, 'byte')} of torn writes would be cut off")
        for name, why in found.unreadable.items():
            typer.echo(f"unreadable: {name}: {why}")
    return 1 if dead or found.unreadable else 0
