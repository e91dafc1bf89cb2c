"""`spoolway status`: how far behind, what waits where, and whether every event is accounted for."""

import asyncio
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from spoolway.worker.backlog import Backlog, backlogs, in_all
from spoolway.worker.cli.app import Json, RedisUrl, app, one_line_errors
from spoolway.worker.cli.shown import age, print_json, printable
from spoolway.worker.cli.standing import dead_line, queue_line, spool_line
from spoolway.worker.cli.wrong import what_is_wrong
from spoolway.worker.config import Settings, load, shown_url
from spoolway.worker.fleet import Folder, folder_in
from spoolway.worker.redis_client import explain_redis


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
    found = [folder_in(each.dir) for each in all_settings]
    wrong = what_is_wrong(queue, trouble, found)
    if as_json:
        asked: dict[str, Any] = asdict(queue) if queue else {}
        asked |= {
            "url": shown_url(settings.redis_url),
            "stream": settings.stream,
            "group": settings.group,
            "streams": {name: asdict(one) for name, one in queues.items()},
            "error": trouble,
        }
        print_json({"redis": asked, "folders": list(map(asdict, found)), "wrong": wrong})
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
        typer.echo(f"  {name if len(queues) > 1 else 'queue'}   {queue_line(queue)}")


def _print_folder(folder: Folder) -> None:
    typer.echo(f"folder    {folder.dir}")
    for error in folder.errors:
        typer.echo(f"  error   {error}")
    if folder.spool is not None:
        typer.echo(f"  spool   {spool_line(folder.spool)}")
    if folder.dead is not None:
        typer.echo(f"  dead    {dead_line(folder.dead)}")
    if not folder.workers:
        typer.echo("  worker  none runs here")
    for worker in folder.workers:
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
