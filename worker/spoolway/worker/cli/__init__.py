"""The `spoolway` command: one file per subcommand."""

import signal
import sys
from importlib import import_module
from itertools import chain
from typing import Final

_MODULES: Final[dict[str, tuple[str, ...]]] = {
    "clean": ("clean",),
    "config": ("config",),
    "db": ("db", "db_backup", "db_copy", "db_index"),
    "dead": ("dead", "dead_back"),
    "enrich": ("enrich",),
    "health": ("health",),
    "replay": ("replay",),
    "retention": ("retention",),
    "rollup": ("rollup",),
    "serve": ("serve",),
    "show": ("show",),
    "spool": ("spool",),
    "status": ("status",),
    "tail": ("tail",),
    "top": ("top",),
    "up": ("up",),
    "usage": ("usage",),
    "worker": ("worker",),
}
"""The modules of each command."""


def main() -> None:
    """Run the command; a mistake of the operator is one line on stderr and exit code 2."""
    # Ctrl-C while it is still being loaded: in the middle of an import Python would print a
    # traceback, or drop it. Nothing is begun yet, so the signal may simply end the process.
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        # Only what is asked for: `health` runs every few seconds, and needs no Alembic.
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        for module in _MODULES.get(command) or chain.from_iterable(_MODULES.values()):
            import_module(f"spoolway.worker.cli.{module}")  # which adds itself to the app
        from spoolway.worker.cli.app import app
    except ModuleNotFoundError as error:
        # pip install spoolway is the proxy's side: it has the command, not what it needs.
        print(  # noqa: T201 - there is no typer to say it with
            f"spoolway: {error.name} is not installed: the command line is part of the worker, "
            "install it with pip install 'spoolway[worker]'",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    finally:
        signal.signal(signal.SIGINT, before)
    app()
