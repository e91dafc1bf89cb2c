"""Passwords on the command line: every user of the machine reads them in the list of processes."""

import re
from typing import Final

import typer

_PASSWORD: Final = re.compile(r"://[^/@]*:[^@]+@|[?&]\w*password=[^&]", re.ASCII)


def warn_of_password(option: typer.CallbackParam, url: str | None) -> str | None:
    """Warn on stderr of a URL that was given with its password in it; return the URL as it is."""
    if url is not None and _PASSWORD.search(url):
        typer.echo(
            f"spoolway: warning: whoever runs ps on this machine sees the password in "
            f"{option.opts[0]}: give it by the environment or a file",
            err=True,
        )
    return url
