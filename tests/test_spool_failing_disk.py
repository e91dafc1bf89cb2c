"""A disk that fails: after EIO at fsync a segment is never trusted, and its events are elsewhere."""

import errno
import fcntl
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spoolway.spool import Limits, NotSpooled, SpoolFolder, SpoolWriter
from tests.disks import Op, TestDisk, read_back

EVENTS = [b'{"n":%d}' % number for number in range(20)]
SMALL = Limits(min_free_bytes=0)


def failing(kind: str, times: int = 1) -> Callable[[int, str], int | None]:
    """Return what lets the next `times` calls of a kind fail."""
    left = [times]

    def fails(_number: int, called: str) -> int | None:
        if called != kind or not left[0]:
            return None
        left[0] -= 1
        return errno.EIO

    return fails


def test_a_segment_whose_fsync_failed_is_written_anew_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of it, what was synced before as well; the append returns, and an operator can read why."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    writer.append(EVENTS[:2])
    [failed] = writer.folder.segments()
    disk.fails = failing("sync")
    writer.append(EVENTS[2:4])
    writer.append(EVENTS[4:6])
    writer.close()

    assert disk.fired == ["sync"]
    assert not failed.path.exists()
    assert read_back(tmp_path).events == EVENTS[:6]
    assert [file.named_events for file in writer.folder.segments()] == [6]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "look at this disk" in record.getMessage()
    # It was synced again, or appended to? Never.
    synced = [op for op in disk.log if isinstance(op, Op) and op.kind == "sync"]
    [bad] = [op.file for op in synced if op.failed]
    after = disk.log[disk.log.index(next(op for op in synced if op.failed)) + 1 :]
    assert [op for op in after if isinstance(op, Op) and op.file == bad] == []


@pytest.mark.parametrize("synced_before", [0, 2])
def test_a_disk_that_syncs_nothing_takes_nothing(tmp_path: Path, synced_before: int) -> None:
    """NotSpooled each time; what was synced stays where it is, and no files pile up."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    if synced_before:
        writer.append(EVENTS[:synced_before])
    disk.fails = failing("sync", 10)
    for _ in range(5):
        with pytest.raises(NotSpooled, match=r"Input/output error.*look at this disk"):
            writer.append(EVENTS[10:])

    assert disk.fired == ["sync"] * 10
    assert read_back(tmp_path).events == EVENTS[:synced_before]
    assert len(list(tmp_path.iterdir())) == (1 if synced_before else 0)
    writer.append(EVENTS[synced_before:])
    writer.close()
    assert read_back(tmp_path).events == EVENTS


def test_a_segment_that_was_written_anew_and_cannot_be_removed_comes_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather twice than not at all: duplicates are recognised by their ids."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    writer.append(EVENTS[:2])
    sync, remove = failing("sync"), failing("remove")
    disk.fails = lambda number, kind: sync(number, kind) or remove(number, kind)
    writer.append(EVENTS[2:4])
    writer.close()

    assert disk.fired == ["sync", "remove"]
    assert set(read_back(tmp_path).events) == set(EVENTS[:4])
    assert "come again, as duplicates" in caplog.text


def test_a_segment_that_was_written_anew_is_as_old_as_it_was(tmp_path: Path) -> None:
    """It is sealed by the age of its first event, wherever that is now."""
    disk, clock = TestDisk(), [0.0]
    writer = SpoolWriter(tmp_path, SMALL, disk=disk, clock=lambda: clock[0])
    writer.append(EVENTS[:1])
    clock[0] = 59.0
    disk.fails = failing("sync")
    writer.append(EVENTS[1:2])
    clock[0] = 60.0
    writer.seal(older_than=60)

    assert disk.fired == ["sync"]
    assert [file.is_open for file in writer.folder.segments()] == [False]


def test_what_has_rotted_in_a_segment_that_is_written_anew_is_not_dropped(tmp_path: Path) -> None:
    """It is copied as it is, for its reader to set aside."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    writer.append(EVENTS[:2])
    [file] = tmp_path.iterdir()
    data = file.read_bytes()
    with file.open("r+b") as opened:
        opened.write(data.replace(b'"n":0', b'"n":7'))
    disk.fails = failing("sync")
    writer.append(EVENTS[2:4])
    writer.close()
    found = read_back(tmp_path)

    assert disk.fired == ["sync"]
    assert found.events == EVENTS[1:4]
    assert [b'"n":7' in damaged.raw for _, damaged in found.damaged] == [True]


