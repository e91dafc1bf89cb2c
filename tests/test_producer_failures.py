"""The producer with a Redis that fails: nothing accepted is lost, nothing waits, nothing grows."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import pytest
import redis

from spoolway.producer import Producer
from spoolway.producer.background import THREAD_NAME
from spoolway.producer.buffer import Bounds, Buffer
from spoolway.producer.pusher import FRAMES_PER_PUSH
from spoolway.producer.rarely import Rarely
from spoolway.schema import DEFAULT_STREAM, new_id
from tests.pushed import events, lines_by_frame
from tests.servers import ValkeyServer, eventually

EVENT_BYTES = 2_000


def emit(producer: Producer, number: int = 1) -> list[UUID]:
    """Emit events of about EVENT_BYTES, and return the ids of those that were accepted."""
    accepted = []
    for _ in range(number):
        event_id = new_id()
        if producer.emit({"type": "request", "id": event_id, "body": "x" * (EVENT_BYTES - 90)}):
            accepted.append(event_id)
    return accepted


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the producer has warned of."""
    return [r.getMessage() for r in caplog.records if r.name == "spoolway.producer"]


def fails(producer: Producer, reason: str, failures: int = 1) -> None:
    """Wait until pushing fails, again and again, for this reason."""
    before = producer.stats.push_failures

    def is_failing() -> bool:
        stats = producer.stats
        return reason in (stats.last_error or "") and stats.push_failures >= before + failures

    eventually(is_failing, timeout=20, what=f"pushes fail with {reason!r}")


