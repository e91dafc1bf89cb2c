"""The flags that narrow down what is counted or shown: each as often as you like."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, Final

import typer

from spoolway.worker.cli.asking import said_in_one_line
from spoolway.worker.reading.filters import Filters


def _flag(name: str, what: str) -> Any:
    option = typer.Option(f"--{name}", metavar="NAME", help=what, show_default=False)
    return Annotated[list[str] | None, option]


def _dimension(name: str, what: str) -> Any:
    return _flag(name, f'Only {what}; "" is those without.')


_FLAGS: Final = {
    "model": _dimension("model", "of this model"),
    "provider": _dimension("provider", "of this provider"),
    "outcome": _flag("outcome", "Only success, error or cancelled."),
    "user": _dimension("user", "of this user"),
    "key": _dimension("key", "with this API key's name"),
    "organization": _dimension("organization", "of this organization"),
    "project": _dimension("project", "of this project"),
}


def narrowed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these flags, and what they say as its argument `filters`. Raises UsageError."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        given: dict[str, Any] = {name: tuple(kwargs.pop(name, None) or ()) for name in _FLAGS}
        with said_in_one_line():
            filters = Filters(**given)
        command(*args, filters=filters, **kwargs)

    signature = inspect.signature(command)
    own = [one for name, one in signature.parameters.items() if name != "filters"]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag)
        for name, flag in _FLAGS.items()
    ]
    run.__annotations__ = {**command.__annotations__, **_FLAGS}
    del run.__annotations__["filters"]
    run.__signature__ = signature.replace(  # type: ignore[attr-defined] # functions have it
        parameters=[*own, *flags]
    )
    return run
