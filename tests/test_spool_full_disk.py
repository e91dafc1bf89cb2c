"""A full disk: NotSpooled, nothing is lost that was acknowledged, and it goes on when there is room.

A real small file system, a real limit on the size of files, and the spool's own limits.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spoolway.spool import Disk, Limits, NotSpooled, SpoolFolder, SpoolWriter
from spoolway.spool.record import encode_records
from tests.disks import TestDisk, read_back

BATCH = [b'{"n":%d,"x":"%b"}' % (number, b"x" * 90) for number in range(10)]
SIZE = len(encode_records(BATCH))


class Clock:
    """Seconds that pass when the test says so."""

    seconds = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


def test_a_spool_that_is_full_takes_no_more_until_it_is_replayed(tmp_path: Path) -> None:
    """`max_bytes` is of all segments, whoever wrote them; the message says what to do."""
    clock = Clock()
    limits = Limits(max_bytes=5 * SIZE, min_free_bytes=0)
    other = SpoolWriter(tmp_path, limits)
    other.append(BATCH)
    other.append(BATCH)
    other.close()
    writer = SpoolWriter(tmp_path, limits, clock=clock)
    for _ in range(3):
        writer.append(BATCH)
    for _ in range(2):
        with pytest.raises(NotSpooled, match=f"full .{5 * SIZE} of {5 * SIZE} bytes.*replay"):
            writer.append(BATCH[:1])
    assert read_back_but_open(tmp_path) == 2 * BATCH

    empty_sealed(tmp_path)
    clock.seconds += 1
    writer.append(BATCH)
    writer.append(BATCH)
    writer.close()
    assert read_back(tmp_path).events == 5 * BATCH
    assert sum(file.size for file in writer.folder.segments()) == 5 * SIZE


def read_back_but_open(folder: Path) -> list[bytes]:
    """Return what is in the sealed segments of a folder."""
    spool = SpoolFolder(folder)
    found = []
    for file in spool.segments():
        if (segment := spool.take(file)) is not None:
            found += [line for chunk in segment.chunks(100, 1 << 20) for line in chunk.lines]
            segment.release()
    return found


def empty_sealed(folder: Path) -> None:
    """Replay the sealed segments of a folder."""
    spool = SpoolFolder(folder)
    for file in spool.segments():
        if (segment := spool.take(file)) is not None:
            segment.remove()


def test_what_is_kept_free_for_others_is_kept_free(tmp_path: Path) -> None:
    """`min_free_bytes`: before the write, so that the disk never gets there by it."""
    free = [10_000 + SIZE]

    class Measured(Disk):
        def free_bytes(self, path: Path) -> int:
            """Return what the test says."""
            assert super().free_bytes(path) > 0
            return free[0]

    writer = SpoolWriter(tmp_path / "spool", Limits(min_free_bytes=10_000), disk=Measured())
    writer.append(BATCH)
    free[0] -= 1
    with pytest.raises(NotSpooled, match=r"10000 of them are kept free.: make room"):
        writer.append(BATCH)
    free[0] += 1
    writer.append(BATCH)
    writer.close()

    assert read_back(tmp_path / "spool").events == 2 * BATCH


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_what_a_full_disk_took_is_taken_back_and_its_segment_goes_on(
    tmp_path: Path, code: int
) -> None:
    """The half of a batch is cut off again: no second file, and no line that two batches share."""
    disk = TestDisk()
    writer = SpoolWriter(tmp_path, disk=disk)
    writer.append(BATCH)
    disk.fails = lambda _number, kind: code if kind == "write" else None
    for _ in range(3):
        with pytest.raises(NotSpooled, match=os.strerror(code)):
            writer.append(BATCH)
    assert [file.size for file in writer.folder.segments()] == [SIZE]
    disk.fails = lambda _number, _kind: None
    writer.append(BATCH)
    writer.close()

    assert disk.fired == ["write"] * 3
    found = read_back(tmp_path)
    assert (found.events, found.damaged, found.torn) == (2 * BATCH, [], 0)
    assert [file.named_events for file in writer.folder.segments()] == [20]


# --- A limit on the size of files ---------------------------------------------------


LIMITED = """
import resource, sys
from pathlib import Path
from spoolway.spool import Limits, NotSpooled, SpoolWriter

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
writer = SpoolWriter(Path(sys.argv[1]), Limits(min_free_bytes=0))
batch = 0
def append(count, size=100):
    global batch
    batch += 1
    try:
        writer.append([b'"%d %d %b"' % (batch, n, b"x" * size) for n in range(count)])
    except NotSpooled as error:
        print("no", error, flush=True)
    else:
        print("yes", batch, count, flush=True)
