"""Which consumer this worker is: a name that its successor on this machine takes over at once.

A worker that was killed leaves entries pending for its consumer. Its successor gets the same name,
reads them first and waits for nothing. The slot is a locked file: the kernel frees the lock when
the process ends, however it ends.
"""

import fcntl
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spoolway.spool import Disk
from spoolway.worker.config import UsageError

_MOST_WORKERS: Final = 256


@dataclass(slots=True, frozen=True)
class Slot:
    """A locked slot in the folder of this machine's workers; held until `release`."""

    number: int
    _descriptor: int

    def release(self) -> None:
        """Let another worker have the slot."""
        os.close(self._descriptor)

    def consumer(self, configured: str) -> str:
        """Return the consumer's name: as configured, or this host and slot."""
        return configured or f"{socket.gethostname()}-{self.number}"


def make_folder(folder: Path) -> None:
    """Create the folder for state, for this user alone.

    One that is there keeps its mode, because it may hold what is not ours; what Spoolway makes in it
    is closed to others in any case.

    Raises:
        UsageError: it is not writable, or it is for everybody: who can rename what is in it can put
            links and other files there.
    """
    try:
        if not folder.is_dir():
            Disk().make_folder(folder)
        if folder.stat().st_mode & stat.S_IWOTH:
            raise UsageError(
                f"{folder.absolute()} is writable for every user of this machine: close it "
                f"(chmod o-w {folder.absolute()}), or name a folder in it with --dir or SPOOLWAY_DIR"
            )
        owner = folder.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            raise UsageError(
                f"{folder.absolute()} belongs to user {owner}, who could not use what root writes "
                f"there: run this as that user (sudo -u '#{owner}' spoolway ...)"
            )
        probe = folder / f".writable-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"{folder.absolute()} is not writable ({error.strerror}): make it writable for this "
            "user, or name another folder with --dir or SPOOLWAY_DIR"
        ) from None


def take_slot(folder: Path) -> Slot:
    """Lock the first free slot: worker-0.lock, worker-1.lock, … Raises UsageError."""
    for number in range(_MOST_WORKERS):
        file = _lock_file(folder, number)
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except PermissionError:
            raise UsageError(
                f"{file.absolute()} belongs to another user: run this as the user of "
                f"{folder.absolute()}, and give that one its files back (chown)"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return Slot(number, descriptor)
    raise UsageError(f"{_MOST_WORKERS} workers run in {folder} already")


def slots_taken(folder: Path) -> list[int]:
    """Return the slots of workers that are alive: a dead one's file stays, its lock does not."""
    taken = []
    for number in range(_MOST_WORKERS):
        try:
            descriptor = os.open(_lock_file(folder, number), os.O_RDONLY)
        except FileNotFoundError:
            break  # slots are taken in order, and their files are never removed
        try:
            # Shared: two that look at once do not see each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            taken.append(number)
        finally:
            os.close(descriptor)
    return taken


def _lock_file(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.lock"
