"""`spoolway serve`: the page and the HTTP API."""

import socket
from typing import Annotated

import typer

from spoolway.worker.cli.app import DatabaseUrl, Dir, RedisUrl, app, one_line_errors
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.config import Settings, load
from spoolway.worker.logs import configure_logging


@app.command()
@one_line_errors
def serve(
    *,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on.  [env: SPOOLWAY_API_HOST; default: 127.0.0.1]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port; 0 takes a free one.  [env: SPOOLWAY_API_PORT; default: 9465]",
            show_default=False,
        ),
    ] = None,
    inherited: Annotated[int | None, typer.Option(hidden=True)] = None,
    database_url: DatabaseUrl = None,
    redis_url: RedisUrl = None,
    folder: Dir = None,
) -> None:
    """Serve the page, and usage, logs and errors as JSON, until SIGTERM or Ctrl-C.

    It only reads: from SPOOLWAY_READ_DATABASE_URL if that is set, else from the workers' database.
    Without a token it listens on this machine alone. docs/serving.md has every address.

    Examples:

        spoolway serve

        SPOOLWAY_API_TOKEN=$(cat token) spoolway serve --host 0.0.0.0
    """
    settings = load(
        api_host=host, api_port=port, database_url=database_url, redis_url=redis_url, dir=folder
    )
    configure_logging(settings)
    run_until_signal(lambda: _serve(settings, inherited))


async def _serve(settings: Settings, inherited: int | None) -> None:
    from spoolway.worker.serve.listener import listen_for, shown_url
    from spoolway.worker.serve.server import ApiServer

    # `spoolway up` has opened the socket already, and said where it is.
    listener = listen_for(settings) if inherited is None else socket.socket(fileno=inherited)
    server = ApiServer(settings, listener)
    if inherited is None:
        typer.echo(f"page      {shown_url(listener)}")
        await server.warn_of_database()
    await server.run()
