"""A Redis that fails in every way: events go to the disk, and back to the stream by themselves."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from spoolway.producer import Producer
from tests.producer_ledger import (
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


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spool a tenth of a second after the first failure, where that moment is not what is tested."""
    monkeypatch.setattr("spoolway.producer.pusher.IN_MEMORY_S", 0.1)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the producer has warned of."""
    return [r.getMessage() for r in caplog.records if r.name == "spoolway.producer"]


def test_redis_is_not_there_at_first_and_comes_back_later(
    private_valkey: ValkeyServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever was emitted before it came is synced on disk, then on the stream, each once."""
    private_valkey.kill()
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 700)
        stats = all_spooled(producer)
        assert (stats.spooled, stats.pushed, stats.unspooled) == (700, 0, 0)
        assert once_each(on_disk(folder), accepted)
        more = emit(producer, 300)
        assert producer.flush()
        assert once_each(on_disk(folder), accepted + more)

        private_valkey.start()
        all_returned(folder, producer)
        last = emit(producer, 10)
        assert producer.flush()
        stats = producer.stats

    assert (stats.accepted, stats.spooled, stats.unspooled, stats.pushed) == (
        1_010,
        1_000,
        1_000,
        10,
    )
    assert once_each(on_stream(private_valkey), accepted + more + last)
    [message] = warnings(caplog)
    assert "check that Redis runs there" in message
    assert f"they go to {folder / 'spool'}" in message
    assert "xxx" not in message


def test_a_short_absence_costs_no_disk_write(private_valkey: ValkeyServer, folder: Path) -> None:
    """What comes while Redis restarts waits in memory for about a second."""
    with Producer(private_valkey.url, folder=folder) as producer:
        emit(producer, 1)
        assert producer.flush()
        private_valkey.kill()
        accepted = emit(producer, 200)
        eventually(lambda: producer.stats.push_failures, every=0.001)
        private_valkey.start()
        assert producer.flush(20)
        stats = producer.stats

    assert (stats.pushed, stats.spooled) == (201, 0)
    assert once_each(on_stream(private_valkey)[-200:], accepted)
    assert segments(folder) == []


def test_redis_is_killed_again_and_again_under_load(
    start_valkey: Callable[..., ValkeyServer], folder: Path, soon: None
) -> None:
    """Flapping: with replies lost in the middle, everything accepted is on the stream in the end."""
    server = start_valkey(append_only="always")
    stop = threading.Event()
    accepted: list[UUID] = []
    with Producer(server.url, folder=folder, linger=0.001) as producer:

        def load() -> None:
            while not stop.wait(0.002):
                accepted.extend(emit(producer, 5))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            for _ in range(4):
                pushed, spooled = producer.stats.pushed, producer.stats.spooled
                eventually(lambda: producer.stats.pushed > pushed)  # noqa: B023 - called in this round only
                server.kill()
                eventually(lambda: producer.stats.spooled > spooled, timeout=20)  # noqa: B023 - as above
                server.start()
        finally:
            stop.set()
            loading.join()
        all_returned(folder, producer)
        stats = producer.stats

    assert adds_up(stats)
    assert stats.accepted == stats.pushed + stats.spooled == len(accepted)
    assert stats.unspooled == stats.spooled
    assert stats.dropped == 0
    assert set(on_stream(server)) == set(accepted)


def _full(client: Any) -> Callable[[], object]:
    client.config_set("maxmemory", 1)
    return lambda: client.config_set("maxmemory", 0)


def _read_only(client: Any) -> Callable[[], object]:
    client.replicaof("127.0.0.1", "1")
    return lambda: client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("obstacle", "advice"), [(_full, "Redis is full"), (_read_only, "this is a replica")]
)
def test_redis_refuses_and_takes_again(
    start_valkey: Callable[..., ValkeyServer],
    folder: Path,
    soon: None,
    obstacle: Callable[[Any], Callable[[], object]],
    advice: str,
) -> None:
    """Full under noeviction, then larger; a read-only replica, then promoted: each event once."""
    server = start_valkey()
    with Producer(server.url, folder=folder) as producer, server.client() as client:
        accepted = emit(producer, 100)
        assert producer.flush()
        end = obstacle(client)
        accepted += emit(producer, 400)
        stats = all_spooled(producer)
        assert advice in (stats.last_error or "")
        assert (stats.pushed, stats.spooled) == (100, 400)
        end()
        all_returned(folder, producer)
        assert producer.stats.last_error is None

    assert once_each(on_stream(server), accepted)


