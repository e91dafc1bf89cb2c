"""A disk that is full or fails while Redis is away: memory stays bounded, what is lost is counted."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from spoolway.producer import Producer
from spoolway.spool import Chunk, Disk, Segment
from tests.producer_ledger import (
    EVENT_BYTES,
    adds_up,
    all_returned,
    all_spooled,
    emit,
    on_disk,
    on_stream,
    once_each,
    segments,
)
from tests.servers import ValkeyServer, eventually

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spool a tenth of a second after it came or failed: that moment is not what is tested here."""
    monkeypatch.setattr("spoolway.producer.pusher.IN_MEMORY_S", 0.1)
    monkeypatch.setattr("spoolway.producer.pusher.SPOOL_LINGER_S", 0.1)
    monkeypatch.setattr("spoolway.producer.spooling._AGAIN_AFTER_S", 0.1)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the producer has warned of."""
    return [r.getMessage() for r in caplog.records if r.name == "spoolway.producer"]


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A folder that nobody can make, not even root: a file has its name."""
    folder = tmp_path / "state"
    folder.write_text("a file")
    return folder


def test_a_full_spool_leaves_events_in_memory_and_then_drops_the_newest(
    private_valkey: ValkeyServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Disk, then memory, then the counter; and when Redis is back, all but those counted arrive."""
    private_valkey.kill()
    with Producer(
        private_valkey.url, folder=folder, max_spool_bytes=105 * EVENT_BYTES, max_buffer_events=200
    ) as producer:
        accepted = emit(producer, 100)
        all_spooled(producer)
        accepted += emit(producer, 200)
        eventually(lambda: any("is full" in message for message in warnings(caplog)))
        assert emit(producer, 150) == []
        stats = producer.stats
        assert (stats.accepted, stats.spooled, stats.buffered_events) == (300, 100, 200)
        assert (stats.dropped, stats.abandoned, stats.pushed) == (150, 0, 0)
        assert sum(path.stat().st_size for path in segments(folder)) <= 105 * EVENT_BYTES

        private_valkey.start()
        all_returned(folder, producer)
        accepted += emit(producer, 200)
        assert producer.flush()
        stats = producer.stats

    assert len(accepted) == 500
    assert adds_up(stats)
    assert stats.unspooled == stats.spooled
    assert (stats.pushed + stats.spooled, stats.dropped) == (500, 150)
    assert once_each(on_stream(private_valkey), accepted)
    full, dropped = [m for m in warnings(caplog) if "is full" in m]
    assert "Events wait in memory" in full
    assert f"the spool in {folder / 'spool'} is full" in dropped
    assert "dropped: the buffer is full (at most 200 events" in dropped


def test_it_goes_on_by_itself_when_there_is_room(folder: Path, blocked: Path) -> None:
    """With Redis away all the time: what waited in memory is on disk once the disk takes it."""
    producer = Producer(NOWHERE, folder=blocked, max_buffer_events=50)
    accepted = emit(producer, 60)
    spooling: Any = producer._background.pusher.spooling  # type: ignore[union-attr]  # it has begun
    eventually(lambda: spooling.last_error)
    assert len(accepted) == 50
    assert producer.stats.spooled == 0

    blocked.unlink()
    eventually(lambda: producer.stats.spooled == 50)
    accepted += emit(producer, 50)
    assert producer.close()
    stats = producer.stats
    assert (stats.accepted, stats.spooled, stats.dropped) == (100, 100, 10)
    assert once_each(on_disk(blocked), accepted)


def test_a_folder_that_cannot_be_written_is_said_at_the_start(
    valkey: ValkeyServer, blocked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, before any outage; and with Redis there it makes no other difference."""
    with Producer(valkey.url, folder=blocked) as producer:
        accepted = emit(producer, 100)
        assert producer.flush()
        assert emit(producer, 1)
        stats = producer.stats

    assert (stats.pushed, stats.spooled, stats.last_error) == (100, 0, None)
    assert len(on_stream(valkey)) == len(accepted) + 1
    [message] = warnings(caplog)
    assert f"the spool in {blocked / 'spool'} cannot be written" in message
    assert "make this folder writable" in message


def test_with_neither_redis_nor_disk_it_is_as_without_a_folder(
    blocked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Bounded memory, drops counted, close() false after its timeout, and each said once."""
    producer = Producer(NOWHERE, folder=blocked, max_buffer_events=100)
    accepted = emit(producer, 130)
    eventually(lambda: producer.stats.push_failures >= 4)
    started = time.monotonic()
    assert not producer.close(0.3)
    assert 0.3 <= time.monotonic() - started < 3
    stats = producer.stats

    assert len(accepted) == 100
    assert (stats.accepted, stats.spooled, stats.pushed) == (100, 0, 0)
    assert (stats.abandoned, stats.dropped, stats.buffered_events) == (100, 130, 0)
    disk, dropped, away, lost = sorted(warnings(caplog), key=_rank)
    assert "cannot be written" in disk
    assert "dropped: the buffer is full" in dropped
    assert "check that Redis runs there" in away
    assert "100 events are lost" in lost
    assert "cannot be written" in lost


def _rank(message: str) -> int:
    marks = ["make this folder writable", "dropped: the buffer is full", "go to", "are lost"]
    return next(rank for rank, mark in enumerate(marks) if mark in message)


def test_emit_does_not_notice_that_redis_and_disk_are_away(
    valkey: ValkeyServer, blocked: Path
) -> None:
    """The caller's time in the same run: with both there, with both away, and with a full buffer."""
    took: dict[str, float] = {}
    for name, url, folder, most in (
        ("both there", valkey.url, None, 100_000),
        ("both away", NOWHERE, blocked, 100_000),
        ("full", NOWHERE, blocked, 10),
    ):
        producer = Producer(url, folder=folder, max_buffer_events=most)
        taken = []
        for _ in range(3_000):
            started = time.perf_counter_ns()
            producer.emit({"type": "request", "body": "x" * 4_000})
            taken.append(time.perf_counter_ns() - started)
        took[name] = statistics.median(taken)
        stats = producer.stats
        assert stats.accepted + stats.dropped == 3_000
        assert stats.buffered_events <= most
        assert (stats.dropped > 0) == (name == "full")
        producer.close(0)

    assert took["both away"] < 10 * took["both there"]
    assert took["full"] < 10 * took["both there"]


def test_emit_touches_neither_disk_nor_network(folder: Path) -> None:
    """Python's own audit: on the caller's thread nothing is opened, made, imported or connected.

    From the first event on, while the background thread does all of that.
    """
    code = f"""
import sys, threading
seen = {{True: set(), False: set()}}
def hook(event, arguments):
    if event in ("open", "import", "os.mkdir", "os.listdir", "os.scandir", "socket.connect"):
        seen[emitting and threading.get_ident() == caller].add(event)
emitting, caller = False, threading.get_ident()
from spoolway.producer import Producer
producer = Producer({NOWHERE!r}, folder={str(folder)!r})
sys.addaudithook(hook)
for _ in range(2_000):
    emitting = True
    producer.emit({{"type": "request", "headers": {{"a": "b"}}, "body": {{"c": [1]}}}})
    emitting = False
    if not _:
        producer.flush(0.01)
assert producer.flush(20)
assert {{"open", "os.mkdir", "socket.connect"}} <= seen[False], seen
assert not seen[True], seen
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert len(on_disk(folder)) == 2_000


class _FailingDisk(Disk):
    """A disk on which one call fails, as often as asked for."""

    def __init__(self) -> None:
        self.failures = 0

    def sync(self, descriptor: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(5, os.strerror(5))
        super().sync(descriptor)


def test_a_disk_that_fails_in_the_middle_loses_nothing(
    private_valkey: ValkeyServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """EIO on fsync, again and again: the events stay in memory until they are synced elsewhere."""
    private_valkey.kill()
    disk = _FailingDisk()
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 10)
        all_spooled(producer)
        writer: Any = producer._background.pusher.spooling._writer  # type: ignore[union-attr]  # it has begun
        disk.failures = 2  # that of the batch, and that of its copy
        writer._disk = disk
        accepted += emit(producer, 10)
        all_spooled(producer)
        assert disk.failures == 0
        assert producer.stats.spooled == 20
        assert set(on_disk(folder)) == set(accepted)
        private_valkey.start()
        all_returned(folder, producer)

    assert set(on_stream(private_valkey)) == set(accepted)
    assert any("cannot be written" in message for message in warnings(caplog))


def test_a_segment_that_cannot_be_read_does_not_hold_up_the_others(
    valkey: ValkeyServer,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is named in the log and left alone for a minute; what comes after it is returned."""
    accepted: list[list[UUID]] = []
    for _ in range(2):
        with Producer(NOWHERE, folder=folder) as away:
            accepted.append(emit(away, 10))
    unreadable, _ = segments(folder)
    chunks = Segment.chunks

    def failing(segment: Segment, events: int, size: int) -> Iterator[Chunk]:
        if segment.path == unreadable:
            raise OSError(5, os.strerror(5))
        return chunks(segment, events, size)

    monkeypatch.setattr(Segment, "chunks", failing)
    with Producer(valkey.url, folder=folder) as producer:
        live = emit(producer, 1)
        eventually(lambda: segments(folder) == [unreadable])

    assert once_each(on_stream(valkey), accepted[1] + live)
    assert once_each(on_disk(folder), accepted[0])
    assert f"{unreadable} cannot be returned" in warnings(caplog)[-1]
