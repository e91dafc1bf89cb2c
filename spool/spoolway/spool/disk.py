"""The calls that durability rests on, in one place, so that a test can be the disk that fails."""

import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600


class Disk:
    """The real one. Every method raises OSError as the call under it does."""

    def make_folder(self, path: Path) -> None:
        """Make a folder for this user alone, if there is none, that a power cut does not take.

        Nor does it take a folder above it that is made for it: each has its name in the one above.
        All of them are closed to others, whatever the umask; so is one that is there and is ours.
        """
        if path.is_dir():
            _close_to_others(path)
            return
        missing = [path, *takewhile(lambda folder: not folder.is_dir(), path.parents)]
        for folder in reversed(missing):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
            self.sync_folder(folder.parent)

    def create(self, path: Path) -> int:
        """Make a new file to append to and to read; raises FileExistsError."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, FILE_MODE)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append; return how many bytes were taken."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Return when what was written survives a power cut."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def rename(self, path: Path, target: Path) -> None:
        """Give a file another name, in one step."""
        path.rename(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def sync_folder(self, path: Path) -> None:
        """Make names that came and went survive a power cut: fsync of a file keeps its bytes alone."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """Return the bytes that an unprivileged user can still write beside `path`."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


def _close_to_others(folder: Path) -> None:
    """Take away what a umask, a backup that was put back or a volume's driver has given to others."""
    status = folder.stat()
    if stat.S_IMODE(status.st_mode) & ~FOLDER_MODE and status.st_uid == os.geteuid():
        with suppress(OSError):  # a file system without modes: what it shows cannot be changed
            folder.chmod(FOLDER_MODE)


def write_all(disk: Disk, descriptor: int, data: bytes) -> None:
    """Append all of it; a disk that fills up takes the first half and then raises."""
    rest = memoryview(data)
    while rest:
        rest = rest[disk.write(descriptor, rest) :]


def is_same_file(descriptor: int, path: Path) -> bool:
    """Tell whether the path still leads to the open file: it may be renamed, removed, replaced."""
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def unlock(descriptor: int) -> None:
    """Close a locked file; a forked child that still has its copy does not keep it locked."""
    with suppress(OSError):  # a disk that is gone
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def create_locked(disk: Disk, folder: Path, new_name: Callable[[], str]) -> tuple[int, Path]:
    """Make a new file of the folder that nobody else can lock; return its descriptor and path.

    Between its making and its locking a reader may take it for what a killed process left behind,
    and remove it: then what is written to it would be nowhere, and another one is made.
    """
    while True:
        path = folder / new_name()
        try:
            descriptor = disk.create(path)
        except FileExistsError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_same_file(descriptor, path):
                return descriptor, path
        except BlockingIOError:
            pass
        except OSError:
            # A file system without locks: do not leave an empty file behind with each attempt.
            os.close(descriptor)
            with suppress(OSError):
                disk.remove(path)
            raise
        os.close(descriptor)
