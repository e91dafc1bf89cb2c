"""The archive: every event that landed is in it, and comes back out of it."""

import asyncio
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import orjson
import pytest
import zstandard

from spoolway.schema import new_id
from spoolway.spool import Disk
from spoolway.worker.archive import Archive, ArchivedStore, frames
from spoolway.worker.stores import Store
from tests.commands import refusal, run, spool
from tests.servers import ValkeyServer, eventually
from tests.stores import Database, counts, request
from tests.workers import WorkerProcess, count, drained, ending, ids, push, request_line

pytest_plugins = ("tests.store_fixtures",)

TODAY = datetime(2026, 11, 21, 23, 59, tzinfo=UTC)


def archived(folder: Path) -> list[bytes]:
    """Read every line of an archive, as zstdcat does: frame after frame, and none left over."""
    lines: list[bytes] = []
    for path in sorted(folder.glob("*.jsonl.zst")):
        with path.open("rb") as file:
            unpacked = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            lines += unpacked.read().splitlines()
    return lines


def archived_ids(folder: Path) -> set[str]:
    """Return the ids in a state folder's archive."""
    return {orjson.loads(line)["id"] for line in archived(folder / "archive")}


@contextmanager
def archive(folder: Path, disk: Disk | None = None) -> Iterator[Archive]:
    """Open an archive on a day that does not end."""
    opened = Archive(folder, now=lambda: TODAY, disk=disk)
    try:
        yield opened
    finally:
        opened.close()


def test_what_a_crash_tore_off_is_cut_and_others_write_beside(tmp_path: Path) -> None:
    """Each process has its file; half a frame at the end of one never hides what comes after it."""
    with archive(tmp_path) as one, archive(tmp_path) as other:
        one.append([b'{"n":1}', b'{"n":2}'])
        other.append([b'{"n":3}'])
        one.append([])
    first, second = sorted(tmp_path.iterdir())
    assert [first.name, second.name] == ["2026-11-21.0.jsonl.zst", "2026-11-21.1.jsonl.zst"]
    whole = first.read_bytes()
    for cut in (1, 5, 12, len(whole) - 1):
        first.write_bytes(whole + whole[:cut])
        with archive(tmp_path) as again:
            again.append([b'{"n":4}'])
        assert archived(tmp_path) == [b'{"n":1}', b'{"n":2}', b'{"n":4}', b'{"n":3}']
    descriptor = os.open(first, os.O_RDONLY)
    try:
        assert len(list(frames(descriptor))) == 2
    finally:
        os.close(descriptor)


def test_standard_tools_read_it(tmp_path: Path) -> None:
    """Zstdcat and jq need to know nothing of Spoolway."""
    with archive(tmp_path) as one:
        for number in range(3):
            one.append([b'{"n":%d}' % number])
    tools = [shutil.which(name) for name in ("zstdcat", "jq")]
    if None in tools:
        pytest.skip("zstd or jq is not installed")
    zstdcat, jq = map(str, tools)
    [file] = tmp_path.iterdir()
    unpacked = subprocess.run([zstdcat, file], capture_output=True, check=True)
    shown = subprocess.run([jq, ".n"], input=unpacked.stdout, capture_output=True, check=True)
    assert shown.stdout == b"0\n1\n2\n"


def test_a_file_that_is_cleaned_away_is_made_anew(tmp_path: Path) -> None:
    """What is archived after it is never written to a file without a name."""
    with archive(tmp_path) as one:
        one.append([b'{"n":1}'])
        next(tmp_path.iterdir()).unlink()
        one.append([b'{"n":2}'])
        assert archived(tmp_path) == [b'{"n":2}']


class FailingDisk(Disk):
    """Takes half of a write and then fails, or fails to sync, as long as it is told."""

    def __init__(self) -> None:
        self.fails: str | None = None

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append, or half of it."""
        if self.fails == "write":
            self.fails = "full"
            return super().write(descriptor, data[: len(data) // 2])
        if self.fails == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Sync, or fail."""
        if self.fails == "sync":
            raise OSError(errno.EIO, "Input/output error")
        super().sync(descriptor)


