"""A producer's half in one process: its buffer and the thread that empties it.

The thread starts with the first event and is a daemon: a proxy that ends does not wait for it,
except for the short moment that `close_all` takes at exit. A forked child inherits neither events
nor thread nor connection nor locks nor segments: they are the parent's, and the child gets new ones.
"""

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from spoolway.producer.buffer import Bounds, Buffer
from spoolway.producer.pusher import Pusher
from spoolway.producer.rarely import Rarely

if TYPE_CHECKING:
    from spoolway.producer.spooling import Spooling

EXIT_S: Final = 2.0
"""Seconds that a process waits at its exit for Redis to take what is left."""
DISK_S: Final = 5.0
"""Seconds that a thread that closes then takes for the disk, at most; mostly it is milliseconds."""
_FORK_S: Final = 1.0
"""Seconds that a fork waits for a file to be made, at most."""
THREAD_NAME: Final = "spoolway-producer"

_log = logging.getLogger("spoolway.producer")


class Background:
    """One buffer and its thread, in the process that made them."""

    def __init__(self, bounds: Bounds, make_pusher: Callable[[Buffer], Pusher]) -> None:
        self.buffer = Buffer(bounds)
        self.started = False
        self.pusher: Pusher | None = None
        """What pushes; None until the first event."""
        self._make_pusher = make_pusher
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()
        self._closing = threading.RLock()
        self._say_threadless = Rarely(_log.warning)

    def start(self) -> None:
        """Start the thread, if nobody has."""
        with self._starting:
            if self.started:
                return
            # First of all: a finalizer that emits may come here, on this thread, in the middle.
            self.started = True
            self.pusher = pusher = self._make_pusher(self.buffer)
            self._thread = threading.Thread(
                target=self._run, args=(pusher,), name=THREAD_NAME, daemon=True
            )
            _running.add(self)
            try:
                self._thread.start()
            except RuntimeError:  # no thread to be had: the next event tries again
                _running.discard(self)
                self.started, self._thread = False, None
                self._say_threadless("no thread can be started: events wait in the buffer")
                return
        _close_at_exit_of_child()

    def _run(self, pusher: Pusher) -> None:
        try:
            pusher.run()
        finally:
            _running.discard(self)

    def flush(self, timeout: float) -> bool:
        """Wait until Redis or the disk has what was accepted so far; False after `timeout` s."""
        if self._thread is threading.current_thread():  # a log handler of the proxy's, say
            timeout = 0
        return self.buffer.flush(timeout)

    def close(self, timeout: float) -> bool:
        """Stop intake, send or spool what is left, end the thread; False if events are lost by it."""
        deadline = time.monotonic() + timeout
        self.buffer.close()
        is_safe = self.flush(timeout)
        with self._closing:  # a second one that closes must not count as lost what is on its way
            if not is_safe and self.spooling is not None:
                # The thread may hang in a socket for longer: what it holds is spooled, too.
                self.spooling.rescue(self.buffer, DISK_S)
            self.buffer.give_up()
            before = self.buffer.counts().abandoned
            lost = self.buffer.abandon()
        if lost > before:
            _log.warning(
                "the producer closes and %d events are lost: %s",
                lost - before,
                (self.pusher and self.pusher.why_it_waits) or "Redis did not take them in time",
            )
        if self._thread not in (None, threading.current_thread()):
            self._thread.join(max(deadline - time.monotonic(), 0))
        return lost == 0

    @property
    def spooling(self) -> "Spooling | None":
        """The way to the disk; None without a folder, and before the first event."""
        return self.pusher.spooling if self.pusher else None


class Forkable(Protocol):
    """What has a Background, and must have a new one in a forked child."""

    def start_over(self) -> None:
        """Forget everything that is the parent's."""


_running: set[Background] = set()
_forkable: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew_in_forked_children(owner: Forkable) -> None:
    """Have `start_over` called in every child forked from now on."""
    _forkable.add(owner)


_held: "list[Spooling]" = []


def _before_fork() -> None:
    # Else the child might inherit, for as long as it lives, the lock of a file that is being made.
    for background in list(_running):
        if (spooling := background.spooling) and spooling.hold(_FORK_S):
            _held.append(spooling)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().let_go()


def _after_fork_in_child() -> None:
    _held.clear()
    for background in _running:
        if background.spooling:
            background.spooling.forget()
    _running.clear()
    for owner in list(_forkable):
        owner.start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


@atexit.register
def close_all() -> None:
    """Close what still runs. Daemon threads work until the functions of `atexit` have returned."""
    deadline = time.monotonic() + EXIT_S
    running = list(_running)
    for background in running:
        background.buffer.close()
    for background in running:
        background.close(max(deadline - time.monotonic(), 0))


def _close_at_exit_of_child() -> None:
    """Close in a process that multiprocessing forked too: it ends without calling `atexit`."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, close_all, exitpriority=0)
