"""To the disk: events that Redis does not take go to segments of this machine's spool.

Every call but `hold` is the background thread's, or that of a thread that closes the producer; none
is made by `emit`. An event is settled under the same lock under which it was synced, so that it is
not spooled twice by a thread that closes in between.
"""

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from spoolway.producer.buffer import Buffer, Item
from spoolway.producer.rarely import Rarely
from spoolway.producer.returning import Returning
from spoolway.schema.caps import MIB
from spoolway.spool import DeadLetters, Disk, Limits, NotSpooled, SpoolFolder, SpoolWriter

_BATCH_BYTES: Final = 4 * MIB
_AGAIN_AFTER_S: Final = 1.0
"""Seconds until a disk that did not take a batch is tried again."""

_log = logging.getLogger("spoolway.producer")


class Spooling:
    """One process's way to the disk and back. Makes nothing before the background thread runs."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder: Final = folder / "spool"
        self.batch_bytes: Final = min(_BATCH_BYTES, max_bytes // 8 + 1)
        """What is worth a write and an fsync at once while Redis is away."""
        self._stems: set[str] = set()
        self._disk = _Noting(self._stems)
        self._writer = SpoolWriter(self.folder, Limits(max_bytes=max_bytes), disk=self._disk)
        self._lock = threading.Lock()
        self._not_before = float("-inf")
        self._rarely = Rarely(_log.warning)
        self.last_error: str | None = None
        """Why the disk did not take the last batch; None after one that it took."""
        self.returning: Final = Returning(
            SpoolFolder(self.folder),
            DeadLetters(folder / "dead"),
            seal=self._writer.seal,
            own=self._stems,
            lock=self._lock,
            rarely=self._rarely,
        )

    def check(self) -> None:
        """Say at the start, not in the first outage, that the folder cannot be written."""
        reason = None
        try:
            self._disk.make_folder(self.folder)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                reason = os.strerror(errno.EACCES)
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            self.last_error = (
                f"the spool in {self.folder} cannot be written ({reason}): make this folder "
                "writable for this user, or name another one"
            )
            self._rarely(
                "%s; without it, events are lost when Redis is away for long", self.last_error
            )

    @property
    def is_ready(self) -> bool:
        """Whether the disk is worth a try: it has not failed just now."""
        return time.monotonic() >= self._not_before

    def store(self, lines: Sequence[bytes], buffer: Buffer) -> bool:
        """Write and sync what was taken from the buffer; False if the disk did not take it."""
        with self._lock:
            if buffer.given_up:  # a thread that closes has just spooled it
                return True
            return self._store(lines, lambda: buffer.settle(spooled=len(lines)))

    def rescue(self, buffer: Buffer, seconds: float) -> None:
        """Write what is left in the buffer, from a thread that closes; the pusher may hang.

        Takes at most about `seconds`. Seals, so that another process may have the events at once.
        """
        deadline = time.monotonic() + seconds
        # The pusher may hang in the disk, or (a log handler that closes) be this very thread.
        if not self._lock.acquire(timeout=seconds):
            return
        try:
            left = buffer.give_up()
            left.reverse()
            while left and time.monotonic() < deadline:
                lines, size = self._next(left)
                if not self._store(lines, lambda: buffer.rescued(len(lines), size)):  # noqa: B023 - called in this round only
                    break
            self._writer.close()
        finally:
            self._lock.release()

    def _next(self, left: list[Item]) -> tuple[list[bytes], int]:
        """Take one write's worth of events off the end; return their lines and their bytes."""
        lines: list[bytes] = []
        size = 0
        while left and size < self.batch_bytes:
            item, _ = left.pop()
            lines += item.split(b"\n")
            size += len(item)
        return lines, size

    def _store(self, lines: Sequence[bytes], settle: Callable[[], None]) -> bool:
        try:
            self._writer.append(lines)
        except NotSpooled as error:
            self._note_failure(str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a bug there is no reason to lose the thread
            _log.debug("while a batch was being spooled", exc_info=error)
            self._note_failure(f"a batch cannot be spooled ({type(error).__name__})")
            return False
        settle()
        self.last_error = None
        self.returning.expect_own()
        return True

    def _note_failure(self, message: str) -> None:
        self.last_error = message
        self._not_before = time.monotonic() + _AGAIN_AFTER_S
        self._rarely("%s. Events wait in memory; when that is full, new ones are dropped", message)

    def close(self) -> None:
        """Let others have what this process wrote and read. Called by the thread as it ends."""
        self.returning.close()
        with self._lock:
            self._writer.close()

    # Around a fork, which copies open files and with them their locks.

    def hold(self, seconds: float) -> bool:
        """Wait until no file is half made or half locked; then `let_go` is to be called."""
        return self._lock.acquire(timeout=seconds)

    def let_go(self) -> None:
        """Go on after `hold`."""
        self._lock.release()

    def forget(self) -> None:
        """Close the parent's files in a forked child: else it would keep their locks alive."""
        self._writer.forget()
        self.returning.forget()


class _Noting(Disk):
    """The disk, and which segments this process made on it."""

    def __init__(self, stems: set[str]) -> None:
        self._stems = stems

    def create(self, path: Path) -> int:
        """Make a new file, as Disk does."""
        self._stems.add(path.name.partition(".jsonl")[0])
        return super().create(path)