def test_a_write_that_fails_is_tried_in_another_file(tmp_path: Path) -> None:
    """A bad block under this one's end need not be under the next one's beginning."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    writer.append(EVENTS[:2])
    disk.fails = failing("write")
    writer.append(EVENTS[2:4])
    writer.close()

    assert disk.fired == ["write"]
    assert [file.named_events for file in writer.folder.segments()] == [2, 2]
    found = read_back(tmp_path)
    assert (found.events, found.damaged, found.torn) == (EVENTS[:4], [], 0)


def test_a_reader_that_cannot_remove_a_segment_is_told(tmp_path: Path) -> None:
    """OSError, and others may have it: its events come again, and are recognised."""
    writer = SpoolWriter(tmp_path, SMALL)
    writer.append(EVENTS)
    writer.close()
    for kind in ("remove", "sync_folder"):
        disk = TestDisk(failing(kind))
        spool = SpoolFolder(tmp_path, disk=disk)
        [file] = spool.segments()
        segment = spool.take(file)
        assert segment is not None
        with pytest.raises(OSError, match="Input/output error"):
            segment.remove()
        assert disk.fired == [kind]
        assert len(spool.segments()) == (1 if kind == "remove" else 0)


def test_a_file_system_without_locks_is_not_filled_with_empty_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NotSpooled each time, with the reason; and it goes on when there are locks again."""
    writer = SpoolWriter(tmp_path / "spool", SMALL)
    flock = fcntl.flock
    refused = []

    def without(descriptor: int, operation: int) -> None:
        if operation & fcntl.LOCK_EX:
            refused.append(descriptor)
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(descriptor, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", without)
        for _ in range(3):
            with pytest.raises(NotSpooled, match="No locks available"):
                writer.append(EVENTS)
    assert len(refused) == 3
    assert list((tmp_path / "spool").iterdir()) == []
    writer.append(EVENTS)
    writer.close()
    assert read_back(tmp_path / "spool").events == EVENTS


def test_a_segment_that_cannot_be_reached_any_more_is_left_for_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk that was away (ESTALE): the old descriptor never works again."""
    writer = SpoolWriter(tmp_path, SMALL)
    writer.append(EVENTS[:2])
    fstat = os.fstat
    stale: list[int] = []

    def gone(descriptor: int) -> os.stat_result:
        if not stale:
            stale.append(descriptor)
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", gone)
    writer.append(EVENTS[2:4])
    writer.close()

    assert len(stale) == 1
    assert read_back(tmp_path).events == EVENTS[:4]
    assert len(writer.folder.segments()) == 2


def test_a_folder_that_cannot_be_made_is_not_spooled_to(tmp_path: Path) -> None:
    """A file in its place: the message names the folder, and when it is gone, all is well."""
    folder = tmp_path / "spool"
    folder.write_text("in the way")
    writer = SpoolWriter(folder, SMALL)
    with pytest.raises(NotSpooled, match=f"{folder} cannot be written"):
        writer.append(EVENTS)
    folder.unlink()
    writer.append(EVENTS)
    writer.close()

    assert read_back(folder).events == EVENTS


def test_a_folder_above_that_may_not_be_read_is_in_nobodys_way(tmp_path: Path) -> None:
    """It cannot be synced then; who made the spool's folder in it could."""
    disk = TestDisk(lambda number, _kind: errno.EACCES if number == 1 else None)
    writer = SpoolWriter(tmp_path, SMALL, disk=disk)
    writer.append(EVENTS)
    writer.close()

    assert disk.fired == ["sync_folder"]
    assert read_back(tmp_path).events == EVENTS


# --- A real process whose fsync fails -----------------------------------------------


FAILING_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The calls of fsync, of files and not of folders, that fail: "2,5," */
int fsync(int descriptor) {
    static int calls = 0;
    static int (*real)(int) = 0;
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    struct stat status;
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        char *next = getenv("FAILING_FSYNC");
        for (calls++; next && *next; next++)
            if (strtol(next, &next, 10) == calls) {
                (void)!write(2, "fsync failed\\n", 13);
                errno = EIO;
                return -1;
            }
    }
    return real(descriptor);
}
"""

WRITING = """
import sys
from pathlib import Path
from spoolway.spool import Limits, NotSpooled, SpoolWriter

writer = SpoolWriter(Path(sys.argv[1]), Limits(min_free_bytes=0, segment_bytes=400))
for batch in range(12):
    try:
        writer.append([b'"%d %d"' % (batch, n) for n in range(3)])
    except NotSpooled as error:
        print("no", batch, error)
    else:
        print("yes", batch)
"""


@pytest.fixture(scope="module")
def failing_fsync(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes chosen calls of fsync fail in the process that it is loaded into."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here; the same is tested with a disk of the test's own")
    if not sys.platform.startswith("linux"):
        pytest.skip("LD_PRELOAD is Linux's")
    folder = tmp_path_factory.mktemp("preload")
    (folder / "fsync.c").write_text(FAILING_FSYNC)
    library = folder / "fsync.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, folder / "fsync.c", "-ldl"],
        check=True,
        capture_output=True,
    )
    return library


@pytest.mark.parametrize(
    ("calls", "refused"), [("1,", 0), ("3,", 0), ("2,3,", 1), ("2,3,4,5,6,7,", 3), ("1,2,9,", 1)]
)
def test_a_real_process_survives_fsyncs_that_fail(
    tmp_path: Path, failing_fsync: Path, calls: str, refused: int
) -> None:
    """EIO from the C library's fsync: each batch is acknowledged and there, or NotSpooled."""
    folder = tmp_path / "spool"
    done = subprocess.run(
        [sys.executable, "-c", WRITING, folder],
        check=False,
        env={**os.environ, "LD_PRELOAD": str(failing_fsync), "FAILING_FSYNC": calls},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fsync failed") == calls.count(",")
    said = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [words[0] for words in said].count("no") == refused
    found = read_back(folder)

    kept = {
        b'"%s %d"' % (words[1].encode(), n) for words in said if words[0] == "yes" for n in range(3)
    }
    assert set(found.events) == kept
    assert len(found.events) == len(kept)
    assert (found.damaged, found.torn) == ([], 0)
