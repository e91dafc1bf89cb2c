"""`spoolway status`: how far behind, what waits where, and whether every event is accounted for."""

import asyncio
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from redis.exceptions import RedisError

from spoolway.spool import DeadLetters, SpoolFolder
from spoolway.worker.backlog import Backlog, backlogs, in_all
from spoolway.worker.cli.app import Json, RedisUrl, app, one_line_errors
from spoolway.worker.cli.shown import age, count, print_json, printable, size
from spoolway.worker.config import Settings, load, shown_url
from spoolway.worker.progress import STALE_SECONDS, read_all
from spoolway.worker.redis_client import explain_redis

BEHIND_SECONDS: Final = 60.0
"""A backlog that is older, while no event has become safe for as long, is a worker's failure."""

_STREAM: Final = ("inserted", "duplicate", "dead", "spooled", "given_back", "in_flight")
_REPLAY: Final = ("replay_inserted", "replay_duplicate", "replay_dead")


@app.command()
@one_line_errors
def status(
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            help="State folder of workers or of a proxy; as often as you like.  "
            "[env: SPOOLWAY_DIR; default: ./var]",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if anything is wrong, with one line for each.")
    ] = False,
    redis_url: RedisUrl = None,
    as_json: Json = False,
) -> None:
    """Show the stream's backlog, and of each folder the spool, dead letters and workers.

    --check exits 1 if a worker's counts do not add up, no worker runs, one has not turned for 15 s
    or is stopped by a run of refusals, entries were lost, Redis cannot be asked, or there is a
    backlog older than 60 s and nothing has moved for as long. An outage of the database that the
    spool is sitting out is not a failure.

    Examples:

        spoolway status

        spoolway status --check --dir /var/lib/spoolway --dir /var/lib/proxy

        spoolway status --json | jq .folders[].spool.events
    """
    named: list[str | None] = [*folders] if folders else [None]
    all_settings = [load(redis_url=redis_url, dir=folder) for folder in named]
    settings = all_settings[0]
    queues, trouble = _ask_redis(settings)
    queue = in_all(queues.values()) if queues else None
    found = [_folder(each.dir) for each in all_settings]
    wrong = _wrong(queue, trouble, found)
    if as_json:
        asked: dict[str, Any] = asdict(queue) if queue else {}
        asked |= {
            "url": shown_url(settings.redis_url),
            "stream": settings.stream,
            "group": settings.group,
            "streams": {name: asdict(one) for name, one in queues.items()},
            "error": trouble,
        }
        print_json({"redis": asked, "folders": found, "wrong": wrong})
    else:
        _print_redis(settings, queues, trouble)
        for folder in found:
            _print_folder(folder)
        if check:
            for line in [f"wrong: {reason}" for reason in wrong] or ["nothing is wrong"]:
                typer.echo(line)
    if check and wrong:
        raise typer.Exit(1)


def _ask_redis(settings: Settings) -> tuple[dict[str, Backlog], str | None]:
    try:
        return asyncio.run(backlogs(settings)), None
    except (RedisError, OSError) as error:
        return {}, printable(explain_redis(error, settings.redis_url))


def _folder(path: Path) -> dict[str, Any]:
    """Return what a state folder holds, as JSON values; of what cannot be read, why."""
    from spoolway.worker.replaying import count_events

    errors: list[str] = []
    spool: dict[str, Any] | None = None
    reasons: dict[str, int] | None = None
    if not path.is_dir():
        errors.append(f"there is no folder {path.absolute()}")
    try:
        files = SpoolFolder(path / "spool").segments()
        began = min((file.began.timestamp() for file in files), default=None)
        spool = {
            "segments": len(files),
            "events": sum(map(count_events, files)),
            "bytes": sum(file.size for file in files),
            "oldest_seconds": None if began is None else max(0.0, round(time.time() - began, 3)),
        }
    except OSError as error:
        errors.append(f"the spool cannot be read: {error.strerror or error}")
    try:
        letters = DeadLetters(path / "dead").letters()
        reasons = dict(Counter(kept.reason for kept in letters).most_common())
    except OSError as error:
        errors.append(f"the dead letters cannot be read: {error.strerror or error}")
    return {
        "dir": str(path),
        "spool": spool,
        "dead": reasons,
        "workers": [_worker(status) for status in read_all(path)],
        "errors": errors,
    }


def _worker(status: dict[str, Any]) -> dict[str, Any]:
    """Return a worker's status with its equations, and whether they hold."""
    stream, replay = _sum(status, _STREAM), _sum(status, _REPLAY)
    return {
        **status,
        "equation": _equation(status, "read", _STREAM),
        "replay_equation": _equation(status, "replayed", _REPLAY),
        "holds": status.get("read", 0) == stream and status.get("replayed", 0) == replay,
    }


def _sum(status: dict[str, Any], names: tuple[str, ...]) -> int:
    return sum(int(status.get(name, 0)) for name in names)


