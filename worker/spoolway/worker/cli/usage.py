"""`spoolway usage`: what was used in a period, by whom, and what it cost."""

import shutil
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, app, one_line_errors
from spoolway.worker.cli.asking import ask, reading_settings, said_in_one_line
from spoolway.worker.cli.filtering import narrowed
from spoolway.worker.cli.shown import print_json
from spoolway.worker.cli.sparkline import steps_here
from spoolway.worker.cli.usage_text import breakdown_text, usage_text
from spoolway.worker.reading.breakdown import DEFAULT_LIMIT, MOST, ORDERS, breakdown
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.filters import COLUMNS, Filters
from spoolway.worker.reading.period import Period
from spoolway.worker.reading.usage import DEFAULT
from spoolway.worker.reading.usage import usage as usage_of

_WIDTH: Final = 120
"""Cells of a line where there is no terminal."""


@app.command()
@one_line_errors
@narrowed
def usage(  # noqa: PLR0917 - Typer passes them all by name
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="2026-01-31, 2026-01-31T23:00Z, Unix seconds, or how long ago: 90m, 24h, 7d.  "
            "[default: 24h]",
            show_default=False,
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Likewise.  [default: now]", show_default=False),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help=f"One of {', '.join(COLUMNS)}.")
    ] = "model",
    order: Annotated[
        str, typer.Option("--order", metavar="WHAT", help=f"The most {', '.join(ORDERS)} first.")
    ] = "requests",
    limit: Annotated[
        int, typer.Option("-n", min=1, max=MOST, metavar="N", help="Lines of the table.")
    ] = DEFAULT_LIMIT,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
    *,
    filters: Filters,
) -> None:
    """Show requests, errors, tokens, cost, CO2 and latency of a period, by model or by another.

    Whole UTC hours are counted: the first line says which. A trend is from zero to the most of its
    line. --json prints what /api/usage answers as historical, and as breakdown what /api/usage/by
    does.

    Examples:

        spoolway usage

        spoolway usage --from 7d --by user --order cost

        spoolway usage --from 2026-01-01 --to 2026-01-31 --organization acme --by project

        spoolway usage --model gpt-4o --json | jq .percentiles
    """
    settings = reading_settings(database_url=database_url, dir=folder)
    with said_in_one_line():
        period = Period.of(start, end, now=datetime.now(UTC), default=DEFAULT)

    async def found(database: ReadDatabase) -> tuple[dict[str, Any], dict[str, Any]]:
        table = await breakdown(database, by, filters, period, order=order, limit=limit)
        return await usage_of(database, filters, period), table

    totals, table = ask(settings, found)
    if as_json:
        print_json({**totals, "breakdown": table})
        return
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    for line in usage_text(totals, steps_here(), width):
        typer.echo(line)
    typer.echo()
    for line in breakdown_text(table, totals["percentiles"]["duration_ms"]):
        typer.echo(line)
