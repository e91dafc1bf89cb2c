"""The root of the command line: shared options, errors and exit codes.

Exit codes: 0 done, 1 something is left or failed, 2 wrong use (one line says what to do).
"""

import io
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from typing import Annotated, ParamSpec, TypeVar

import typer

from spoolway.worker.cli.flags import add_flags, flags_beside, given_flags
from spoolway.worker.cli.visible import warn_of_password
from spoolway.worker.config import UsageError
from spoolway.worker.logs import complain

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        callback=warn_of_password,
        help="PostgreSQL or SQLite URL.  [env: DATABASE_URL; default: spoolway.db in --dir]",
        show_default=False,
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        callback=warn_of_password,
        help="Redis or Valkey URL.  [env: REDIS_URL; default: redis://127.0.0.1:6379/0]",
        show_default=False,
    ),
]
Dir = Annotated[
    str | None,
    typer.Option(
        "--dir", help="Folder for state.  [env: SPOOLWAY_DIR; default: ./var]", show_default=False
    ),
]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="spoolway",
    help="Moves the request and error logs of an LLM proxy into your database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # markup would swallow [env: DATABASE_URL]
)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a UsageError into one line on stderr and exit code 2; Ctrl-C into exit code 130.

    A command with one of the options above also gets --config, with --database-url the pool's.
    """
    flags = flags_beside(command, settings=(DatabaseUrl, RedisUrl, Dir), database=DatabaseUrl)

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        beside = {name: kwargs.pop(name, None) for name in flags}
        try:
            with given_flags(beside):
                return command(*args, **kwargs)
        except UsageError as error:
            complain(str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    add_flags(run, command, flags)
    return run


def _print_version(value: bool) -> None:
    if value:
        typer.echo(version("spoolway"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Moves the request and error logs of an LLM proxy into your database."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding lacks is written as an escape, and ends no command.
        sys.stdout.reconfigure(errors="backslashreplace")
