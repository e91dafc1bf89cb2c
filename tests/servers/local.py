"""One server process on this machine: starting, stopping, and the faults a test inflicts on it.

What Valkey and PostgreSQL share. The process is started directly, so its id is ours; it has its
own session, so a Ctrl-C in the terminal reaches the tests only; and it never outlives us (`guard`).
"""

import atexit
import errno
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.servers.account import Account
from tests.servers.guard import Guard
from tests.servers.ports import ReservedPort
from tests.servers.waiting import eventually

GUARD = Guard()

_PORT_ATTEMPTS = 5
_running: set["LocalServer"] = set()


class ServerFailedError(Exception):
    """A server did not start. The message ends with the end of its log."""


class LocalServer(ABC):
    """A server in a folder. It may be started, stopped and killed any number of times.

    Its port and its data stay the same over all of that. All methods block and may be called from
    any thread: from a coroutine use `asyncio.to_thread`, also for a server that another thread
    uses later.
    """

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self._fixed_port = port
        self._port: ReservedPort | None = None
        self._process: subprocess.Popen[bytes] | None = None

    # What a kind of server says about itself.

    @abstractmethod
    def _prepare(self) -> None:
        """Make what `_command` needs. Called before every start; must keep existing data."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command line that keeps the server in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Say whether this very process, not another one on its port, serves."""

    def _account(self) -> Account | None:
        return None

    def _environment(self) -> Mapping[str, str]:
        return os.environ

    # What its user does.

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1, known from before the first start."""
        if self._port is None:
            self._port = ReservedPort(self._fixed_port or 0)
        return self._port.number

    @property
    def pid(self) -> int:
        """The process id; raises RuntimeError when the server is not running."""
        if self._process is None or not self.running:
            raise RuntimeError(f"{self!r} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists, suspended or not."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, timeout: float = 30.0) -> None:
        """Start and return when it serves. Raises ServerFailedError with the end of its log."""
        if self.running:
            raise RuntimeError(f"{self!r} is already running")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._prepare()
        for _ in range(_PORT_ATTEMPTS - 1):
            try:
                return self._start(timeout)
            except ServerFailedError:
                # Only where a port cannot be held (see ReservedPort) or has not been ours alone.
                if self._fixed_port or os.strerror(errno.EADDRINUSE) not in self._log_end():
                    raise
                self._port = None
        return self._start(timeout)

    def _start(self, timeout: float) -> None:
        account = self._account()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [os.fspath(part) for part in self._command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=dict(self._environment()),
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self._process = process
        GUARD.watch(process.pid)
        _running.add(self)

        def ready() -> bool:
            if process.poll() is not None:
                raise ServerFailedError(
                    f"{self!r} ended with code {process.returncode}:\n{self._log_end()}"
                )
            return self._is_ready()

        try:
            eventually(ready, timeout=timeout, every=0.005, what=f"{self!r} serves")
        except AssertionError as error:
            self.kill()
            raise ServerFailedError(f"{error}:\n{self._log_end()}") from error
        except BaseException:  # KeyboardInterrupt too: no half-started server stays
            self.kill()
            raise

    def stop(self, *, timeout: float = 20.0) -> None:
        """SIGTERM, and SIGKILL after `timeout` seconds. Does nothing when it is not running."""
        self._stop(signal.SIGTERM, timeout)

    def _stop(self, signal_number: signal.Signals, timeout: float) -> None:
        if self._process is None or not self.running:
            self._ended()
            return
        self.resume()
        self._process.send_signal(signal_number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._ended()

    def kill(self) -> None:
        """SIGKILL it and all its children, as a crash or the OOM killer would, and reap it."""
        if self._process is None or not self.running:
            return
        children = self._freeze()
        for child in children:
            _unless_gone(child.kill)
        self._process.kill()
        self._process.wait()
        eventually(lambda: all(map(is_dead, children)), what="killed children to end")
        self._ended()

    def suspend(self) -> None:
        """SIGSTOP it and its children: it accepts connections and never answers (a hung server)."""
        for child in self._freeze():
            _unless_gone(child.suspend)

    def resume(self) -> None:
        """SIGCONT what `suspend` stopped. Does nothing when it is not suspended."""
        server = psutil.Process(self.pid)
        for child in server.children(recursive=True):
            _unless_gone(child.resume)
        server.resume()

    def _freeze(self) -> list[psutil.Process]:
        """Stop the main process, so that its children can be counted: it makes no new ones."""
        server = psutil.Process(self.pid)
        server.suspend()
        eventually(
            lambda: server.status() in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE},
            every=0.001,
            what=f"{self!r} to be stopped by SIGSTOP",
        )
        return server.children(recursive=True)

    def _ended(self) -> None:
        if self in _running and self._process is not None:
            GUARD.release(self._process.pid)
            _running.discard(self)

    def _log_end(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-30:])

    def __enter__(self) -> Self:
        """Start it, if it is not running."""
        if not self.running:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def __repr__(self) -> str:
        """Name it by its kind and folder."""
        return f"<{type(self).__name__} in {self.folder}>"


def is_dead(process: psutil.Process) -> bool:
    """Whether a process has ended. Who adopts an orphan may never reap it: a zombie is dead."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _unless_gone(action: Callable[[], None]) -> None:
    try:
        action()
    except psutil.NoSuchProcess:
        return


@atexit.register
def _stop_what_is_left(owner: int = os.getpid()) -> None:
    """Fixtures stop their servers; this is for those whose teardown never ran."""
    if os.getpid() == owner:  # a forked child must not take its parent's servers down
        for server in list(_running):
            server.stop(timeout=5)
        GUARD.close()
