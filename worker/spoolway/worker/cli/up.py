"""`spoolway up`: everything for a single machine in one command."""

import asyncio
from typing import Annotated

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, app, one_line_errors
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.config import Settings, load, shown_url
from spoolway.worker.identity import make_folder
from spoolway.worker.logs import configure_logging


@app.command()
@one_line_errors
def up(
    database_url: DatabaseUrl = None,
    folder: Dir = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the embedded Valkey; 0 takes a free one.")
    ] = 6379,
) -> None:
    """Run an embedded Valkey and a worker until SIGTERM or Ctrl-C.

    Valkey listens on 127.0.0.1 with its append-only file on; the database is SQLite in --dir
    unless --database-url or DATABASE_URL names another.

    Examples:

        spoolway up

        spoolway up --dir /var/lib/spoolway --port 6380
    """
    settings = load(database_url=database_url, dir=folder)
    configure_logging(settings)
    make_folder(settings.dir)
    run_until_signal(lambda: _up(settings, port))


async def _up(settings: Settings, port: int) -> None:
    from spoolway.worker.embedded import embedded_valkey
    from spoolway.worker.service import Service  # arq and the drivers: not for --help

    async with embedded_valkey(settings.dir / "valkey", port) as valkey:
        typer.echo(f"Valkey    {valkey.url}")
        typer.echo(f"database  {shown_url(settings.database)}")
        typer.echo(f"producer  Producer({valkey.url!r})")
        service = Service(settings.model_copy(update={"redis_url": valkey.url}))
        try:
            # Neither ends by itself: without its Valkey the service has nothing to serve.
            async with asyncio.TaskGroup() as both:
                both.create_task(service.run(), name="spoolway-service")
                both.create_task(valkey.died(), name="spoolway-valkey")
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