def test_redis_is_killed_and_comes_back(
    private_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Events wait while it is gone, and arrive by themselves when it is there: each of them once."""
    with Producer(private_valkey.url) as producer:
        accepted = emit(producer, 300)
        assert producer.flush()
        private_valkey.kill()
        accepted += emit(producer, 700)
        fails(producer, "takes no events", failures=2)
        assert not producer.flush(0.05)
        stats = producer.stats
        assert (stats.accepted, stats.pushed, stats.buffered_events) == (1_000, 300, 700)
        private_valkey.start()
        eventually(lambda: producer.stats.pushed == 1_000, timeout=20)
        assert producer.stats.last_error is None
        found = [event.id for event in events(private_valkey)]

    # What Redis itself had not synced when it was killed is Redis' to lose.
    assert set(accepted[300:]) <= set(found) <= set(accepted)
    [message] = warnings(caplog)
    assert f"Redis at 127.0.0.1:{private_valkey.port}" in message
    assert "check that Redis runs there" in message


def test_redis_is_killed_under_load(private_valkey: ValkeyServer) -> None:
    """Killed three times in the middle of pushing: what was lost with a reply is sent again."""
    stop = threading.Event()
    accepted: list[UUID] = []
    before_the_last = 0
    with Producer(private_valkey.url, linger=0.001) as producer:

        def load() -> None:
            while not stop.wait(0.001):
                accepted.extend(emit(producer, 5))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            for _ in range(3):
                target = producer.stats.pushed + 100
                eventually(lambda: producer.stats.pushed > target)  # noqa: B023 - called in this round only
                private_valkey.kill()
                before_the_last = len(accepted)
                fails(producer, "takes no events")
                private_valkey.start()
        finally:
            stop.set()
            loading.join()
        assert producer.flush(20)
        stats = producer.stats

    found = {event.id for event in events(private_valkey)}
    assert stats.accepted == stats.pushed == len(accepted)
    assert set(accepted[before_the_last:]) <= found <= set(accepted)


def test_the_buffer_is_bounded_by_events_and_drops_the_newest(
    private_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What has been waiting arrives; what finds no room is refused, counted, logged once."""
    private_valkey.kill()
    with Producer(private_valkey.url, max_buffer_events=500) as producer:
        first = emit(producer, 500)
        fails(producer, "takes no events")
        caplog.clear()
        assert len(first) == 500
        assert emit(producer, 250) == []
        stats = producer.stats
        assert (stats.buffered_events, stats.dropped, stats.rejected) == (500, 250, 0)
        private_valkey.start()
        assert producer.flush(20)
        assert len(emit(producer, 500)) == 500

    assert [event.id for event in events(private_valkey)][:500] == first
    [message] = warnings(caplog)
    assert "dropped: the buffer is full (at most 500 events" in message


def test_the_buffer_is_bounded_by_bytes(private_valkey: ValkeyServer) -> None:
    """However long the outage, the lines in memory are never more than asked for."""
    bound = 100 * EVENT_BYTES
    private_valkey.kill()
    with Producer(private_valkey.url, max_buffer_bytes=bound) as producer:
        accepted = emit(producer, 1_000)
        most = producer.stats.buffered_bytes
        fails(producer, "takes no events")
        assert emit(producer, 10) == []
        assert producer.stats.buffered_bytes == most
        private_valkey.start()
        assert producer.flush(20)
        assert producer.stats.buffered_bytes == 0

    assert bound - EVENT_BYTES < most <= bound
    assert 95 <= len(accepted) <= 105
    assert sum(len(line) for lines in lines_by_frame(private_valkey) for line in lines) == most


def test_a_request_and_its_errors_are_dropped_together() -> None:
    """Half of a record is never on its way."""
    with Producer("redis://127.0.0.1:1/0", max_buffer_events=5) as producer:
        emit(producer, 3)
        record = producer.record()
        record.error(error_type="A")
        record.error(error_type="B")
        assert not record.finish()
        stats = producer.stats
        producer.close(0)

    assert (stats.buffered_events, stats.dropped) == (3, 3)


def test_close_gives_up_after_its_timeout_and_counts_what_is_lost(
    private_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """False, a count, a line in the log; and the numbers still add up."""
    private_valkey.kill()
    producer = Producer(private_valkey.url)
    emit(producer, 30)
    fails(producer, "takes no events")

    started = time.monotonic()
    assert not producer.close(0.3)
    assert 0.3 <= time.monotonic() - started < 3
    assert not producer.close(0.3)

    stats = producer.stats
    assert (stats.accepted, stats.pushed, stats.abandoned, stats.dropped) == (30, 0, 30, 30)
    assert (stats.buffered_events, stats.buffered_bytes) == (0, 0)
    assert "30 events are lost" in warnings(caplog)[-1]


def test_close_tries_once_more_at_once(private_valkey: ValkeyServer) -> None:
    """A Redis that is back gets the events although the next attempt was not due yet."""
    private_valkey.kill()
    producer = Producer(private_valkey.url)
    emit(producer, 30)
    fails(producer, "takes no events", failures=6)
    private_valkey.start()

    assert producer.close(5)
    assert len(events(private_valkey)) == 30


def test_redis_is_full(start_valkey: Callable[..., ValkeyServer]) -> None:
    """The OOM error under noeviction: kept and tried again; no MAXLEN makes room by losing."""
    server = start_valkey()
    with Producer(server.url, codec="json") as producer, server.client() as client:
        accepted = emit(producer, 100)
        assert producer.flush()
        client.config_set("maxmemory", 1)
        accepted += emit(producer, 200)
        fails(producer, "Redis is full", failures=2)
        assert producer.stats.buffered_events == 200
        client.config_set("maxmemory", 0)
        assert producer.flush(20)

    assert [event.id for event in events(server)] == accepted


def _wrong_type(client: "redis.Redis") -> Callable[[], object]:
    client.set(DEFAULT_STREAM, "x")
    return lambda: client.delete(DEFAULT_STREAM)


def _read_only(client: "redis.Redis") -> Callable[[], object]:
    client.replicaof("127.0.0.1", "1")
    return lambda: client.replicaof("NO", "ONE")


def _no_permission(client: "redis.Redis") -> Callable[[], object]:
    client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-xadd"])
    return lambda: client.acl_setuser("default", enabled=True, commands=["+@all"])


@pytest.mark.parametrize(
    ("obstacle", "advice"),
    [
        (_wrong_type, "this key holds something else"),
        (_read_only, "this is a replica"),
        (_no_permission, "lacks a permission"),
    ],
)
def test_redis_refuses(
    start_valkey: Callable[..., ValkeyServer],
    caplog: pytest.LogCaptureFixture,
    obstacle: Callable[["redis.Redis"], Callable[[], object]],
    advice: str,
) -> None:
    """Whatever the refusal: the events wait, the log says what to do, and they go when it is over.

    And neither the log nor the error that is shown holds a byte of an event.
    """
    server = start_valkey(append_only="everysec")
    with Producer(server.url, codec="json") as producer, server.client() as client:
        end = obstacle(client)
        accepted = emit(producer, 50)
        fails(producer, advice, failures=2)
        assert "xxx" not in (producer.stats.last_error or "")
        end()
        assert producer.flush(20)

    assert [event.id for event in events(server)] == accepted
    [message] = warnings(caplog)
    assert advice in message
    assert "xxx" not in message


@pytest.mark.parametrize("password", ["hunter2", "hun%40ter2"])
def test_the_password_is_wrong(
    start_valkey: Callable[..., ValkeyServer], caplog: pytest.LogCaptureFixture, password: str
) -> None:
    """The log says so, and says neither the wrong password nor the right one."""
    server = start_valkey(password="test-password")
    producer = Producer(f"redis://:{password}@127.0.0.1:{server.port}/0")
    emit(producer)
    fails(producer, "check user and password")
    producer.close(0)

    for text in (*warnings(caplog), producer.stats.last_error or ""):
        assert "hun" not in text
        assert "test-password" not in text


def test_the_password_is_not_logged_even_if_the_client_says_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client's own words, here "Connection refused", are searched for it."""
    producer = Producer("redis://:refused@127.0.0.1:1/0")
    emit(producer)
    fails(producer, "Connection ***")
    producer.close(0)

    assert not any("refused" in message for message in warnings(caplog))


def test_redis_hangs(private_valkey: ValkeyServer) -> None:
    """Stopped in the middle of everything: emit() stays as quick as ever, and all arrives."""
    with Producer(private_valkey.url) as producer:
        accepted = emit(producer, 10)
        assert producer.flush()
        private_valkey.suspend()
        try:
            slowest = 0.0
            for _ in range(2_000):
                started = time.perf_counter()
                accepted += emit(producer)
                slowest = max(slowest, time.perf_counter() - started)
            assert len(accepted) == 2_010
            fails(producer, "Redis hangs")
        finally:
            private_valkey.resume()
        assert producer.flush(20)

    # One call; a thousand times what it takes, for a machine that is busy with other tests.
    assert slowest < 0.2
    assert {event.id for event in events(private_valkey)} == set(accepted)


@contextmanager
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A port that accepts and never answers, and an event that says that it was called."""
    called = threading.Event()
    connections: list[socket.socket] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connections.append(connection)
                called.set()

        threading.Thread(target=accept, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", called
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


def test_close_does_not_wait_for_a_redis_that_hangs() -> None:
    """The time that close() was given holds although a read takes longer to fail."""
    with silent_server() as (url, called):
        producer = Producer(url)
        emit(producer)
        assert called.wait(10)
        started = time.monotonic()
        assert not producer.close(0.2)
        assert time.monotonic() - started < 2

    assert producer.stats.abandoned == 1


def test_the_client_does_not_retry_by_itself() -> None:
    """An attempt is one connection: retrying is the pusher's, which knows when to stop."""
    calls = 0
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def hang_up() -> None:
            nonlocal calls
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                calls += 1
                connection.close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()
        producer = Producer(f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        emit(producer)
        fails(producer, "takes no events", failures=5)
        producer.close(0)
        eventually(lambda: THREAD_NAME not in {thread.name for thread in threading.enumerate()})
        server.shutdown(socket.SHUT_RDWR)
        hanging_up.join()

    assert producer.stats.push_failures <= calls <= 2 * producer.stats.push_failures


@contextmanager
def cutting_proxy(server: ValkeyServer) -> Iterator[tuple[str, threading.Event]]:
    """A port that passes on what is sent, and while the event is set cuts instead of answering."""
    cut = threading.Event()
    cut.set()
    done = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(0.05)

        def serve(client: socket.socket) -> None:
            with client, socket.create_connection(("127.0.0.1", server.port)) as upstream:
                client.settimeout(0.05)
                while not done.is_set():
                    try:
                        data = client.recv(1 << 20)
                    except TimeoutError:
                        continue
                    if not data:
                        return
                    upstream.sendall(data)
                    upstream.settimeout(5)
                    reply = upstream.recv(1 << 20)
                    if cut.is_set() and b"-0" in reply:  # an entry's id: it was added
                        return
                    client.sendall(reply)

        def accept() -> None:
            while not done.is_set():
                try:
                    client, _ = listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=serve, args=(client,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", cut
        finally:
            done.set()
            accepting.join()


def test_an_entry_whose_confirmation_is_lost_is_sent_again(private_valkey: ValkeyServer) -> None:
    """Twice on the stream with the same ids, which the worker recognises; counted once."""
    with cutting_proxy(private_valkey) as (url, cut), Producer(url) as producer:
        accepted = emit(producer, 3)
        fails(producer, "takes no events")
        cut.clear()
        assert producer.flush(20)
        stats = producer.stats

    found = [event.id for event in events(private_valkey)]
    assert len(found) >= 6
    assert set(found) == set(accepted)
    assert stats.accepted == stats.pushed == 3


def test_after_a_failure_frames_go_one_by_one(private_valkey: ValkeyServer) -> None:
    """On a slow line a whole batch may never fit into the timeout: progress comes first."""
    with Producer(private_valkey.url, frame_events=1) as producer:
        emit(producer)
        assert producer.flush()
        pusher = producer._background.pusher
        assert pusher is not None
        assert pusher._at_once == FRAMES_PER_PUSH
        private_valkey.kill()
        accepted = emit(producer, 100)
        fails(producer, "takes no events")
        assert pusher._at_once == 1
        private_valkey.start()
        assert producer.flush(20)
        assert pusher._at_once == FRAMES_PER_PUSH

    assert [event.id for event in events(private_valkey)][-100:] == accepted


def test_a_long_outage_is_logged_once_a_minute() -> None:
    """The first at once, the next after a minute, with the number of those in between."""
    now = 0.0
    logged: list[str] = []
    rarely = Rarely(
        lambda message, *arguments: logged.append(message % arguments), clock=lambda: now
    )
    for second in range(130):
        now = float(second)
        rarely("failure %d", second)

    assert logged == [
        "failure 0",
        "failure 60 (and 59 times more since the last of these messages)",
        "failure 120 (and 59 times more since the last of these messages)",
    ]


def test_the_backoff_is_interrupted_by_whoever_flushes() -> None:
    """A flush that comes while the pusher sleeps, or just before, makes it try at once."""
    buffer = Buffer(Bounds(1 << 20, 100, 1 << 20, 100, 0.0))
    buffer.put(b"{}", 1)
    assert buffer.take(100, 1 << 20)
    flushing = threading.Thread(target=buffer.flush, args=(20.0,))
    flushing.start()

    started = time.monotonic()
    assert buffer.pause(30)
    waited = time.monotonic() - started
    buffer.settle()
    flushing.join(20)

    assert waited < 15
    assert not flushing.is_alive()


def test_what_arrives_after_close_gave_up_stays_counted_as_lost() -> None:
    """A push may still succeed then: the counts say more was lost than was, never less."""
    buffer = Buffer(Bounds(1 << 20, 100, 1 << 20, 100, 0.0))
    buffer.put(b"{}", 1)
    assert buffer.take(100, 1 << 20)
    assert buffer.give_up() == [(b"{}", 1)]
    assert buffer.abandon() == 1
    buffer.settle()

    counts = buffer.counts()
    assert (counts.accepted, counts.pushed, counts.abandoned) == (1, 0, 1)
    assert (counts.events, counts.bytes) == (0, 0)


def test_any_exception_is_survived(private_valkey: ValkeyServer) -> None:
    """A bug in a library is no reason to lose the thread, nor what it was to push."""
    with Producer(private_valkey.url) as producer:
        emit(producer)
        assert producer.flush()
        pusher: Any = producer._background.pusher
        stream, pusher._stream = pusher._stream, None  # 'NoneType' has no attribute 'add'
        accepted = emit(producer, 20)
        fails(producer, "AttributeError", failures=2)
        pusher._stream = stream
        assert producer.flush(20)

    assert [event.id for event in events(private_valkey)][1:] == accepted
