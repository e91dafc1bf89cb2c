"""The `spoolway` command: one file per subcommand."""

import sys


def main() -> None:
    """Run the command; a mistake of the operator is one line on stderr and exit code 2."""
    try:
        from spoolway.worker.cli import db, health, up, worker  # noqa: F401 - each adds itself
        from spoolway.worker.cli.app import app
    except ModuleNotFoundError as error:
        # pip install spoolway is the proxy's side: it has the command, not what it needs.
        print(  # noqa: T201 - there is no typer to say it with
            f"spoolway: {error.name} is not installed: the command line is part of the worker, "
            "install it with pip install 'spoolway[worker]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    app()
