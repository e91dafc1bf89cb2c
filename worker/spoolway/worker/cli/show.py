"""`spoolway show`: everything that is known of one request, or of one error."""

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, app, one_line_errors
from spoolway.worker.cli.asking import ask, reading_settings
from spoolway.worker.cli.show_text import Line, error_text, request_text
from spoolway.worker.cli.shown import print_json, say
from spoolway.worker.config import UsageError
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.logs import Logs
from spoolway.worker.reading.lookup import MOST, Match, look_up, one_error


@app.command()
@one_line_errors
def show(
    event_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Id of a request or an error, its beginning, or a request_id."
        ),
    ],
    full: Annotated[
        bool, typer.Option("--full", help="All of every message, and the JSON they are from.")
    ] = False,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Print one request: what is known, why it failed, its attempts, and what was said.

    Or one error. Exit 1 if there is none with this id. 8 digits of an id are enough where they are
    of one event alone; a request_id has no index, so finding one may take a while. --json prints
    all columns as they are stored, and with a request its error_logs.

    Examples:

        spoolway show 01a200e6-c7e7-7378

        spoolway show req_8f14e45f --full | less

        spoolway show 01a200e6-c7e7-7378-b4a6-c6965c308957 --json | jq .error_logs
    """
    settings = reading_settings(database_url=database_url, dir=folder)

    async def found(database: ReadDatabase) -> tuple[Match, dict[str, Any]] | list[Match]:
        matches = await look_up(database, event_id)
        if len(matches) != 1:
            return matches
        [match] = matches
        row = (
            await Logs(database, fragments=as_json).one(match.id)
            if match.kind == "request"
            else await one_error(database, match.id, fragments=as_json)
        )
        return (match, row) if row is not None else []

    answer = ask(settings, found)
    if isinstance(answer, list):
        if answer:
            raise UsageError(_ambiguous(event_id, answer))
        say(f"there is no request or error {event_id!r}: spoolway tail lists what comes in")
        raise typer.Exit(1)
    match, row = answer
    if as_json:
        print_json(row)
    else:
        text = request_text if match.kind == "request" else error_text
        _print(text(row, full=full))


def _ambiguous(text: str, matches: list[Match]) -> str:
    ids = ", ".join(str(match.id) for match in matches)
    or_more = " or more" if len(matches) == MOST else ""
    return f"{text!r} is of {len(matches)}{or_more} {matches[0].kind}s: give one of {ids}"


def _print(lines: Iterable[Line]) -> None:
    is_plain = bool(os.environ.get("NO_COLOR"))
    for line in lines:
        if is_plain:
            typer.echo(line.text)
        else:  # without a terminal there are no colors
            typer.secho(line.text, bold=line.is_head, fg="red" if line.is_bad else None)
