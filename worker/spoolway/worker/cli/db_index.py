"""`spoolway db index`: the optional index for full-text search on PostgreSQL."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer
from sqlalchemy.engine import URL

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, one_line_errors
from spoolway.worker.cli.bar import bar
from spoolway.worker.cli.db import db
from spoolway.worker.cli.shown import count, print_json, size
from spoolway.worker.config import UsageError, load
from spoolway.worker.connecting import explain

T = TypeVar("T")

index = typer.Typer(
    help="Make and drop the index for search (PostgreSQL; docs/search.md has its cost).",
    no_args_is_help=True,
)
db.add_typer(index, name="index")


@index.command()
@one_line_errors
def create(database_url: DatabaseUrl = None, folder: Dir = None, as_json: Json = False) -> None:
    """Make the index for search in bodies, day by day, while workers write.

    Ended in the middle, it goes on there the next time. Days to come have it from the start. It
    needs pg_trgm, and the role that owns the tables.

    Examples:

        spoolway db index create
    """
    from spoolway.worker.reading import search_index  # with the drivers: not for all of db

    with bar("indexing", None, "days") as progressed:
        built = _run(lambda url: search_index.create(url, progressed), database_url, folder)
    if as_json:
        print_json({"days_built": built})
    else:
        typer.echo(f"built for {count(built, 'day')}" if built else "already there, for all days")


@index.command()
@one_line_errors
def drop(database_url: DatabaseUrl = None, folder: Dir = None, as_json: Json = False) -> None:
    """Drop the index for search. Search goes on without it, slower. pg_trgm stays.

    Examples:

        spoolway db index drop
    """
    from spoolway.worker.reading import search_index

    was_there = _run(search_index.drop, database_url, folder)
    if as_json:
        print_json({"dropped": was_there})
    else:
        typer.echo("dropped" if was_there else "there was none")


@index.command(name="list")
@one_line_errors
def list_(database_url: DatabaseUrl = None, folder: Dir = None, as_json: Json = False) -> None:
    """Print whether there is an index for search, for how many days, and how large it is.

    Examples:

        spoolway db index list --json
    """
    from spoolway.worker.reading import search_index

    found = _run(search_index.state, database_url, folder)
    if as_json:
        print_json(found and {"days": found.days, "indexed": found.indexed, "bytes": found.bytes})
    elif found is None:
        typer.echo("no index for search: spoolway db index create")
    else:
        days = f"{found.indexed} of {count(found.days, 'day')}"
        unfinished = "" if found.indexed == found.days else ", unfinished: spoolway db index create"
        typer.echo(f"search: {days}, {size(found.bytes)}{unfinished}")


def _run(
    step: Callable[[URL], Coroutine[Any, Any, T]], database_url: str | None, folder: str | None
) -> T:
    url = load(database_url=database_url, dir=folder).database
    try:
        return asyncio.run(step(url))
    except UsageError:
        raise
    except Exception as error:
        explained = explain(error, url)
        if explained is None:
            raise
        raise UsageError(explained) from error
