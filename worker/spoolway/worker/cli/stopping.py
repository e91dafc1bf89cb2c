"""How a command that can be stopped half-way runs: the first signal ends it after the step in hand."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from spoolway.worker.cli.run import loop_factory
from spoolway.worker.plan import Halt

T = TypeVar("T")


class Stop:
    """Whether somebody wants it to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.event = asyncio.Event()

    @property
    def exit_code(self) -> int:
        """What a shell expects after the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)

    async def before_stop(self, step: Coroutine[Any, Any, T]) -> T:
        """Return what the step returns. Raises Halt if it is stopped before; then it is cancelled."""
        doing = asyncio.ensure_future(step)
        stopping = asyncio.ensure_future(self.event.wait())
        try:
            await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise Halt("interrupted before anything was replayed")
        finally:
            stopping.cancel()
            doing.cancel()
            await asyncio.gather(doing, stopping, return_exceptions=True)


def run_stoppable(main: Callable[[Stop], Coroutine[Any, Any, T]]) -> T:
    """Run `main`. SIGINT and SIGTERM ask it to stop; a second one cuts it off (KeyboardInterrupt)."""

    async def supervised() -> T:
        stop = Stop()
        task = asyncio.create_task(main(stop), name="spoolway-main")

        def stopped(signum: signal.Signals) -> None:
            if stop.signal is None:
                stop.signal = signum
                stop.event.set()
            else:
                task.cancel()

        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped, signum)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(supervised())