def test_redis_hangs_and_goes_on(
    private_valkey: ValkeyServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped for longer than a read may take: spooled, then returned; none is missing."""
    monkeypatch.setattr("spoolway.producer.stream.READ_TIMEOUT_S", 0.5)  # in the promise: 5 s
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 10)
        assert producer.flush()
        private_valkey.suspend()
        try:
            accepted += emit(producer, 500)
            stats = all_spooled(producer)
            assert "Redis hangs" in (stats.last_error or "")
            accepted += emit(producer, 500)
            started = time.monotonic()
            assert producer.flush()  # though a probe may hang meanwhile
            assert time.monotonic() - started < 4
        finally:
            private_valkey.resume()
        all_returned(folder, producer)

    assert set(on_stream(private_valkey)) == set(accepted)


def test_close_does_not_wait_for_a_redis_that_hangs(
    private_valkey: ValkeyServer, folder: Path
) -> None:
    """The closing thread spools what the stuck one has in its hands, and what waits behind it."""
    producer = Producer(private_valkey.url, folder=folder, frame_events=10)
    first = emit(producer, 10)
    assert producer.flush()
    private_valkey.suspend()
    try:
        accepted = emit(producer, 500)
        pusher: Any = producer._background.pusher
        eventually(lambda: pusher._live, what="the thread pushes")
        started = time.monotonic()
        assert producer.close(0.2)
        assert 0.2 <= time.monotonic() - started < 2
        stats = producer.stats
        assert once_each(on_disk(folder), accepted)
    finally:
        private_valkey.resume()

    assert (stats.pushed, stats.spooled, stats.dropped, stats.buffered_events) == (10, 500, 0, 0)
    eventually(lambda: set(on_stream(private_valkey)) > set(first))  # in flight: it arrives, too
    with Producer(private_valkey.url, folder=folder) as successor:
        last = emit(successor, 1)
        all_returned(folder, successor)
        assert successor.stats.unspooled == 500

    assert set(on_stream(private_valkey)) == {*first, *accepted, *last}


def test_close_spools_at_once_where_redis_is_away(folder: Path) -> None:
    """It has nothing to wait for: true in a fraction of its timeout, and of the moment in memory."""
    producer = Producer("redis://127.0.0.1:1/0", folder=folder)
    accepted = emit(producer, 50)
    started = time.monotonic()

    assert producer.close(20)
    assert producer.close(20)
    assert time.monotonic() - started < 0.9
    assert once_each(on_disk(folder), accepted)
    assert not producer.emit({"type": "request"})
    stats = producer.stats
    assert (stats.spooled, stats.dropped, stats.abandoned) == (50, 1, 0)


def test_what_stays_together_is_one_line_per_event(folder: Path) -> None:
    """A request and its errors are one item in memory, and as many lines of the segment."""
    producer = Producer("redis://127.0.0.1:1/0", folder=folder)
    record = producer.record()
    record.error(error_type="A")
    record.error(error_type="B")
    assert record.finish()
    assert producer.close(0)

    found = on_disk(folder)
    assert len(found) == len(set(found)) == 3
    assert found[0] == record.id
    assert producer.stats.spooled == 3


@contextmanager
def slow_line(server: ValkeyServer, delay: float = 0.0) -> Iterator[tuple[str, threading.Event]]:
    """A port that passes on what is sent, and 512 KiB a second of it until the event is set.

    `delay`: seconds that each piece is under way, besides.
    """
    fast, done = threading.Event(), threading.Event()
    piece = 16 * 1024

    def passes(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(piece):
                if not fast.is_set():
                    fast.wait(delay + len(data) / (512 * 1024))
                target.sendall(data)
        except OSError:
            pass  # the other direction has ended
        finally:
            source.close()
            target.close()

    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, piece)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.05)

        def accept() -> None:
            while not done.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                upstream = socket.create_connection(("127.0.0.1", server.port))
                for pair in ((client, upstream), (upstream, client)):
                    threading.Thread(target=passes, args=pair, daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", fast
        finally:
            done.set()
            accepting.join()


def test_what_a_slow_redis_does_not_take_goes_to_the_disk(
    private_valkey: ValkeyServer, folder: Path
) -> None:
    """No push fails, and nothing is dropped, although more comes than the line can carry."""
    with (
        slow_line(private_valkey) as (url, fast),
        Producer(
            url, folder=folder, codec="json", max_buffer_bytes=2_000_000, frame_events=10
        ) as producer,
    ):
        accepted: list[UUID] = []
        deadline = time.monotonic() + 20
        while producer.stats.spooled < 300 and time.monotonic() < deadline:
            accepted += emit(producer, 10, size=4_000)
            threading.Event().wait(0.04)  # 1 MB a second: the load, not a wait for something
        stats = producer.stats
        assert stats.spooled >= 300
        assert (stats.dropped, stats.push_failures) == (0, 0)
        assert stats.pushed > 0
        fast.set()
        all_returned(folder, producer)
        stats = producer.stats

    assert adds_up(stats)
    assert stats.unspooled == stats.spooled
    assert once_each(on_stream(private_valkey), accepted)


def test_a_redis_that_is_slow_to_answer_is_not_away_for_ever(
    private_valkey: ValkeyServer, folder: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probes are impatient, so that the thread soon spools again; but each fifth is as a push."""
    monkeypatch.setattr("spoolway.producer.pusher._PROBE_S", 0.02)
    monkeypatch.setattr("spoolway.producer.pusher.LONGEST_WAIT_S", 0.1)
    with (
        private_valkey.client() as client,
        slow_line(private_valkey, delay=0.1) as (url, _),
        Producer(url, folder=folder) as producer,
    ):
        end = _full(client)
        accepted = emit(producer, 20)
        eventually(lambda: "Timeout" in (producer.stats.last_error or ""))
        assert producer.flush()
        assert once_each(on_disk(folder), accepted)
        end()
        all_returned(folder, producer)

    assert once_each(on_stream(private_valkey), accepted)


def test_live_events_do_not_wait_for_those_on_the_disk(
    private_valkey: ValkeyServer, folder: Path
) -> None:
    """While a long spool is given back an event that is emitted now overtakes it."""
    private_valkey.kill()
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 30_000, size=200)
        assert producer.close()
    private_valkey.start()

    with Producer(private_valkey.url, folder=folder) as producer:
        live: list[UUID] = []
        unspooled: list[int] = []
        while not unspooled or unspooled[-1] < 30_000:
            live += emit(producer, 1)
            assert producer.flush()
            unspooled.append(producer.stats.unspooled)

    # Both went on all the time: one did not wait for the other's end.
    assert len(live) > 10
    assert max(after - before for before, after in pairwise(unspooled)) < 5_000
    assert once_each(on_stream(private_valkey), accepted + live)


