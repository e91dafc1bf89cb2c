"""`spoolway worker`: drain the stream into the database."""

from spoolway.worker.cli.app import DatabaseUrl, Dir, RedisUrl, app, one_line_errors
from spoolway.worker.cli.run import run_until_signal
from spoolway.worker.config import load
from spoolway.worker.logs import configure_logging


@app.command()
@one_line_errors
def worker(
    database_url: DatabaseUrl = None, redis_url: RedisUrl = None, folder: Dir = None
) -> None:
    """Drain the stream into the database until SIGTERM or Ctrl-C.

    Run as many as you like on one stream. The same worker under arq's own command:
    arq spoolway.worker.settings.WorkerSettings

    Examples:

        spoolway worker

        DATABASE_URL=postgresql://me:secret@db/logs spoolway worker
    """
    settings = load(database_url=database_url, redis_url=redis_url, dir=folder)
    configure_logging(settings)
    from spoolway.worker.service import Service  # arq and the drivers: not for --help

    run_until_signal(Service(settings).run)
