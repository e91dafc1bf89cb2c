"""A process that must not outlive the one which has started it."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from spoolway.spool.disk import FOLDER_MODE

_PR_SET_PDEATHSIG: Final = 1


def as_own_child() -> Callable[[], None]:
    """Return what the new process does before it becomes its program: a `preexec_fn`."""
    # Loaded here: after the fork there is no time for more than two calls.
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        os.umask(0o777 & ~FOLDER_MODE)  # for files that it makes by itself
        if libc is not None:
            # SIGKILL of its parent ends it in order, too: the next one finds port and files free.
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return prepare


async def stop(process: asyncio.subprocess.Process, seconds: float) -> None:
    """SIGTERM lets it finish; SIGKILL after a deadline."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
