"""`spoolway rollup`: are the roll-ups of usage what the rows say? And if not, make them so."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, Json, app, one_line_errors
from spoolway.worker.cli.bar import bar, say_what_is_logged
from spoolway.worker.cli.shown import print_json, printable
from spoolway.worker.cli.stopping import Stop, run_stoppable
from spoolway.worker.config import Settings, UsageError, load

if TYPE_CHECKING:
    from spoolway.worker.rollup.proving import Proved, Walk
    from spoolway.worker.rollup.rebuilding import Difference

rollup = typer.Typer(help="Check the roll-ups of usage, and make them anew.", no_args_is_help=True)
app.add_typer(rollup, name="rollup")

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="From then on: 2026-01-31, a time, or 7d ago.", show_default=False
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Until before then.", show_default=False)
]

_SHOWN: Final = 20
"""Differences that are printed for a person; --json has them all."""


@rollup.command()
@one_line_errors
def check(
    since: Since = None,
    until: Until = None,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Compare every number of the roll-ups with the rows. Exit 1 if any differs. Changes nothing.

    Whole UTC hours, each in one snapshot: safe beside workers. Hours before the day of the oldest
    row are not compared: retention has taken their rows.

    Examples:

        spoolway rollup check

        spoolway rollup check --since 7d --json
    """
    _run(load(database_url=database_url, dir=folder), since, until, rebuild=False, as_json=as_json)


@rollup.command()
@one_line_errors
def rebuild(
    since: Since = None,
    until: Until = None,
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    as_json: Json = False,
) -> None:
    """Make the roll-ups anew of the rows, where they differ.

    Needed once for rows that an older version of Spoolway has written. Hour by hour, beside workers;
    safe to interrupt and repeat. Hours before the day of the oldest row stay as they are.

    Examples:

        spoolway rollup rebuild

        spoolway rollup rebuild --since 2026-01-31 --until 2026-02-01
    """
    _run(load(database_url=database_url, dir=folder), since, until, rebuild=True, as_json=as_json)


def _run(
    settings: Settings, since: str | None, until: str | None, *, rebuild: bool, as_json: bool
) -> None:
    bounds = _hour(since, "--since"), _hour(until, "--until", is_end=True)
    say_what_is_logged()
    raise typer.Exit(
        run_stoppable(lambda stop: _prove(settings, stop, bounds, rebuild=rebuild, as_json=as_json))
    )


def _hour(text: str | None, option: str, *, is_end: bool = False) -> datetime | None:
    """Return the whole hour that an option names: a since is rounded down, an until up."""
    from spoolway.worker.reading.failures import BadQuery
    from spoolway.worker.reading.period import moment

    if text is None:
        return None
    try:
        found = moment(option, text, now=datetime.now(UTC), is_end=is_end)
    except BadQuery as error:
        raise UsageError(str(error)) from None
    whole = found.replace(minute=0, second=0, microsecond=0)
    return whole + timedelta(hours=1) if is_end and whole < found else whole


async def _prove(
    settings: Settings,
    stop: Stop,
    bounds: tuple[datetime | None, datetime | None],
    *,
    rebuild: bool,
    as_json: bool,
) -> int:
    from spoolway.worker.destinations import opened_database
    from spoolway.worker.plan import Halt
    from spoolway.worker.retention import keep_of
    from spoolway.worker.rollup.proving import Proved, proved, walk
    from spoolway.worker.rollup.rebuilding import Kept
    from spoolway.worker.stores import StoreError
    from spoolway.worker.stores.partitions import utc_today
    from spoolway.worker.stores.retaining import Cuts

    # Those of tomorrow: this may run past midnight, and retention beside it.
    cuts = Cuts.of(keep_of(settings), utc_today() + timedelta(days=1))
    kept = Kept(_midnight(cuts.requests), _midnight(cuts.errors))
    done, walked, stopped = Proved(), None, None
    try:
        store = await stop.before_stop(opened_database(settings))
    except Halt as error:
        stopped = str(error)
    else:
        try:
            its = await store.rollup()
            walked = await walk(its, *bounds, kept)
            if walked is not None:
                with bar("rebuilding" if rebuild else "comparing", walked.hours, "hours") as passed:
                    async for done in proved(
                        its, walked, rebuild=rebuild, is_stopped=lambda: stop.signal is not None
                    ):
                        passed(0 if done.days else 1)
        except StoreError as error:
            stopped = str(error)
        finally:
            await store.close()
    if stop.signal is not None:
        stopped = "interrupted before the end"
    if as_json:
        print_json(_as_json(done, walked, stopped))
    else:
        _print(done, walked, stopped, rebuild=rebuild)
    if stop.signal is not None:
        return stop.exit_code
    return 1 if stopped or done.differences else 0


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def _as_json(done: "Proved", walked: "Walk | None", stopped: str | None) -> dict[str, Any]:
    return {
        "start": walked and _text(walked.start),
        "end": walked and _text(walked.end),
        "hours": done.hours,
        "days": done.days,
        "hours_without_rows": walked.left_alone if walked else 0,
        "rebuilt": done.changed,
        "differences": [
            {
                "table": one.table,
                "period": _text(one.period),
                "dimensions": one.dimensions,
                "measures": {
                    name: {"is": there, "rows": right}
                    for name, (there, right) in one.measures.items()
                },
            }
            for one in done.differences
        ],
        "stopped": stopped,
    }


def _print(done: "Proved", walked: "Walk | None", stopped: str | None, *, rebuild: bool) -> None:
    if walked is None:
        typer.echo("there are no rows" if stopped is None else f"stopped: {printable(stopped)}")
        return
    for one in done.differences[:_SHOWN]:
        typer.echo(_line(one))
    if len(done.differences) > _SHOWN:
        typer.echo(f"and {len(done.differences) - _SHOWN:,} more: --json has them all")
    looked = f"{done.hours:,} hours and {done.days:,} days from {_text(walked.start)}"
    if walked.left_alone:
        looked += f" ({walked.left_alone:,} hours before have no rows any more)"
    if stopped:
        typer.echo(f"{looked}\nstopped: {printable(stopped)}")
    elif rebuild:
        typer.echo(f"{looked}: {done.changed:,} made anew, the others were right")
    elif done.differences:
        typer.echo(
            f"{looked}: {len(done.differences):,} groups differ; mend: spoolway rollup rebuild"
        )
    else:
        typer.echo(f"{looked}: every number is what the rows say")


def _line(one: "Difference") -> str:
    group = ", ".join(
        f"{name}={value}" for name, value in one.dimensions.items() if value is not None
    )
    measures = ", ".join(
        f"{name} {there}, rows say {right}" for name, (there, right) in one.measures.items()
    )
    return printable(f"{one.table} {_text(one.period)} {group or '(no dimension)'}: {measures}")


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%MZ}"
