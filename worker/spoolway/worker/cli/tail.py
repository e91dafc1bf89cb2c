"""`spoolway tail`: requests, or errors, as they are committed."""

import os
import select
import shutil
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, app, one_line_errors
from spoolway.worker.cli.asking import opened, reading_settings, said_in_one_line
from spoolway.worker.cli.filtering import narrowed
from spoolway.worker.cli.following import AT_ONCE, Follower, Recent, Row
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.cli.shown import print_json, say
from spoolway.worker.cli.tail_lines import error_line, head, request_line
from spoolway.worker.config import UsageError
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.errors import ErrorQuery, Errors
from spoolway.worker.reading.failures import TooSlow, Unavailable
from spoolway.worker.reading.filters import Filters
from spoolway.worker.reading.logs import LogQuery, Logs
from spoolway.worker.reading.period import moment
from spoolway.worker.reading.reasons import reasons

_SINCE: Final = "10m"
_COLORS: Final = {"error": "red", "cancelled": "yellow"}


@app.command()
@one_line_errors
@narrowed
def tail(  # noqa: PLR0917 - Typer passes them all by name
    of_errors: Annotated[
        bool,
        typer.Option(
            "--errors",
            help="Error events instead of requests: those of attempts that failed, too.",
        ),
    ] = False,
    first: Annotated[
        int,
        typer.Option(
            "-n", min=0, max=AT_ONCE, metavar="N", help="Begin with so many that are there already."
        ),
    ] = 10,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Of these, not what came in before.")
    ] = _SINCE,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each as one line of JSON, with all but bodies.")
    ] = False,
    *,
    filters: Filters,
) -> None:
    """Follow requests as they are committed to the database, one line each.

    Ctrl-C ends it, with exit code 0. A database that is away is waited for. The id is the beginning
    of the request's, long enough for spoolway show; times are in UTC.

    Examples:

        spoolway tail

        spoolway tail --outcome error --model gpt-4o

        spoolway tail --errors -n 50 --since 24h

        spoolway tail --json --user alice | jq -c '{model_name, total_tokens, cost}'
    """
    settings = reading_settings(database_url=database_url, dir=folder)
    with said_in_one_line():
        begin = moment("--since", since, now=datetime.now(UTC))
    if of_errors and filters != Filters(model=filters.model):
        raise UsageError(
            "an error event has a model and no other of these: give --errors with --model alone, or "
            "leave it out and give --outcome error"
        )

    async def main() -> None:
        async with opened(settings) as database:
            await _follow(database, filters, begin, first, of_errors=of_errors, as_json=as_json)

    run_until_signal(main)


async def _follow(
    database: ReadDatabase,
    filters: Filters,
    since: datetime,
    first: int,
    *,
    of_errors: bool,
    as_json: bool,
) -> None:
    follower = Follower(
        _recent(database, filters, of_errors=of_errors, as_json=as_json),
        since=since,
        first=first,
        say=say,
    )
    if not as_json and sys.stdout.isatty():
        typer.echo(head(_width(), of_errors=of_errors))
    async with aclosing(follower.rows()) as found:
        async for rows in found:
            why = {} if of_errors else await _why(database, rows)
            for row in rows:
                if as_json:
                    print_json(row if of_errors else {**row, "why": why.get(row["id"])})
                else:
                    _print(row, why.get(row["id"]), of_errors=of_errors)
            if _nobody_reads():
                return


def _recent(database: ReadDatabase, filters: Filters, *, of_errors: bool, as_json: bool) -> Recent:
    if of_errors:
        errors, of_model = Errors(database, fragments=as_json), ErrorQuery(model=filters.model)
        return lambda since, limit: errors.recent(of_model, since=since, limit=limit)
    logs, query = Logs(database), LogQuery(filters=filters)
    return lambda since, limit: logs.recent(query, since=since, limit=limit)


async def _why(database: ReadDatabase, rows: list[Row]) -> dict[str, str]:
    """Return why those of the requests that failed did; nothing while the database is away."""
    failed = [UUID(row["id"]) for row in rows if row["outcome"] == "error"]
    try:
        found = await reasons(database, failed)
    except (Unavailable, TooSlow):
        return {}  # the next question says so
    return {str(one): why for one, why in found.items()}


def _print(row: Row, why: str | None, *, of_errors: bool) -> None:
    width = _width()
    line = error_line(row, width) if of_errors else request_line(row, why, width)
    color = None if of_errors or os.environ.get("NO_COLOR") else _COLORS.get(row["outcome"])
    typer.secho(line, fg=color)  # without a terminal there are no colors


def _width() -> int | None:
    """Return how many cells a line of the terminal has; None without a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _nobody_reads() -> bool:
    """Tell whether stdout is a pipe that was closed: without rows nothing would be written to it."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False  # no file at all: in a test, or a system without poll
