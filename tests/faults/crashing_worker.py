"""A real command that kills itself at one named step: `crashing_worker.py STEP NTH -- spoolway worker`.

The product's and the drivers' own functions are wrapped in this process alone, and the process sends
itself SIGKILL: no handler, no `finally`, no flush runs. `at a moment` takes seconds instead of NTH,
counted from the first entries that are read.
"""

import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

import asyncpg

import spoolway.worker.service  # noqa: F401 - loaded before it is wrapped
from spoolway.spool import Disk
from spoolway.worker.cli import main
from spoolway.worker.stores import PostgresStore, sqlite_batch
from spoolway.worker.stream import Stream

Die = Callable[[], None]
_writing: ContextVar[bool] = ContextVar("writing", default=False)


def kill_self() -> None:
    """End as by the OOM killer, at this very instruction."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal may reach the process only after this thread has gone on


def at_nth(nth: int) -> Die:
    """Return what dies when it is called for the nth time."""
    calls = iter(range(1, nth + 1))

    def die() -> None:
        if next(calls, 0) == nth:
            kill_self()

    return die


def put(owner: Any, name: str, function: Any) -> None:
    """Replace a function of the product, in this process."""
    setattr(owner, name, function)


def wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[..., None] = lambda *_: None,
    after: Callable[..., None] = lambda *_: None,
) -> None:
    """Call `before(*args)` and `after(result, *args)` around a function, awaited if it is one."""
    original = getattr(owner, name)
    if inspect.iscoroutinefunction(original):

        @wraps(original)
        async def around(*args: Any, **kwargs: Any) -> Any:
            before(*args)
            result = await original(*args, **kwargs)
            after(result, *args)
            return result
    else:

        @wraps(original)
        def around(*args: Any, **kwargs: Any) -> Any:
            before(*args)
            result = original(*args, **kwargs)
            after(result, *args)
            return result

    put(owner, name, around)


def after_read(die: Die) -> None:
    """Entries were delivered to this consumer; nothing was done with them."""

    def if_any(read: Any, *_: Any) -> None:
        if read.entries:
            die()

    for name in ("read_new", "read_own", "claim_abandoned"):
        wrap(Stream, name, after=if_any)


def _around_commit(*, before: Die = lambda: None, after: Die = lambda: None) -> None:
    """Wrap COMMIT as it is sent; only that of a batch, not of what the start prepares."""
    write = PostgresStore.write

    async def writing(*args: Any) -> Any:
        token = _writing.set(True)
        try:
            return await write(*args)
        finally:
            _writing.reset(token)

    def commits(*args: Any) -> bool:
        return _writing.get() and len(args) > 1 and args[1] == "COMMIT"

    put(PostgresStore, "write", writing)
    _wrap_commit(asyncpg.Connection, commits, before, after)
    _wrap_sqlite_commit(before, after)


def _wrap_sqlite_commit(before: Die, after: Die) -> None:
    """Both calls are made in the connection's thread, one after the other."""
    commit = sqlite_batch.commit

    def committing(*args: Any) -> None:
        is_batch = _writing.get()
        _writing.set(False)
        if is_batch:
            before()
        commit(*args)
        if is_batch:
            after()

    def written(*_: Any) -> None:
        _writing.set(True)

    wrap(sqlite_batch.SqliteBatch, "write", after=written)
    put(sqlite_batch, "commit", committing)


def _wrap_commit(owner: Any, commits: Callable[..., bool], before: Die, after: Die) -> None:
    original = owner.execute

    async def execute(*args: Any, **kwargs: Any) -> Any:
        if not commits(*args):
            return await original(*args, **kwargs)
        before()
        result = await original(*args, **kwargs)
        after()
        return result

    put(owner, "execute", execute)


def before_commit(die: Die) -> None:
    """All rows of a batch were sent, none is committed."""
    _around_commit(before=die)


def after_commit(die: Die) -> None:
    """A batch is committed, and not acknowledged."""
    _around_commit(after=die)


def _in_folder(descriptor: int, folder: str) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").resolve().parent.name == folder


def _around_sync(folder: str, *, before: Die = lambda: None, after: Die = lambda: None) -> None:
    """Wrap the fsync of files in one folder: `spool` or `dead`."""
    wrap(
        Disk,
        "sync",
        before=lambda _, descriptor: before() if _in_folder(descriptor, folder) else None,
        after=lambda _, __, descriptor: after() if _in_folder(descriptor, folder) else None,
    )


def _in_the_middle_of_write(folder: str, die: Die) -> None:
    """Write the first half, then die: a torn tail."""
    original = Disk.write

    def write(disk: Disk, descriptor: int, data: bytes | memoryview) -> int:
        if _in_folder(descriptor, folder):
            original(disk, descriptor, data[: len(data) // 2])
            die()
            return len(data) // 2
        return original(disk, descriptor, data)

    put(Disk, "write", write)


def before_xack(die: Die) -> None:
    """Everything of a batch is safe, nothing is acknowledged."""
    wrap(Stream, "acknowledge", before=lambda *_: die())


def between_xack_and_xdel(die: Die) -> None:
    """Entries are acknowledged and still on the stream: the two are pipelined, not one command."""
    original = Stream.acknowledge

    async def acknowledge(stream: Stream, ids: Any) -> None:
        await stream._redis.xack(stream.name, stream.group, *ids)
        die()
        await original(stream, ids)

    put(Stream, "acknowledge", acknowledge)


def after_xdel(die: Die) -> None:
    """A batch is done."""
    wrap(Stream, "acknowledge", after=lambda *_: die())


def _around_removal(*, before: Die = lambda: None, after: Die = lambda: None) -> None:
    wrap(
        Disk,
        "remove",
        before=lambda _, path: before() if path.parent.name == "spool" else None,
        after=lambda _, __, path: after() if path.parent.name == "spool" else None,
    )


def at_a_moment(seconds: float) -> None:
    """Die so many seconds after the first entries were read, wherever that is."""
    armed = threading.Event()

    def arm() -> None:
        if not armed.is_set():
            armed.set()
            threading.Timer(seconds, kill_self).start()

    after_read(arm)


STEPS: dict[str, Callable[[Die], None]] = {
    "after read": after_read,
    "before COMMIT": before_commit,
    "after COMMIT": after_commit,
    "in the dead letters' write": lambda die: _in_the_middle_of_write("dead", die),
    "after the dead letters' fsync": lambda die: _around_sync("dead", after=die),
    "before XACK": before_xack,
    "between XACK and XDEL": between_xack_and_xdel,
    "after XDEL": after_xdel,
    "in the spool's write": lambda die: _in_the_middle_of_write("spool", die),
    "before the spool's fsync": lambda die: _around_sync("spool", before=die),
    "after the spool's fsync": lambda die: _around_sync("spool", after=die),
    "before the segment's removal": lambda die: _around_removal(before=die),
    "after the segment's removal": lambda die: _around_removal(after=die),
}

if __name__ == "__main__":
    _, step, number, _, *sys.argv = sys.argv
    if step == "at a moment":
        at_a_moment(float(number))
    else:
        STEPS[step](at_nth(int(number)))
    main()
