"""The flags that commands have without asking for them: `--config`, and those of the database.

A command that reads settings says which by its own parameters; these come along with them.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from spoolway.worker.config import COMMAND_LINE

_CONFIG: Final = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="YAML file.  [env: SPOOLWAY_CONFIG]", show_default=False
    ),
]
# As text, so that what is wrong with one is said as of every other setting.
_POOL_SIZE: Final = Annotated[
    str | None,
    typer.Option(
        "--database-pool-size",
        metavar="N",
        help="Connections kept open.  [env: DATABASE_POOL_SIZE; default: 5]",
        show_default=False,
    ),
]
_MAX_OVERFLOW: Final = Annotated[
    str | None,
    typer.Option(
        "--database-max-overflow",
        metavar="N",
        help="Connections beyond these.  [env: DATABASE_MAX_OVERFLOW; default: 0]",
        show_default=False,
    ),
]
_ECHO: Final = Annotated[
    bool | None,
    typer.Option(
        "--database-echo/--no-database-echo",
        help="Log every SQL statement.  [env: DATABASE_ECHO]",
        show_default=False,
    ),
]
_OF_ALL: Final[dict[str, Any]] = {"config": _CONFIG}
_OF_A_DATABASE: Final[dict[str, Any]] = {
    "database_pool_size": _POOL_SIZE,
    "database_max_overflow": _MAX_OVERFLOW,
    "database_echo": _ECHO,
}


def flags_beside(
    command: Callable[..., Any], *, settings: tuple[Any, ...], database: Any
) -> dict[str, Any]:
    """Return the further flags of a command, by what it has: one of `settings`, `database`."""
    own = list(command.__annotations__.values())
    flags = _OF_ALL if any(one in own for one in settings) else {}
    return {**flags, **(_OF_A_DATABASE if database in own else {})}


def add_flags(run: Callable[..., Any], command: Callable[..., Any], flags: dict[str, Any]) -> None:
    """Let `run`, which wraps the command, have its parameters and these, for Typer to read."""
    signature = inspect.signature(command)
    further = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in flags.items()
    ]
    run.__annotations__ = {**command.__annotations__, **flags}
    run.__signature__ = signature.replace(  # type: ignore[attr-defined] # functions have it
        parameters=[*signature.parameters.values(), *further]
    )


@contextmanager
def given_flags(flags: dict[str, Any]) -> Iterator[None]:
    """Let `load` find what was given; the others are None."""
    token = COMMAND_LINE.set({name: value for name, value in flags.items() if value is not None})
    try:
        yield
    finally:
        COMMAND_LINE.reset(token)
