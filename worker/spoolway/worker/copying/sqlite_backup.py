"""An SQLite database as one file, taken while a worker writes; and such a file put back.

In WAL mode who reads one state for long keeps nobody from writing; so the pages are copied from
within one read transaction, and the copy does not begin anew with each commit beside it.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

from spoolway.migrations import VERSION_TABLE, history, newest
from spoolway.spool.disk import FILE_MODE, Disk
from spoolway.worker.config import UsageError
from spoolway.worker.copying.record import EVENT_OF

_PAGES: Final = 1000
"""Pages of 4 KiB per step: between two of them the progress is told, and Ctrl-C is heard."""
_BUSY: Final = 10.0
_BESIDE: Final = ("-wal", "-shm", "-journal")


@dataclass(slots=True)
class Backup:
    """What is in a backup that was checked."""

    revision: str | None
    rows: dict[str, int]
    bytes: int


def back_up(
    source: Path, target: Path, *, overwrite: bool, progressed: Callable[[int], None]
) -> Backup:
    """Copy a database into a file of its own, check it, and give it its name when it is whole.

    Raises:
        UsageError: there is a file of that name, or the copy is not good.
        OSError, sqlite3.Error: it could not be read or written.
    """
    if target.exists():
        if target.samefile(source):
            raise UsageError(f"{target} is the database itself")
        if not overwrite:
            raise UsageError(f"{target} exists: give another name, or --force to replace it")
    temporary = _new_file_beside(target)
    try:
        rows = _copy_pages(source, temporary, progressed)
        checked = check_file(temporary)
        if checked.rows != rows:
            raise UsageError(f"the copy has {checked.rows}, the database {rows}: nothing is kept")
        _put_in_place(temporary, target)
    finally:
        _remove(temporary)
    return checked


def _copy_pages(source: Path, target: Path, progressed: Callable[[int], None]) -> dict[str, int]:
    """Copy what the database is now; return how many rows that is."""
    with closing(_opened(source, "ro")) as database, closing(_opened(target, "rw")) as copy:
        database.execute("BEGIN")
        rows = _rows(database)  # the first read: from here on it is this state
        done = 0

        def told(_status: int, remaining: int, total: int) -> None:
            nonlocal done
            progressed(total - remaining - done)
            done = total - remaining

        database.backup(copy, pages=_PAGES, progress=told, sleep=0.0)
        # One file that needs no other: a WAL database cannot be read from a read-only place.
        copy.execute("PRAGMA journal_mode=DELETE")
    return rows


def check_file(path: Path) -> Backup:
    """Check a file from its first page to its last, and whose tables it has.

    Raises:
        UsageError: it is damaged, no database, or none of this version's.
    """
    try:
        with closing(_opened(path, "ro")) as database:
            [(found,), *more] = database.execute("PRAGMA integrity_check(1)").fetchall()
            if found != "ok":
                raise UsageError(f"{path} is damaged: {found}{' ...' if more else ''}")
            rows = _rows(database)
            [(revision,)] = database.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608 - our own name
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path} has no tables of Spoolway, or cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        raise UsageError(f"{path} is no SQLite database, or damaged: {error}") from None
    if revision not in {step.revision for step in history()}:
        raise UsageError(
            f"{path} is of revision {revision}, and this version knows up to {newest()}: use the "
            "spoolway that it was made with, or a newer one"
        )
    return Backup(revision, rows, path.stat().st_size)


def restore(backup: Path, target: Path) -> tuple[Backup, Path | None]:
    """Put a backup in a database's place; return what it was, and where the old one is kept.

    Raises:
        UsageError: the backup is not good, or somebody uses the database.
        OSError, sqlite3.Error: it could not be read or written.
    """
    checked = check_file(backup)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _new_file_beside(target)
    try:
        # By SQLite, page by page: of a file that somebody has copied, a part may be in its -wal.
        _copy_pages(backup, temporary, lambda _pages: None)
        with _nobody_uses(target):
            aside = _set_aside(target)
            _put_in_place(temporary, target)
    finally:
        _remove(temporary)
    return checked, aside


@contextmanager
def _nobody_uses(path: Path) -> Iterator[None]:
    """Hold the file so that nobody else has it open, and all of it is in the one file.

    A connection to a WAL database has a shared lock as long as it is open, worker or not.
    """
    if not path.exists():
        yield
        return
    with closing(_opened(path, "rw", timeout=0.5)) as database:
        try:
            database.execute("PRAGMA locking_mode=EXCLUSIVE")
            database.execute("PRAGMA journal_mode=DELETE").fetchall()
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"{path} is in use ({error}): stop the workers and whatever else has it open"
            ) from None
        except sqlite3.DatabaseError:
            pass  # damaged, which is why another one is put in its place
        yield


def _set_aside(target: Path) -> Path | None:
    """Give the database another name, beside its own until the backup takes that one."""
    aside = target.with_name(f"{target.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
    # Of a damaged one, or one that was removed without them: SQLite would write what is in them
    # into the backup. Else all of it is in the file by now.
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{target}{suffix}").rename(f"{aside}{suffix}")
    if not target.exists():
        return None
    try:
        os.link(target, aside)
    except OSError:  # a file system without links: for a moment there is none of that name
        target.rename(aside)
    return aside


def _new_file_beside(target: Path) -> Path:
    path = target.with_name(f".{target.name}.{os.urandom(4).hex()}.tmp")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE))
    return path


def _put_in_place(temporary: Path, target: Path) -> None:
    """Sync, take the name in one step, and sync the folder: a crash leaves the one or the other."""
    disk = Disk()
    descriptor = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.rename(temporary, target)
    disk.sync_folder(target.parent)


def _remove(temporary: Path) -> None:
    for suffix in ("", *_BESIDE):
        Path(f"{temporary}{suffix}").unlink(missing_ok=True)


def _opened(path: Path, mode: str, *, timeout: float = _BUSY) -> sqlite3.Connection:
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)


def _rows(database: sqlite3.Connection) -> dict[str, int]:
    return {
        table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own name
        for table in EVENT_OF
    }
