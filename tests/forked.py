"""Processes of the command line that need not import it anew: forked from one that has.

To import a worker takes a process five times as long as all that a short test lets it do. What is
forked is a process like any other, with an id, an environment, an output and an exit code of its
own, and ends as Python ends; only it was not started by exec. That the installed command can be is
proved by those that `forks` leaves alone, and by `make chaos`, where none is forked.

Run as a script this is the process that forks; imported it is the tests' side.
"""

import atexit
import contextlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

_ROOT: Final = Path(__file__).parent.parent
_LAUNCHERS: Final = _ROOT / "tests" / "faults"
_COMMANDS: Final = ("worker", "replay")
_LOADED: Final = (
    *(f"spoolway.worker.cli.{command}" for command in _COMMANDS),
    "spoolway.worker.cli.app",
    "spoolway.worker.service",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "aiosqlite",
    "asyncpg",
    "uvloop",
)
_MAX_ORDER_BYTES: Final = 128 * 1024


def forks(command: Sequence[str]) -> bool:
    """Whether this is a command that may be forked here: a worker, a replay, or one that breaks."""
    if not hasattr(os, "pidfd_open") or os.environ.get("START_ANEW"):
        return False
    if command[0] == "spoolway":
        return command[1] in _COMMANDS
    return command[1] == "-P" and Path(command[2]).parent == _LAUNCHERS


class Forked:
    """A forked process: what `subprocess.Popen` is to one that was started by exec."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._told, telling = os.pipe()
        weakref.finalize(self, os.close, self._told)
        order = json.dumps({"command": self.args, "env": dict(env), "cwd": str(Path.cwd())})
        _FORKER.tell(order.encode(), [stdout, stderr, telling])
        os.close(telling)
        self.pid = self._next()

    def poll(self) -> int | None:
        """The exit code, or the signal as a negative number; None while it runs."""
        with self._lock:
            if self.returncode is None and _readable(self._told, 0):
                self.returncode = self._next()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises subprocess.TimeoutExpired after so many seconds."""
        end = time.monotonic() + timeout if timeout is not None else None
        while (code := self.poll()) is None:
            left = max(end - time.monotonic(), 0) if end is not None else None
            if timeout is not None and not left:
                raise subprocess.TimeoutExpired(self.args, timeout)
            _readable(self._told, left)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _next(self) -> int:
        told = os.read(self._told, 12)
        if not told:
            raise RuntimeError("the process that forks has ended")
        return int(told)


def _readable(descriptor: int, timeout: float | None) -> bool:
    return bool(select.select([descriptor], [], [], timeout)[0])


class _Forker:
    """The process that forks: one for each test process, made when the first one is asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def tell(self, order: bytes, descriptors: Sequence[int]) -> None:
        """Have one forked, with these three open: stdout, stderr, and where it is told what is."""
        with self._lock:
            if self._control is None:
                self._control = self._start()
            socket.send_fds(self._control, [order], descriptors)

    def _start(self) -> socket.socket:
        control, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            process = subprocess.Popen([sys.executable, "-P", __file__], stdin=its.fileno())

        def close() -> None:
            control.close()
            process.wait()

        atexit.register(close)
        return control


_FORKER: Final = _Forker()


# --- The process that forks -----------------------------------------------------


def _serve(control: socket.socket) -> dict[str, Any]:
    """Fork whatever is ordered. Returns in each fork, with its order; else never."""
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    pid, told = key.data
                    _, status = os.waitpid(pid, 0)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _tell(told, os.waitstatus_to_exitcode(status))
                    os.close(told)
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, _MAX_ORDER_BYTES, 3)
                if not message:
                    _end(selector)
                stdout, stderr, told = descriptors
                if (pid := os.fork()) == 0:
                    os.dup2(stdout, 1)
                    os.dup2(stderr, 2)
                    order: dict[str, Any] = json.loads(message)
                    return order
                os.close(stdout)
                os.close(stderr)
                _tell(told, pid)
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _tell(descriptor: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody asks any more
        os.write(descriptor, b"%12d" % number)  # always twelve bytes: two may wait together


def _end(selector: selectors.BaseSelector) -> NoReturn:
    """End with the tests, and what they left running with them."""
    for key in selector.get_map().values():
        if key.data is not None:
            os.kill(key.data[0], signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Load what the commands need, and be whatever is ordered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    for module in _LOADED:
        import_module(module)
    with socket.socket(fileno=os.dup(0)) as control:
        order = _serve(control)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # what belongs to the process that forks
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    command: list[str] = order["command"]
    if command[0] == "spoolway":
        sys.argv = command
        from spoolway.worker.cli import main as spoolway

        spoolway()
    else:  # python -P a launcher of tests/faults, and its arguments
        sys.argv = command[2:]
        runpy.run_path(command[2], run_name="__main__")


if __name__ == "__main__":
    main()
