"""The page of `spoolway up`: `spoolway serve` as a child, so that who looks does not hold up who records.

An export, or a question that takes long to put together, has a process, a loop and memory of its own.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Final, NoReturn

from spoolway.worker.own_child import as_own_child, stop

log = logging.getLogger("spoolway.serve")

_STOP_SECONDS: Final = 8.0
_AGAIN_SECONDS: Final = 5.0
_OF_THE_DATABASE: Final = ("DB_DRIVER", "DATABASE_PATH", "DATABASE_URL")
"""Names that may not say different things."""


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return this process's environment with what its flags say instead; None was not given.

    Not as flags: whoever runs ps would see the database's password.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    hidden = _OF_THE_DATABASE if "DATABASE_URL" in given else ()
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, **given}


async def serve_beside(listener: socket.socket, environment: Mapping[str, str]) -> NoReturn:
    """Serve on a socket that is open already, until this is cancelled.

    The child's end is logged, and it is started anew: recording goes on meanwhile.
    """
    while True:
        ended = await _serve_once(listener.fileno(), environment)
        log.error(
            "the page has ended (%s), and is started anew in %.0f s; events are recorded all the same",
            ended,
            _AGAIN_SECONDS,
        )
        await asyncio.sleep(_AGAIN_SECONDS)


async def _serve_once(number: int, environment: Mapping[str, str]) -> str:
    """Return how it ended."""
    try:
        # A session of its own: Ctrl-C goes to `spoolway up`, which ends this in its turn.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "spoolway.worker.cli", "serve", "--inherited", str(number)),
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(number,),
            preexec_fn=as_own_child(),
        )
    except OSError as error:
        return f"no process: {error.strerror}"
    try:
        return f"exit code {await child.wait()}"
    finally:
        await stop(child, _STOP_SECONDS)
