"""The demo's processes: started with a log each, watched, and stopped in order.

Each has a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then
stops them one after the other.
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

ROOT: Final = Path(__file__).parent.parent
"""Where `python -m examples…` can be found."""
START_S: Final = 30.0
LOG_END_LINES: Final = 15
_POLL_S: Final = 0.02
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None

T = TypeVar("T")


class ChildFailed(Exception):
    """One of the processes ended by itself, or did not come up; the end of its log says why."""

    def __init__(self, what: str, child: "Child", *, usage: str | None = None) -> None:
        super().__init__(f"{child.name} {what}; the end of {child.log}:\n{child.log_end()}")
        self.usage = usage
        """What it says itself about how it was used wrongly, in one line."""


class Child:
    """One process."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, process: asyncio.subprocess.Process
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.pid = process.pid
        self.stopping = False
        self._process = process
        self._log_start = 0

    @classmethod
    async def start(
        cls, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> "Child":
        """Start it; what it prints is appended to `log`, for this user alone."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            log_start = os.fstat(descriptor).st_size
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=ROOT,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_end_with_the_demo,
            )
        finally:
            os.close(descriptor)
        child = cls(name, command, log, process)
        child._log_start = log_start
        return child

    async def until(self, check: Callable[[], T | None]) -> T:
        """Wait until `check` returns something, and return that.

        Raises:
            ChildFailed: it has ended, or takes longer than 30 s.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while True:
                    ended = self._process.returncode is not None
                    if found := check():
                        return found
                    if ended:
                        raise self._ended()
                    await asyncio.sleep(_POLL_S)
        raise ChildFailed(f"did not come up within {START_S:.0f} s", self)

    async def until_it_says(self, pattern: str) -> str:
        """Wait until its log matches, and return what the pattern's group matched."""
        found = await self.until(lambda: re.search(pattern, self.said()))
        return found[1]

    def said(self) -> str:
        """Return its log, of this run."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def log_end(self) -> str:
        """Return the last lines of its log, of this run."""
        lines = self.said().splitlines()[-LOG_END_LINES:]
        return "\n".join(f"  {line}" for line in lines or ["(nothing)"])

    async def until_it_ends(self) -> None:
        """Wait for the process. Raises ChildFailed when nobody has stopped it."""
        await self._process.wait()
        if not self.stopping:
            raise self._ended()

    async def stop(self, patience: float) -> None:
        """Ask it to stop (SIGTERM), and end it (SIGKILL) if it has not after `patience` seconds."""
        self.stopping = True
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(patience):
                await self._process.wait()
        except TimeoutError:
            print(f"{self.name} does not stop after {patience:.0f} s and is killed: see {self.log}")
            self._process.kill()
            await self._process.wait()

    def _ended(self) -> ChildFailed:
        code = self._process.returncode or 0
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        lines = self.said().splitlines()
        return ChildFailed(how, self, usage=lines[-1] if code == 2 and lines else None)


def _end_with_the_demo() -> None:
    """Have the kernel stop it when the demo is killed and cannot. Runs in the child; Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
