"""`spoolway up`: everything for a single machine in one command."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, app, one_line_errors
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.config import COMMAND_LINE, Settings, load
from spoolway.worker.config import shown_url as shown_database
from spoolway.worker.identity import make_folder
from spoolway.worker.logs import configure_logging

if TYPE_CHECKING:
    from spoolway.worker.embedded import EmbeddedValkey
    from spoolway.worker.service import Service

_PAGE_SECONDS: Final = 1.0
"""How long the worker waits, at the stop, for the page's end: a download may take longer."""


@app.command()
@one_line_errors
def up(
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded Valkey; 0 takes a free one.")
    ] = 6379,
) -> None:
    """Run an embedded Valkey, a worker and the page until SIGTERM or Ctrl-C.

    Valkey listens on 127.0.0.1 with its append-only file on; the database is SQLite in --dir
    unless --database-url or DATABASE_URL names another. The page is what spoolway serve serves.

    Examples:

        spoolway up

        spoolway up --dir /var/lib/spoolway --port 6380
    """
    settings = load(database_url=database_url, dir=folder)
    configure_logging(settings)
    make_folder(settings.dir)
    flags = {
        "DATABASE_URL": database_url,
        "SPOOLWAY_DIR": folder,
        "SPOOLWAY_CONFIG": (COMMAND_LINE.get() or {}).get("config"),
    }
    run_until_signal(lambda: _up(settings, port, flags))


async def _up(settings: Settings, port: int, flags: dict[str, str | None]) -> None:
    from spoolway.worker.embedded import embedded_valkey
    from spoolway.worker.serve.beside import environment, serve_beside
    from spoolway.worker.serve.listener import listen_for, shown_url
    from spoolway.worker.service import Service  # arq and the drivers: not for --help

    with listen_for(settings) as listener:
        async with embedded_valkey(settings.dir / "valkey", port) as valkey:
            typer.echo(f"Valkey    {valkey.url}")
            typer.echo(f"database  {shown_database(settings.database)}")
            typer.echo(f"producer  Producer({valkey.url!r})")
            typer.echo(f"page      {shown_url(listener)}")
            given = environment({**flags, "REDIS_URL": valkey.url})
            service = Service(settings.model_copy(update={"redis_url": valkey.url}))
            page = asyncio.create_task(serve_beside(listener, given), name="spoolway-page")
            working = asyncio.create_task(_work(service, valkey), name="spoolway-work")
            try:
                await asyncio.shield(working)
            finally:
                # The page first: whoever closes a SQLite file last is the one that tidies it up.
                page.cancel()
                await asyncio.wait([page], timeout=_PAGE_SECONDS)
                working.cancel()
                await asyncio.wait([working, page])


async def _work(service: "Service", valkey: "EmbeddedValkey") -> None:
    """Neither ends by itself: without its Valkey the service has nothing to serve."""
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(service.run(), name="spoolway-service")
            both.create_task(valkey.died(), name="spoolway-valkey")
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
