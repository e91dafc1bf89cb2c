"""Processes that a contestant starts: a worker, with its log, its CPU time and its memory."""

import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from tests.servers.local import GUARD

_STOP_SECONDS: Final = 15.0
_OURS: Final = ("SPOOLWAY_", "DATABASE_", "REDIS_")


class ChildFailed(Exception):
    """A contestant's process ended before its work was done. The message ends with its log."""


class Child:
    """A running process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, *, may_end: bool) -> None:
        self._process = process
        self._log = log
        self._may_end = may_end

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def must_run(self) -> None:
        """Raise ChildFailed if it has ended, or failed where it may end."""
        code = self._process.poll()
        if code or (code == 0 and not self._may_end):
            end = "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])
            raise ChildFailed(
                f"{self._log.stem} ended with code {self._process.returncode}:\n{end}"
            )

    def must_succeed(self) -> None:
        """Wait for its end, and raise ChildFailed if that is not with code 0."""
        self._process.wait(_STOP_SECONDS)
        self.must_run()

    def peak_rss(self) -> int:
        """Return the most memory it ever had resident, in bytes (now, where only now is known)."""
        status = Path(f"/proc/{self.pid}/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return int(psutil.Process(self.pid).memory_info().rss)

    def has_open(self, folder: Path) -> bool:
        """Tell whether it has a file in this folder open just now."""
        try:
            files = psutil.Process(self.pid).open_files()
        except psutil.NoSuchProcess:
            return False
        folder = folder.resolve()
        return any(Path(file.path).parent == folder for file in files)

    def pause(self) -> None:
        """Take the processor from it, until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run on where it was."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM; SIGKILL after a deadline."""
        if self._process.poll() is None:
            self.go_on()  # one that is paused hears nothing
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        GUARD.release(self.pid)


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    *,
    may_end: bool = False,
) -> Iterator[Child]:
    """Run a command until the block ends; it never outlives this process.

    `may_end` if it has an end of its own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **environment},
            cwd=Path(__file__).parent.parent,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then stops this
        )
    GUARD.watch(process.pid)
    child = Child(process, log, may_end=may_end)
    try:
        yield child
    finally:
        child.stop()


def spoolway(command: str, folder: Path, redis_url: str, database_url: str) -> list[str]:
    """Return `spoolway worker` or `replay`, as it is installed beside this interpreter."""
    return [
        str(Path(sysconfig.get_path("scripts")) / "spoolway"),
        *(command, "--dir", str(folder)),
        *("--redis-url", redis_url, "--database-url", database_url),
    ]


def python_module(name: str) -> list[str]:
    """Return the command that runs a module of this repository."""
    return [sys.executable, "-m", name]
