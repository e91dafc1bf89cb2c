"""`spoolway health`: whether the workers of a folder make progress."""

from typing import Annotated

import orjson
import typer

from spoolway.worker.cli.app import Dir, app, one_line_errors
from spoolway.worker.config import load
from spoolway.worker.progress import is_alive, read_all


@app.command()
@one_line_errors
def health(
    folder: Dir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every worker's status.")] = False,
) -> None:
    """Exit 0 if every worker of the folder goes round, 1 if one is wedged or none runs.

    Reads the status files that the drain loops keep; asks neither Redis nor the database, so that
    an outage of theirs, which the worker sits out, is not taken for the worker's own.

    Examples:

        spoolway health

        spoolway health --dir /var/lib/spoolway --json
    """
    workers = read_all(load(dir=folder).dir)
    healthy = bool(workers) and all(is_alive(worker["age"]) for worker in workers)
    if as_json:
        typer.echo(orjson.dumps({"healthy": healthy, "workers": workers}).decode())
    elif not workers:
        typer.echo("no worker runs in this folder: start one with spoolway worker")
    else:
        for worker in workers:
            typer.echo(
                f"{worker['consumer']}: {worker['state']}, went round {worker['age']:.1f} s ago, "
                f"{worker['inserted']} inserted, {worker['dead']} dead"
            )
    raise typer.Exit(0 if healthy else 1)