def test_close_in_the_middle_of_returning_leaves_the_rest_and_no_more(
    valkey: ValkeyServer, folder: Path
) -> None:
    """What Redis has confirmed is cut off the segment: the next process returns what is left, once."""
    with Producer("redis://127.0.0.1:1/0", folder=folder) as away:
        accepted = emit(away, 20_000, size=200)
    with Producer(valkey.url, folder=folder) as first:
        accepted += emit(first, 1)
        eventually(lambda: first.stats.unspooled, every=0.001)
        assert first.close()
    left = on_disk(folder)
    assert 0 < len(left) == 20_000 - first.stats.unspooled
    with Producer(valkey.url, folder=folder) as second:
        accepted += emit(second, 1)
        all_returned(folder, second)
        assert second.stats.unspooled == len(left)

    assert once_each(on_stream(valkey), accepted)


def test_an_idle_producer_sees_what_comes_back_and_then_sleeps(
    private_valkey: ValkeyServer, folder: Path, soon: None
) -> None:
    """Nobody emits while Redis returns; when the spool is empty the thread has nothing to look for."""
    private_valkey.kill()
    with Producer(private_valkey.url, folder=folder) as producer:
        accepted = emit(producer, 100)
        all_spooled(producer)
        private_valkey.start()
        all_returned(folder, producer)
        pusher: Any = producer._background.pusher
        eventually(lambda: pusher.spooling.returning.due_at is None)

    assert once_each(on_stream(private_valkey), accepted)


def test_damaged_lines_are_kept_and_the_rest_goes_on(
    valkey: ValkeyServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line whose checksum is wrong is a dead letter with its bytes; the others are on the stream."""
    away = Producer("redis://127.0.0.1:1/0", folder=folder)
    accepted = emit(away, 5)
    assert away.close()
    [segment] = segments(folder)
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"xxx", b"xyx", 1)
    segment.write_bytes(b"".join(lines))

    with Producer(valkey.url, folder=folder) as producer:
        live = emit(producer, 1)
        all_returned(folder, producer)
        assert producer.stats.unspooled == 4

    assert once_each(on_stream(valkey), [*accepted[:2], *accepted[3:], *live])
    [letters] = (folder / "dead").iterdir()
    [letter] = letters.read_text().splitlines()
    assert '"reason":"damaged"' in letter
    assert segment.name in letter
    assert "xyx" in letter
    [logged] = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "1 damaged lines" in logged.getMessage()
    assert "xyx" not in logged.getMessage()


def test_without_a_folder_nothing_is_spooled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an argument nor SPOOLWAY_DIR: memory alone. With SPOOLWAY_DIR: there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPOOLWAY_DIR", raising=False)
    producer = Producer("redis://127.0.0.1:1/0")
    emit(producer, 5)
    assert not producer.close(0.1)
    assert producer.stats.abandoned == 5
    assert list(tmp_path.iterdir()) == []

    monkeypatch.setenv("SPOOLWAY_DIR", "state")
    producer = Producer("redis://127.0.0.1:1/0")
    monkeypatch.chdir("/")  # as a server that daemonizes
    accepted = emit(producer, 5)
    assert producer.close(0.1)
    assert once_each(on_disk(tmp_path / "state"), accepted)
