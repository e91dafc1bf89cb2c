"""`spoolway spool`: what waits on the disk, and whether it is whole."""

import time
from pathlib import Path

import typer

from spoolway.spool import SegmentFile, SpoolFolder
from spoolway.worker.cli.app import Dir, Json, app, one_line_errors
from spoolway.worker.cli.place import state_folder
from spoolway.worker.cli.shown import age, count, print_json, size, table
from spoolway.worker.config import UsageError, load

spool = typer.Typer(help="Look at the spool of a worker or of a proxy.", no_args_is_help=True)
app.add_typer(spool, name="spool")


@spool.command()
@one_line_errors
def ls(folder: Dir = None, as_json: Json = False) -> None:
    """List the segments, in the order in which they are replayed.

    sealed: waits to be replayed. in use: a worker or a proxy writes it, or somebody replays it.
    open: its writer was killed; it is replayed like a sealed one.

    Examples:

        spoolway spool ls

        spoolway spool ls --dir /var/lib/proxy --json
    """
    from spoolway.worker.inspecting import is_in_use
    from spoolway.worker.replaying import count_events

    path = state_folder(load(dir=folder)) / "spool"
    now = time.time()
    listed = [
        {
            "name": file.path.name,
            "events": count_events(file),
            "bytes": file.size,
            "age": max(0.0, round(now - file.began.timestamp(), 3)),
            "state": "in use" if is_in_use(file) else "open" if file.is_open else "sealed",
        }
        for file in segments(path)
    ]
    events, total = (sum(int(str(one[name])) for one in listed) for name in ("events", "bytes"))
    if as_json:
        print_json({"segments": listed, "events": events, "bytes": total})
        return
    rows = [
        (
            str(one["name"]),
            f"{one['events']:,}",
            size(float(str(one["bytes"]))),
            age(float(str(one["age"]))),
            str(one["state"]),
        )
        for one in listed
    ]
    if rows:
        for line in table([("segment", "events", "size", "age", "state"), *rows], right=(1, 2, 3)):
            typer.echo(line)
    typer.echo(
        f"{count(len(listed), 'segment')}, {count(events, 'event')}, {size(total)} in {path}"
    )


@spool.command()
@one_line_errors
def verify(folder: Dir = None, as_json: Json = False) -> None:
    """Check the checksum of every record. Exit 1 if anything is damaged.

    Only reads, and keeps nobody from replaying. What is damaged becomes a dead letter when it is replayed, and the rest of its segment goes on.
    A torn write at the end of an open segment is what a crash leaves behind, and no damage: nobody
    was told that it had succeeded.

    Examples:

        spoolway spool verify

        spoolway spool verify --dir /var/lib/spoolway --json
    """
    from spoolway.worker.inspecting import verify as verified

    path = state_folder(load(dir=folder)) / "spool"
    try:
        found = list(verified(SpoolFolder(path)))
    except OSError as error:
        raise _unreadable(path, error) from None
    damaged = [one for one in found if one.is_damaged]
    events = sum(one.events for one in found)
    if as_json:
        print_json(
            {
                "segments": len(found),
                "events": events,
                "torn": [
                    {"segment": one.file.path.name, "bytes": one.torn_bytes}
                    for one in found
                    if one.torn_bytes
                ],
                "damaged": [
                    {"segment": one.file.path.name, "offset": each.offset, "reason": each.reason}
                    for one in damaged
                    for each in one.damaged
                ],
                "unreadable": [
                    {"segment": one.file.path.name, "reason": one.error}
                    for one in damaged
                    if one.error
                ],
            }
        )
    else:
        for one in found:
            name = one.file.path.name
            for each in one.damaged:
                typer.echo(f"damaged: {name}, byte {each.offset}: {each.reason}")
            if one.error:
                typer.echo(f"unreadable: {name}: {one.error}")
            if one.torn_bytes:
                typer.echo(f"torn: {name}: {count(one.torn_bytes, 'byte')} at its end, no damage")
        whole = "damage found" if damaged else "all whole"
        typer.echo(f"{count(len(found), 'segment')}, {count(events, 'event')}: {whole}")
    raise typer.Exit(1 if damaged else 0)


def segments(path: Path) -> list[SegmentFile]:
    """Return the segments of a spool. Raises UsageError."""
    try:
        return SpoolFolder(path).segments()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror or error}")
