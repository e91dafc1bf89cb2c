"""`spoolway top`: what goes in and out just now, and what stands where, again and again."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from spoolway.worker.cli.app import DatabaseUrl, Json, RedisUrl, app, one_line_errors
from spoolway.worker.cli.keys import ends_at_q
from spoolway.worker.cli.overview import Overview
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.cli.shown import print_json
from spoolway.worker.cli.sparkline import steps_here
from spoolway.worker.cli.top_screen import Line, screen
from spoolway.worker.config import Settings, load

_EVERY: Final = 1.0
_BETWEEN: Final = 2.5
"""Seconds between the two looks of a single sample: workers write their counts every 2 s."""


@app.command()
@one_line_errors
def top(  # noqa: PLR0917 - Typer passes them all by name
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--dir",
            help="State folder of workers or of a proxy; as often as you like.  "
            "[env: SPOOLWAY_DIR; default: ./var]",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one sample and end.")] = False,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval",
            min=0.1,
            max=3600.0,
            metavar="SECONDS",
            help="Between samples; with --json one line for each.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    redis_url: RedisUrl = None,
    database_url: DatabaseUrl = None,
    as_json: Json = False,
) -> None:
    """Watch throughput, lag, spool, dead letters, workers and the last minute's requests.

    q or Ctrl-C ends it. Without a terminal, with --once, or with --json and no --interval, it takes
    one sample of 2.5 s, prints it and ends. Entries are what producers push, each with many events;
    streams are counted for all workers, events for those whose status is in the folders given.

    Examples:

        spoolway top

        spoolway top --dir /var/lib/spoolway --dir /var/lib/proxy

        spoolway top --once

        spoolway top --json --interval 5 | jq -c .events_per_second
    """
    named: list[str | None] = [*folders] if folders else [None]
    # Whoever names a database by the flag means to read that one.
    common = {
        "redis_url": redis_url,
        "database_url": database_url,
        "read_database_url": database_url,
    }
    all_settings = [load(dir=folder, **common) for folder in named]
    paths = [one.dir for one in all_settings]
    is_live = not once and not as_json and _is_screen()
    is_repeated = as_json and interval is not None and not once

    async def main() -> None:
        if is_live:
            await _live(all_settings[0], paths, interval or _EVERY)
        elif is_repeated:
            await _lines(all_settings[0], paths, interval or _EVERY)
        else:
            await _sample(all_settings[0], paths, interval or _BETWEEN, as_json=as_json)

    run_until_signal(main)


def _is_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


async def _sample(
    settings: Settings, folders: Sequence[Path], seconds: float, *, as_json: bool
) -> None:
    """Look twice, for there to be rates; print what is seen then."""
    async with _overview(settings, folders) as overview:
        await overview.sample()
        await asyncio.sleep(seconds)
        shown = await overview.sample()
    if as_json:
        print_json(shown.as_json())
        return
    for line in screen(shown, settings, steps_here()):
        typer.echo(line.text)


async def _lines(settings: Settings, folders: Sequence[Path], seconds: float) -> None:
    async with _overview(settings, folders) as overview:
        await overview.sample()
        while True:
            await asyncio.sleep(seconds)
            print_json((await overview.sample()).as_json())


async def _live(settings: Settings, folders: Sequence[Path], seconds: float) -> None:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    console, steps = Console(highlight=False), steps_here()
    ended, resized = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    # Whatever a library logs would be in the middle of the screen; what is away is on it.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    async with _overview(settings, folders) as overview:
        lines = [Line("looking ...")]

        def drawn() -> Group:
            return Group(
                *(
                    Text(line.text, style=line.style, no_wrap=line.is_row, overflow="ellipsis")
                    for line in lines
                )
            )

        with (
            ends_at_q(ended) as read_keys,
            Live(
                console=console,
                screen=True,
                auto_refresh=False,
                get_renderable=drawn,
            ) as live,
        ):

            def suspended() -> None:
                live.stop()
                os.kill(os.getpid(), signal.SIGSTOP)
                read_keys()  # the shell had the terminal
                live.start()
                resized.set()

            loop.add_signal_handler(signal.SIGTSTP, suspended)
            loop.add_signal_handler(signal.SIGWINCH, resized.set)
            while not ended.is_set():
                lines = screen(await overview.sample(), settings, steps)
                live.refresh()
                next_at = loop.time() + seconds
                while await _happens(next_at, ended, resized) is resized:
                    resized.clear()
                    live.refresh()


async def _happens(until: float, *events: asyncio.Event) -> asyncio.Event | None:
    """Return which of the events is set first, None if the time comes before."""
    waiting = {asyncio.ensure_future(event.wait()): event for event in events}
    loop = asyncio.get_running_loop()
    try:
        done, _ = await asyncio.wait(
            waiting, timeout=max(0.0, until - loop.time()), return_when=asyncio.FIRST_COMPLETED
        )
        return next((waiting[task] for task in waiting if task in done), None)
    finally:
        for task in waiting:
            task.cancel()


@asynccontextmanager
async def _overview(settings: Settings, folders: Sequence[Path]) -> AsyncIterator[Overview]:
    overview = Overview(settings, folders)
    try:
        yield overview
    finally:
        await overview.close()
