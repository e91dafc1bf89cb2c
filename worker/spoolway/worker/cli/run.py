"""How a long-running command runs its coroutine: on uvloop, until SIGTERM or Ctrl-C."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's loop, or None (asyncio's own) where there is no uvloop."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def run_until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` and cancel it at SIGTERM or SIGINT; both are a clean stop with exit code 0.

    A second signal does not cut the stop short: it has a deadline of its own.
    """

    async def supervised() -> None:
        task = asyncio.create_task(main(), name="spoolway-main")
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if not stopping:
                stopping = True
                task.cancel()

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop)
        try:
            await task
        except asyncio.CancelledError:
            if not stopping:
                raise

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(supervised())