def _equation(status: dict[str, Any], whole: str, names: tuple[str, ...]) -> str:
    total, parts = int(status.get(whole, 0)), _sum(status, names)
    spelled = " + ".join(
        f"{int(status.get(name, 0))} {name.removeprefix('replay_').replace('_', ' ')}"
        for name in names
    )
    verdict = "holds" if total == parts else f"does not hold, they are {parts}"
    return f"{total} {whole} = {spelled}: {verdict}"


def _wrong(queue: Backlog | None, trouble: str | None, folders: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong, one line each."""
    wrong = [trouble] if trouble else []
    workers = [worker for folder in folders for worker in folder["workers"]]
    if not workers:
        where = ", ".join(folder["dir"] for folder in folders)
        wrong.append(f"no worker runs in {where}: start one with spoolway worker")
    wrong += [f"{folder['dir']}: {error}" for folder in folders for error in folder["errors"]]
    for worker in workers:
        name = printable(str(worker["consumer"]))
        if not worker["holds"]:
            wrong.append(f"{name}: {worker['equation']}; {worker['replay_equation']}")
        if worker["age"] >= STALE_SECONDS:
            wrong.append(
                f"{name} has not turned for {worker['age']:.0f} s: it is wedged, restart it"
            )
        if worker.get("breaker") == "refusing":
            wrong.append(f"{name} is stopped by a run of refusals: its log has the reason")
        if lost := int(worker.get("lost_entries", 0)):
            wrong.append(
                f"{name} lost {count(lost, 'entry').replace('entrys', 'entries')}: "
                "something trims the stream"
            )
    names = Counter(printable(str(worker["consumer"])) for worker in workers)
    wrong += [
        f"{number} workers are called {name}: give each a SPOOLWAY_CONSUMER of its own"
        for name, number in names.items()
        if number > 1
    ]
    if queue is not None and workers and queue.age_seconds > BEHIND_SECONDS:
        last = max((worker.get("last_settled") or 0.0 for worker in workers), default=0.0)
        still = time.time() - last
        if still > BEHIND_SECONDS:
            since = f"for {age(still)}" if last else "since the start"
            wrong.append(
                f"the oldest entry waits for {age(queue.age_seconds)}, and no event was settled "
                f"{since}: the workers' logs say why"
            )
    return wrong


def _print_redis(settings: Settings, queues: dict[str, Backlog], trouble: str | None) -> None:
    if not queues:
        typer.echo(f"redis     {trouble}")
        return
    typer.echo(
        f"redis     {shown_url(settings.redis_url)}, stream {settings.stream}, group "
        f"{settings.group}"
    )
    if len(queues) > 1:
        queues = {"in all": in_all(queues.values()), **queues}
    for name, queue in queues.items():
        unread = "some" if queue.undelivered is None else f"{queue.undelivered:,}"
        typer.echo(
            f"  {name if len(queues) > 1 else 'queue'}   {queue.length:,} entries; {unread} not "
            f"read, lag {age(queue.lag_seconds)}; {queue.pending:,} pending, the oldest for "
            f"{age(queue.pending_seconds)}"
        )


def _print_folder(folder: dict[str, Any]) -> None:
    typer.echo(f"folder    {folder['dir']}")
    for error in folder["errors"]:
        typer.echo(f"  error   {error}")
    if spool := folder["spool"]:
        oldest = spool["oldest_seconds"]
        since = "" if oldest is None else f", the oldest for {age(oldest)}"
        typer.echo(
            f"  spool   {count(spool['segments'], 'segment')}, {count(spool['events'], 'event')}, "
            f"{size(spool['bytes'])}{since}"
        )
    if folder["dead"] is not None:
        reasons = ", ".join(
            f"{number:,} {printable(kind)}" for kind, number in folder["dead"].items()
        )
        typer.echo(f"  dead    {reasons or 'none'}")
    if not folder["workers"]:
        typer.echo("  worker  none runs here")
    for worker in folder["workers"]:
        _print_worker(worker)


def _print_worker(worker: dict[str, Any]) -> None:
    now = time.time()
    times = [
        f"{name.replace('_', ' ')} {age(now - at) + ' ago' if at else 'never'}"
        for name in ("last_commit", "last_settled")
        for at in [worker.get(name)]
    ]
    typer.echo(
        f"  worker  {printable(str(worker['consumer']))}: {printable(str(worker['state']))}, turned "
        f"{age(worker['age'])} ago, breaker {printable(str(worker.get('breaker')))}, "
        f"{', '.join(times)}"
    )
    typer.echo(f"          {worker['equation']}")
    typer.echo(f"          {worker['replay_equation']}")
    counted = (
        "lost_entries",
        "entries_claimed",
        "groups_recreated",
        "write_failures",
        "redis_failures",
    )
    typer.echo(
        "          "
        + ", ".join(f"{int(worker.get(name, 0))} {name.replace('_', ' ')}" for name in counted)
    )