for _ in range(30):
    append(20)
append(2, 6_000)
append(1)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
append(2, 6_000)
"""


def test_a_limit_on_the_size_of_files_begins_another_one(tmp_path: Path) -> None:
    """RLIMIT_FSIZE (EFBIG): a file that is full is sealed, and the process lives.

    What is too large for any file is not spooled, and in the way of nothing that comes after.
    """
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "spool"],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    said = [line.split(maxsplit=2) for line in done.stdout.splitlines()]

    assert [words[0] for words in said] == ["yes"] * 30 + ["no", "yes", "yes"]
    assert "File too large" in done.stdout
    found = read_back(tmp_path / "spool")
    batches = [int(event[1:].split()[0]) for event in found.events]
    assert {n: batches.count(n) for n in batches} == {
        int(words[1]): int(words[2]) for words in said if words[0] == "yes"
    }
    assert found.damaged == []
    assert found.torn == 0
    assert len(SpoolFolder(tmp_path / "spool").segments()) > 5


# --- A real small disk --------------------------------------------------------------


SMALL_DISK = """
import os, sys
from pathlib import Path
from spoolway.spool import Disk, Limits, NotSpooled, SpoolFolder, SpoolWriter

class Blind(Disk):
    def free_bytes(self, path):
        return 1 << 40

disk = Path(sys.argv[1])
(disk / "in the way").write_bytes(bytes(200_000))
batch = 0
def append():
    global batch
    lines = [b'"%d %d %b"' % (batch, n, b"x" * 500) for n in range(20)]
    try:
        writer.append(lines)
    except NotSpooled as error:
        return str(error)
    kept.extend(lines)
    batch += 1
    return ""
kept = []
writer = SpoolWriter(disk / "spool", Limits(min_free_bytes=0, segment_bytes=100_000),
                     disk=Blind() if sys.argv[2] == "blind" else None)
while not (refused := append()):
    assert batch < 1000
print(refused, flush=True)
for _ in range(20):
    assert append()  # and the process lives
full = batch
names = len(os.listdir(disk / "spool"))

(disk / "in the way").unlink()
while not append():
    assert batch < 1000
assert batch > full
print(full, batch, flush=True)

def read(remove):
    found = []
    spool = SpoolFolder(disk / "spool")
    for file in spool.segments():
        segment = spool.take(file)
        for chunk in segment.chunks(100, 1 << 20):
            assert not chunk.damaged
            found += chunk.lines
        assert not segment.torn_bytes
        if remove:
            segment.remove()
        else:
            segment.release()
    return found

writer.close()
assert read(remove=False) == kept
assert read(remove=True) == kept
kept.clear()
assert not append()
writer.close()
assert read(remove=True) == kept
assert os.listdir(disk / "spool") == []
print("done", names, flush=True)
"""


@pytest.mark.parametrize(
    ("sight", "says"), [("sees", "disk of the spool"), ("blind", "No space left on device")]
)
def test_a_real_disk_that_is_full(tmp_path: Path, sight: str, says: str) -> None:
    """A file system of 1 MB: what was acknowledged is there, and room is used as soon as it comes.

    Whether that was seen before the write, or others were faster and the write itself fails.
    """
    unshare, mount = shutil.which("unshare"), shutil.which("mount")
    if unshare is None or mount is None:
        pytest.skip("no unshare or no mount here")
    tmp_path.joinpath("disk").mkdir()
    # In a mount namespace of its own: gone with the process, and seen by nobody else.
    script = 'mount -t tmpfs -o size=1m tmpfs "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
    arguments = [str(tmp_path / "disk"), sys.executable, SMALL_DISK, sight]
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", script, "sh", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"this user may not mount a disk here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stderr
    refused, counts, end = done.stdout.splitlines()
    assert says in refused
    full, after = map(int, counts.split())
    assert full >= 50
    assert after > full
    assert end.startswith("done")
