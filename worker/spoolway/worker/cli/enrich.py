"""`spoolway enrich`: cost and footprint of rows that are stored already."""

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from sqlalchemy.exc import SQLAlchemyError

from spoolway import migrations
from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, app, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.shown import count, print_json, printable, table
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError, load
from spoolway.worker.connecting import explain

if TYPE_CHECKING:
    from spoolway.worker.enrichment import Enricher
    from spoolway.worker.enrichment.stored import Report

_NAMED: Final = 20
"""Models without a price that are named; of the rest the number."""


@app.command()
@one_line_errors
def enrich(
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="First row: 2026-01-31, 2026-01-31T23:59:59Z, Unix seconds, or how long ago: 24h, 30d.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be filled in.")
    ] = False,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Fill in cost and footprint of requests that are stored without.

    With the prices of each request's own day, as far as they are known. What is there already is
    never changed. Safe beside workers, and to interrupt and repeat: Ctrl-C ends it after the batch in
    hand, and says from when to go on. Usage is up to date by the workers' next roll-up. Exit 1 if it
    did not get to the end.

    Examples:

        spoolway enrich --since 30d --dry-run

        spoolway enrich --since 2026-01-01

        DATABASE_URL=postgresql://me@db/logs spoolway enrich --since 24h --json
    """
    settings = load(database_url=database_url, dir=folder)
    first = _moment(since)
    say_what_is_logged()
    raise typer.Exit(
        run_stoppable(lambda stop: _enrich(settings, first, stop, dry_run=dry_run, as_json=as_json))
    )


def _moment(text: str) -> datetime:
    from spoolway.worker.reading.failures import BadQuery
    from spoolway.worker.reading.period import moment

    try:
        return moment("--since", text, now=datetime.now(UTC))
    except BadQuery as error:
        raise UsageError(str(error)) from None


async def _enrich(
    settings: Settings, since: datetime, stop: Stop, *, dry_run: bool, as_json: bool
) -> int:
    """Fill in, print what, and return the exit code."""
    from spoolway.worker.enrichment.stored import Postponed, Report, opened_rows
    from spoolway.worker.stores import is_away

    enricher = _enricher(settings)
    # Ids may be ahead of this clock: the worker takes them.
    until = datetime.now(UTC) + timedelta(days=settings.id_future_days)
    report, began = Report(), time.monotonic()
    why: str | None = None
    try:
        async with opened_rows(settings) as rows:
            with bar("filling in", None, "rows") as progressed:
                await rows.fill(
                    enricher,
                    since,
                    until,
                    dry_run=dry_run,
                    stop=stop.event,
                    progressed=progressed,
                    report=report,
                )
    except Postponed:
        why = "a library does not answer"
    except migrations.MigrationError as error:
        raise UsageError(str(error)) from None
    except UsageError:
        raise
    except Exception as error:
        why = explain(error, settings.database)
        if why is None and not isinstance(error, SQLAlchemyError):
            raise
        why = why or f"the database failed ({type(error).__name__})"
        if report.reached is None and not is_away(error):
            raise UsageError(why) from None
    if why is None and not report.is_whole:
        why = "interrupted"
    seconds = time.monotonic() - began
    if as_json:
        print_json(_as_json(report, since, why, seconds, dry_run=dry_run))
    else:
        _print(report, why, seconds, dry_run=dry_run)
    if why is None:
        return 0
    return stop.exit_code if stop.signal is not None else 1


def _enricher(settings: Settings) -> "Enricher":
    from spoolway.worker.enrichment import Enricher
    from spoolway.worker.enrichment.aside import PATIENT

    enricher = Enricher.of(settings.model_copy(update={"enrich": True}), limits=PATIENT)
    if enricher is None:
        raise UsageError(
            "nothing says what a request costs: pip install 'spoolway[prices,footprint]', or give "
            "prices in the configuration file"
        )
    return enricher


def _next(report: "Report", why: str | None) -> str | None:
    if why is None or report.reached is None:
        return None
    return report.reached.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _as_json(
    report: "Report", since: datetime, why: str | None, seconds: float, *, dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "since": since.isoformat(),
        "rows": report.rows,
        "cost": report.cost,
        "footprint": report.footprint,
        "unpriced": [
            {"provider": provider, "model": model, "rows": rows}
            for (provider, model), rows in report.unknown.most_common()
        ],
        "stopped": why,
        "next_since": _next(report, why),
        "seconds": round(seconds, 3),
    }


def _print(report: "Report", why: str | None, seconds: float, *, dry_run: bool) -> None:
    would = "would be" if dry_run else "were"
    if report.reached is not None:
        typer.echo(
            f"{count(report.rows, 'row')} without cost or footprint in {seconds:.1f} s: "
            f"{report.cost:,} costs and {report.footprint:,} footprints {would} filled in"
        )
    if report.unknown:
        typer.echo("without a price: own ones go into the configuration file, see docs/cost.md")
        named = report.unknown.most_common(_NAMED)
        rows = [
            (printable(model or "-"), printable(provider or "-"), f"{number:,}")
            for (provider, model), number in named
        ]
        for line in table([("model", "provider", "rows"), *rows], right=(2,)):
            typer.echo(line)
        if (rest := len(report.unknown) - len(named)) > 0:
            typer.echo(f"and {count(rest, 'model')} more")
    if why is not None:
        on = f"; go on with --since {first}" if (first := _next(report, why)) else ""
        typer.echo(f"stopped: {printable(why)}{on}")