async def test_a_disk_that_fails_costs_the_archive_and_no_row(
    sqlite_logs: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows are written on; what is missing in the archive is counted and said; then it goes on."""
    disk = FailingDisk()

    async def prepared(_store: Store) -> None:
        return

    with archive(tmp_path / "archive", disk) as own:
        store = ArchivedStore(sqlite_logs.store(), prepared, own)
        batches = [[request(), request()] for _ in range(4)]
        for batch, fails in zip(batches, (None, "write", "sync", None), strict=True):
            disk.fails = fails
            assert counts(await store.write(batch)) == (2, 0, 0)
        assert store.missed == 4
        other = request(batches[0][0].event.id, path="/other")
        assert counts(await store.write([other, batches[3][0]])) == (0, 1, 1)
        await store.close()
    expected = [item.line for item in (*batches[0], *batches[3], batches[3][0])]
    assert await asyncio.to_thread(archived, tmp_path / "archive") == expected
    assert "No space left" in caplog.text
    assert "4 events are in the database and not in the archive" in caplog.text
    assert await sqlite_logs.count() == 8


def test_what_landed_is_archived_and_makes_a_lost_database_again(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    """From the stream and from a proxy's spool, dead letters not; replayed twice, it is there once."""
    folder = tmp_path / "state"
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    settings = {"SPOOLWAY_ARCHIVE": "true"}
    lines = [request_line() for _ in range(400)]
    nan = b'{"type":"request","id":"%s","cost":NaN}' % str(new_id()).encode()
    refused = b'{"type":"request","id":"7b0a8a3e-52a5-4a71-8a94-0a3c6f2f9e11"}'
    worker = WorkerProcess(database, valkey.url, folder, **settings)
    with ending(worker):
        worker.started()
        push(valkey, [*lines, nan, refused])
        drained(valkey, worker)
    spooled = spool(folder, [request_line() for _ in range(50)])
    here = {"SPOOLWAY_DIR": str(folder), "DATABASE_URL": database, **settings}
    assert run("replay", **here).code == 0
    there = {str(one) for one in ids(database)}
    assert len(there) == 451
    assert archived_ids(folder) == there
    assert all(line in archived(folder / "archive") for line in spooled)
    assert stat.S_IMODE((folder / "archive").stat().st_mode) == 0o700
    files = list((folder / "archive").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}

    lost = {**here, "DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    sizes = [path.stat().st_size for path in files]
    for inserted in (451, 0):
        done = run("replay", "--archive", "--json", **lost)
        assert (done.code, done.json["inserted"], done.json["dead"]) == (0, inserted, 0), done
    assert [path.stat().st_size for path in files] == sizes
    assert {str(one) for one in ids(lost["DATABASE_URL"])} == there
    tomorrow = ("--since", "9000-01-01")
    assert "no file of these days" in refusal(run("replay", "--archive", *tomorrow, **lost))
    assert "--archive" in refusal(run("replay", *tomorrow, **lost))

    damage(max(files, key=lambda path: path.stat().st_size))
    done = run("replay", "--archive", "--json", **lost)
    assert done.code == 1
    assert len(done.json["damaged"]) == 1
    assert 50 <= done.json["duplicate"] < 451


def damage(path: Path) -> None:
    """Flip a byte in the middle of a file's first frame."""
    data = bytearray(path.read_bytes())
    data[40] ^= 0xFF
    path.write_bytes(data)


def reached(database: str, number: int) -> bool:
    """Whether there are so many requests."""
    return count(database) >= number


@pytest.mark.chaos
def test_a_worker_killed_between_commit_and_archive_loses_neither(
    private_valkey: ValkeyServer, database: str, tmp_path: Path
) -> None:
    """SIGKILL again and again under load: every row is in the archive at least once."""
    folder = tmp_path / "state"
    lines = [request_line(body={"text": "x" * 500}) for _ in range(20_000)]
    push(private_valkey, lines)
    for killed_at in (2_000, 8_000, 14_000):
        worker = WorkerProcess(
            database, private_valkey.url, folder, SPOOLWAY_ARCHIVE="1", SPOOLWAY_BATCH_EVENTS="500"
        )
        with ending(worker):
            worker.started()
            eventually(partial(reached, database, killed_at), timeout=60)
            worker.kill()
    worker = WorkerProcess(database, private_valkey.url, folder, SPOOLWAY_ARCHIVE="1")
    with ending(worker):
        worker.started()
        drained(private_valkey, worker)
    there = {str(one) for one in ids(database)}
    assert len(there) == len(lines)
    assert archived_ids(folder) == there
