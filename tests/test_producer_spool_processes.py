"""Processes that share a folder, fork, hang and are killed: no event of the spool is nobody's."""

import fcntl
import multiprocessing
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest

from spoolway.producer import Producer
from spoolway.spool import SpoolFolder
from tests.producer_ledger import (
    all_returned,
    all_spooled,
    emit,
    on_disk,
    on_stream,
    once_each,
    read_with_jq,
    segments,
)
from tests.servers import ValkeyServer, eventually

NOWHERE = "redis://127.0.0.1:1/0"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # Python 3.12 and later warn of what is tested here.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spool a tenth of a second after the first failure: that moment is not what is tested here."""
    monkeypatch.setattr("spoolway.producer.pusher.IN_MEMORY_S", 0.1)


@contextmanager
def proxy(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs the code; killed if it has not ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def emitting(folder: Path, url: str = NOWHERE, events: int = 200) -> str:
    """Code of a proxy that has all of its events on disk when it says their ids."""
    return f"""
        from spoolway.producer import Producer, pusher
        from spoolway.schema import new_id
        pusher.IN_MEMORY_S = 0.1
        producer = Producer({url!r}, folder={str(folder)!r})
        ids = [new_id() for _ in range({events})]
        assert all([producer.emit({{"type": "request", "id": id_}}) for id_ in ids])
        assert producer.flush(20)
        print(*ids, flush=True)
        input()
    """


def said(process: subprocess.Popen[str]) -> list[UUID]:
    """The ids that the process has said are on disk."""
    assert process.stdout is not None
    return [UUID(word) for word in process.stdout.readline().split()]


def test_what_a_killed_proxy_has_spooled_is_taken_over(
    private_valkey: ValkeyServer, folder: Path
) -> None:
    """SIGKILL: jq reads its open segment, and the next process on the folder returns it by itself."""
    with proxy(emitting(folder)) as process:
        accepted = said(process)
        [segment] = segments(folder)
        assert segment.name.endswith(".open")
        assert (
            SpoolFolder(folder / "spool").take(SpoolFolder(folder / "spool").segments()[0]) is None
        )
        process.kill()
        process.wait()

    assert len(accepted) == 200
    assert read_with_jq(segment) == [str(id_) for id_ in accepted]
    with Producer(private_valkey.url, folder=folder) as producer:
        live = emit(producer, 1)
        all_returned(folder, producer)
        stats = producer.stats
    assert (stats.accepted, stats.pushed, stats.spooled, stats.unspooled) == (1, 1, 0, 200)
    assert once_each(on_stream(private_valkey), [*accepted, *live])


def test_what_a_neighbour_leaves_is_found_by_one_that_runs(
    private_valkey: ValkeyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its segment is locked while it lives; when it is killed, an idle producer takes it over."""
    monkeypatch.setattr("spoolway.producer.returning.LOOK_EVERY_S", 0.1)
    with (
        proxy(emitting(folder)) as process,
        Producer(private_valkey.url, folder=folder) as producer,
    ):
        accepted = said(process)
        live = emit(producer, 1)
        assert producer.flush()
        returning: Any = producer._background.pusher.spooling.returning  # type: ignore[union-attr]  # it has begun
        eventually(lambda: returning.due_at)
        assert (len(segments(folder)), producer.stats.unspooled) == (1, 0)
        process.kill()
        all_returned(folder, producer)
        assert producer.stats.unspooled == 200

    assert once_each(on_stream(private_valkey), [*accepted, *live])


def test_two_producers_share_a_folder(private_valkey: ValkeyServer, folder: Path) -> None:
    """Each writes segments of its own; together they return each event once."""
    private_valkey.kill()
    with (
        Producer(private_valkey.url, folder=folder) as one,
        Producer(private_valkey.url, folder=folder) as other,
    ):
        accepted = emit(one, 300) + emit(other, 300)
        all_spooled(one)
        all_spooled(other)
        assert len(segments(folder)) >= 2
        assert once_each(on_disk(folder), accepted)
        private_valkey.start()
        all_returned(folder, one, other)
        both = [one.stats, other.stats]

    assert [stats.spooled for stats in both] == [300, 300]
    assert sum(stats.unspooled for stats in both) == 600
    assert once_each(on_stream(private_valkey), accepted)


def test_a_child_has_a_spool_of_its_own(private_valkey: ValkeyServer, folder: Path) -> None:
    """Forked while the parent spools: both spool, both return, and each counts its own."""
    private_valkey.kill()
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 100)
        all_spooled(producer)
        pid = os.fork()
        if pid == 0:
            done = False
            try:
                emit(producer, 50)
                done = producer.close() and producer.stats.spooled == 50
            finally:
                os._exit(0 if done else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert len(on_disk(folder)) == 150
        accepted += emit(producer, 100)
        private_valkey.start()
        all_returned(folder, producer)
        stats = producer.stats

    assert stats.accepted == stats.spooled + stats.pushed == 200
    found = on_stream(private_valkey)
    assert len(found) == len(set(found)) == 250
    assert set(accepted) < set(found)


def test_a_child_does_not_keep_the_parents_segments_locked(
    start_valkey: Callable[..., ValkeyServer], folder: Path
) -> None:
    """A killed parent's segments, the one it writes and the one it reads, are free.

    Although a child that it forked lives on, and never used its copies of the open files.
    """
    with Producer(NOWHERE, folder=folder) as before:
        emit(before, 10)
    full = start_valkey(max_memory=1)  # it answers, so that the oldest segment is tried
    parent = emitting(folder, full.url).replace(
        "        input()\n",
        """
        import os, time
        while producer._background.pusher.spooling.returning._segment is None:
            time.sleep(0.01)
        if os.fork() == 0:
            print(os.getpid(), flush=True)
        input()
        """,
    )
    with proxy(parent) as process:
        assert len(said(process)) == 200
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        spool = SpoolFolder(folder / "spool")
        locked = [file for file in spool.segments() if not _is_free(spool, file)]
        assert [file.is_open for file in locked] == [False, True]
        process.kill()
        process.wait()
        assert child.is_running()
        assert all(_is_free(spool, file) for file in locked)


def _is_free(spool: SpoolFolder, file: Any) -> bool:
    segment = spool.take(file)
    if segment is not None:
        segment.release()
    return segment is not None


def test_at_exit_what_a_hanging_redis_does_not_take_is_spooled(
    private_valkey: ValkeyServer, folder: Path
) -> None:
    """Two seconds for Redis, a moment for the disk, and no event and no word of it is lost."""
    with proxy(
        f"""
        from spoolway.producer import Producer
        producer = Producer({private_valkey.url!r}, folder={str(folder)!r})
        assert producer.emit({{"type": "request"}})
        assert producer.flush()
        print(flush=True)
        input()
        for _ in range(300):
            assert producer.emit({{"type": "request"}})
        """
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        private_valkey.suspend()
        try:
            started = time.monotonic()
            _, stderr = process.communicate("\n", timeout=30)
            assert 1.9 < time.monotonic() - started < 10
        finally:
            private_valkey.resume()

    assert (process.returncode, stderr) == (0, "")
    assert len(set(on_disk(folder))) == len(on_disk(folder)) == 300
    assert not segments(folder)[0].name.endswith(".open")


def test_a_forked_worker_of_multiprocessing_spools_at_its_end(folder: Path) -> None:
    """It ends without calling `atexit`: its events are on disk all the same."""
    producer = Producer(NOWHERE, folder=folder)
    process = multiprocessing.get_context("fork").Process(target=emit, args=(producer, 20))
    started = time.monotonic()
    process.start()
    process.join(30)

    assert process.exitcode == 0
    assert time.monotonic() - started < 10
    assert len(on_disk(folder)) == 20
    assert producer.close()


@pytest.mark.parametrize("lives", [True, False])
def test_what_a_worker_has_spooled_is_left_to_a_worker_that_lives(
    private_valkey: ValkeyServer, folder: Path, lives: bool
) -> None:
    """On the stream it would go round for ever while the database is away.

    What this process wrote itself goes back all the same; and what a dead worker left, too.
    """
    with Producer(NOWHERE, folder=folder) as away:
        accepted = emit(away, 20)
    with (folder / "worker-0.lock").open("w") as slot:
        if lives:
            fcntl.flock(slot, fcntl.LOCK_EX)
        private_valkey.kill()
        with Producer(private_valkey.url, folder=folder) as producer:
            own = emit(producer, 30)
            all_spooled(producer)
            private_valkey.start()
            left = len(accepted) if lives else 0
            eventually(lambda: len(on_disk(folder)) == left, timeout=20)
            assert producer.stats.unspooled == 50 - left

    assert once_each(on_stream(private_valkey), own if lives else own + accepted)
    assert once_each(on_disk(folder), accepted if lives else [])
