"""The producer with a Redis that works: what is emitted arrives, in frames, and nothing else."""

import asyncio
import gc
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spoolway.producer import HeaderRules, Producer, ProducerStats, Redaction
from spoolway.producer.background import THREAD_NAME
from spoolway.schema import (
    DEFAULT_STREAM,
    Caps,
    ErrorEvent,
    RequestEvent,
    is_uuid7,
    new_id,
    time_of,
)
from tests.pushed import events, frames, json_of, lines_by_frame
from tests.servers import ValkeyServer, eventually


def request(**fields: Any) -> dict[str, Any]:
    """A request event."""
    return {"type": "request", "model_name": "gpt-4o", "outcome": "success", **fields}


def threads() -> list[threading.Thread]:
    """The producers' threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_what_is_emitted_is_on_the_stream(redis_server: ValkeyServer) -> None:
    """On every server: each accepted event is there once, with its columns, after a flush."""
    ids = [new_id() for _ in range(250)]
    with Producer(redis_server.url) as producer:
        for number, event_id in enumerate(ids):
            assert producer.emit(request(id=event_id, prompt_tokens=number, body={"n": number}))
        assert producer.flush()
        found = events(redis_server)
        stats = producer.stats

    assert [event.id for event in found] == ids
    bodies = [json_of(event.body) for event in found if isinstance(event, RequestEvent)]
    assert bodies == [{"n": n} for n in range(250)]
    assert (stats.accepted, stats.pushed, stats.buffered_events, stats.dropped) == (250, 250, 0, 0)


def test_both_kinds_of_event_get_an_id_where_they_have_none(valkey: ValkeyServer) -> None:
    """A missing id, or None, is a new UUIDv7 of now."""
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with Producer(valkey.url) as producer:
        assert producer.emit(request())
        assert producer.emit({"type": "error", "id": None, "error_type": "UpstreamError"})

    first, second = events(valkey)
    assert isinstance(second, ErrorEvent)
    assert is_uuid7(first.id)
    assert before <= time_of(first.id) <= time_of(second.id) <= datetime.now(UTC)


@pytest.mark.parametrize("codec", ["json", "zstd"])
def test_frames_are_what_the_contract_says(valkey: ValkeyServer, codec: Any) -> None:
    """Fields v, codec, n and data; packed or not, the same lines."""
    with Producer(valkey.url, codec=codec) as producer:
        producer.emit(request(body="x" * 10_000))
        producer.emit(request())

    with valkey.client() as client:
        [(_, entry)] = client.xrange(DEFAULT_STREAM)
    assert entry.keys() == {b"v", b"codec", b"n", b"data"}
    assert (entry[b"v"], entry[b"codec"], entry[b"n"]) == (b"1", codec.encode(), b"2")
    assert (len(entry[b"data"]) > 10_000) == (codec == "json")
    assert len(events(valkey)) == 2


def test_frames_are_closed_by_count(valkey: ValkeyServer) -> None:
    """No frame has more events than asked for, and full ones are not kept waiting for others."""
    with Producer(valkey.url, frame_events=10, linger=60) as producer:
        for _ in range(1_000):
            producer.emit(request())
        eventually(lambda: producer.stats.pushed > 990, timeout=20)

    sizes = [len(frame) for frame in frames(valkey)]
    assert max(sizes) == 10
    assert sum(sizes) == 1_000


def test_frames_are_closed_by_bytes(valkey: ValkeyServer) -> None:
    """A frame ends before it gets larger than asked for; one larger event has its own."""
    with Producer(valkey.url, frame_bytes=10_000, linger=60) as producer:
        for n in range(60):
            producer.emit(request(body="x" * (20_000 if n == 30 else 3_000)))
        eventually(lambda: producer.stats.pushed >= 55, timeout=20)

    sizes = [[len(line) for line in lines] for lines in lines_by_frame(valkey)]
    assert all(sum(frame) <= 10_000 or len(frame) == 1 for frame in sizes)
    assert sum(map(len, sizes)) == 60
    assert max(map(len, sizes)) == 3


def test_a_lone_event_leaves_after_the_linger(valkey: ValkeyServer) -> None:
    """Without a flush and without company, an event waits for `linger` and no longer."""
    with Producer(valkey.url, linger=0.2) as producer:
        started = time.monotonic()
        producer.emit(request())
        eventually(lambda: producer.stats.pushed == 1)
        waited = time.monotonic() - started

    assert waited >= 0.2


def test_events_that_come_together_share_a_frame(valkey: ValkeyServer) -> None:
    """Within the linger they wait for each other; a flush ends the wait."""
    with Producer(valkey.url, linger=60) as producer:
        for _ in range(5):
            producer.emit(request())
        assert producer.flush()

    assert [len(frame) for frame in frames(valkey)] == [5]


def test_the_caller_may_change_what_it_has_emitted(valkey: ValkeyServer) -> None:
    """The event is taken as it was, and the caller's objects are left as they were."""
    event = request(headers={"Authorization": "secret"}, body={"messages": ["first"]})
    with Producer(valkey.url) as producer:
        producer.emit(event)
        assert event == request(headers={"Authorization": "secret"}, body={"messages": ["first"]})
        event["body"]["messages"].append("second")

    [found] = events(valkey)
    assert isinstance(found, RequestEvent)
    assert json_of(found.body) == {"messages": ["first"]}


def test_no_secret_of_a_header_reaches_redis(valkey: ValkeyServer) -> None:
    """Sanitised before it is buffered: in the column, in unknown ones, in nested places."""
    secret = "sk-hunter2"
    redaction = Redaction(headers=HeaderRules(names=["X-Mine"]))
    with Producer(valkey.url, codec="json", redaction=redaction) as producer:
        producer.emit(
            request(
                headers=[
                    (b"authorization", secret.encode()),
                    (b"host", b"h"),
                    (b"x-mine", b"sk-h"),
                ],
                backend_attempts=[{"headers": {"api-key": secret}}],
                upstream_headers={"Cookie": secret},
            )
        )
        producer.emit({"type": "error", "headers": {"x-api-key": secret}})
        producer.emit({"type": "error", "extra_context": {"Headers": {"x-api-key": secret}}})
        with producer.record(headers={"x-api-key": secret}) as record:
            record.error(request_headers={"x-api-key": secret})

    everything = b"".join(line for frame in lines_by_frame(valkey) for line in frame)
    assert b"sk-h" not in everything
    assert everything.count(b"[redacted]") == 8
    assert b'"host":"h"' in everything


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (request(id=uuid4()), "is not a UUIDv7"),
        (request(id="5\n6"), "is not a UUIDv7"),
        (request(id=5), "is not a UUIDv7"),
        ({"model_name": "m"}, 'field "type" must be "request" or "error", got nothing'),
        ({"type": "span"}, "got 'span'"),
        ({"type": ["request"]}, 'field "type" must be'),
        ("no mapping", "an event is a mapping"),
        (None, "an event is a mapping"),
    ],
)
def test_what_is_no_event_is_rejected_with_a_reason(
    event: Any, reason: str, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """False, a count, and one line that tells what to do; the others go on."""
    with Producer(valkey.url) as producer:
        assert not producer.emit(event)
        assert producer.emit(request())
        stats = producer.stats

    assert (stats.accepted, stats.rejected, stats.dropped) == (1, 1, 0)
    assert len(events(valkey)) == 1
    [message] = [record.getMessage() for record in caplog.records]
    assert reason in message
    assert "\n" not in message


class Hostile(dict[str, Any]):
    """A mapping that fails when it is read."""

    def get(self, *_: object) -> Any:
        raise RuntimeError("secret content")


def test_rejections_are_logged_once_a_minute_and_without_content(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand bad events are one line, and an exception's own text is not in it."""
    with Producer(valkey.url) as producer:
        for _ in range(1_000):
            assert not producer.emit(Hostile())
        assert producer.stats.rejected == 1_000

    [message] = [record.getMessage() for record in caplog.records]
    assert "RuntimeError" in message
    assert "secret content" not in message


def test_an_id_may_be_text(valkey: ValkeyServer) -> None:
    """An id that came through JSON is as good."""
    event_id = new_id()
    with Producer(valkey.url) as producer:
        assert producer.emit(request(id=str(event_id)))

    assert [event.id for event in events(valkey)] == [event_id]


def test_events_over_the_cap_keep_their_beginning(valkey: ValkeyServer) -> None:
    """The caps of the producer hold, and what they cut is listed."""
    with Producer(valkey.url, caps=Caps(column_bytes=1024, event_bytes=4096)) as producer:
        producer.emit(request(body={"text": "x" * 5_000}))

    [event] = events(valkey)
    assert isinstance(event, RequestEvent)
    assert json_of(event.truncated) == ["body"]
    assert json_of(event.body)["_truncated"] is True


def test_threads_emit_at_once_and_nothing_is_lost(valkey: ValkeyServer) -> None:
    """Eight threads and as many tasks, one producer: every event once."""
    each = 500

    async def emit_from_tasks(producer: Producer) -> list[UUID]:
        async def task() -> list[UUID]:
            ids = []
            for _ in range(each):
                ids.append(new_id())
                assert producer.emit(request(id=ids[-1]))
                await asyncio.sleep(0)
            return ids

        return list(chain(*await asyncio.gather(*(task() for _ in range(4)))))

    def emit(producer: Producer) -> list[UUID]:
        ids = [new_id() for _ in range(each)]
        for event_id in ids:
            assert producer.emit(request(id=event_id))
        return ids

    with Producer(valkey.url) as producer:
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(emit, producer) for _ in range(8)]
            ids = asyncio.run(emit_from_tasks(producer))
            ids += chain(*(future.result() for future in futures))
        assert producer.flush(30)
        assert len(threads()) == 1
        stats = producer.stats

    assert sorted(event.id for event in events(valkey)) == sorted(ids)
    assert stats.accepted == stats.pushed == len(ids) == 12 * each


def test_signal_handlers_and_finalizers_may_emit(valkey: ValkeyServer) -> None:
    """They run on a thread that may be inside emit() already: no deadlock, and exact counts."""
    interrupted: list[bool] = []
    finalized: list[bool] = []

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            finalized.append(producer.emit(request(path="/finalizer")))

    def handler(*_: object) -> None:
        interrupted.append(producer.emit(request(path="/signal")))

    with Producer(valkey.url) as producer:
        previous = signal.signal(signal.SIGALRM, handler)
        old_threshold = gc.get_threshold()
        gc.set_threshold(20)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for _ in range(3_000):
                Garbage()
                producer.emit(request(path="/emit"))
            eventually(lambda: interrupted)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            gc.set_threshold(*old_threshold)
        # gc.collect() does nothing while the other thread collects: once is not enough.
        eventually(lambda: [gc.collect()] and len(finalized) == 3_000)
        assert producer.flush(30)
        stats = producer.stats

    paths = [event.path for event in events(valkey) if isinstance(event, RequestEvent)]
    assert paths.count("/emit") == paths.count("/finalizer") == 3_000
    assert paths.count("/signal") == len(interrupted)
    assert stats.accepted == stats.pushed == len(paths)
    assert (stats.buffered_events, stats.buffered_bytes) == (0, 0)


def test_nothing_runs_before_the_first_event(valkey: ValkeyServer) -> None:
    """A producer that is not used has no thread and no connection."""
    with valkey.client() as client:
        before = len(client.client_list())
        with Producer(valkey.url) as producer:
            assert threads() == []
            assert len(client.client_list()) == before
            assert producer.flush()
            assert producer.stats == ProducerStats(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None)
            producer.emit(request())
            assert len(threads()) == 1
            assert threads()[0].daemon
            assert producer.flush()
            assert len(client.client_list()) == before + 1
    assert threads() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("spools", [False, True])
def test_an_idle_producer_uses_no_cpu(valkey: ValkeyServer, tmp_path: Path, spools: bool) -> None:
    """Its thread sleeps until there is something to do: it does not look whether there is."""
    with Producer(valkey.url, folder=tmp_path if spools else None) as producer:
        producer.emit(request())
        assert producer.flush()
        [thread] = threads()
        status = Path(f"/proc/self/task/{thread.native_id}/status")

        def times_scheduled() -> int:
            lines = status.read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

        before = _settled(times_scheduled)
        time.sleep(0.5)  # that something does not happen takes time to see
        assert times_scheduled() == before


def _settled(read: Callable[[], int]) -> int:
    """Read until two readings in a row are the same."""
    last = -1

    def same() -> bool:
        nonlocal last
        before, last = last, read()
        return before == last

    eventually(same, every=0.05)
    return last


def test_flush_waits_for_what_was_accepted_before_it(valkey: ValkeyServer) -> None:
    """Other threads that go on emitting do not keep it from returning."""
    stop = threading.Event()
    with Producer(valkey.url) as producer, ThreadPoolExecutor(1) as pool:

        def emit() -> None:
            while not stop.wait(0.0002):
                producer.emit(request())

        busy = pool.submit(emit)
        try:
            for _ in range(20):
                event_id = new_id()
                producer.emit(request(id=event_id))
                assert producer.flush(10)
                assert event_id in {event.id for event in events(valkey)}
        finally:
            stop.set()
        busy.result()


def test_close_sends_what_is_left_and_ends_the_thread(valkey: ValkeyServer) -> None:
    """Without a flush before; a second close says the same, an event after it is dropped."""
    producer = Producer(valkey.url, linger=60)
    for _ in range(50):
        producer.emit(request())

    assert producer.close()
    assert producer.close()
    assert not producer.emit(request())
    assert threads() == []
    assert len(events(valkey)) == 50
    assert (producer.stats.accepted, producer.stats.pushed, producer.stats.dropped) == (50, 50, 1)


def test_a_producer_that_nobody_holds_sends_what_is_left(valkey: ValkeyServer) -> None:
    """A forgotten close() costs neither events nor a thread for ever."""

    def emit_and_forget() -> None:
        Producer(valkey.url, linger=60).emit(request())

    emit_and_forget()
    gc.collect()

    eventually(lambda: len(events(valkey)) == 1)
    eventually(lambda: threads() == [])


@pytest.mark.parametrize("ending", ["pass", "del producer", "sys.exit(3)", "raise ValueError"])
def test_the_end_of_the_process_sends_what_is_left(valkey: ValkeyServer, ending: str) -> None:
    """A process that ends in any orderly way takes a moment to hand over its events."""
    code = f"""
        import sys
        from spoolway.producer import Producer
        producer = Producer({valkey.url!r}, linger=60)
        for _ in range(150):
            producer.emit({{"type": "request"}})
        {ending}
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], timeout=30, check=False, capture_output=True
    )

    assert len(events(valkey)) == 150


def test_a_process_without_redis_ends_soon() -> None:
    """At exit it waits for two seconds and says what is lost, instead of hanging."""
    code = """
        from spoolway.producer import Producer
        producer = Producer("redis://:hunter2@127.0.0.1:1/0")
        producer.emit({"type": "request"})
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        timeout=30,
        check=True,
        capture_output=True,
        text=True,
    )

    assert time.monotonic() - started < 10
    assert "1 events are lost" in done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_says_where_to_push(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REDIS_URL and SPOOLWAY_STREAM count where the code says nothing."""
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("SPOOLWAY_STREAM", "elsewhere")
    with Producer() as producer:
        producer.emit(request())

    assert len(events(valkey, "elsewhere")) == 1


def test_a_unix_socket_works(start_valkey: Callable[..., ValkeyServer]) -> None:
    """unix:// with a password and a database, as redis-py writes it."""
    server = start_valkey(unix_socket=True, password="p@ss:w/rd%")
    with Producer(server.url) as producer:
        producer.emit(request())

    assert len(events(server)) == 1


def test_tls_works(tls_server: ValkeyServer) -> None:
    """rediss:// with a private certificate authority."""
    with Producer(tls_server.url) as producer:
        producer.emit(request())
        assert producer.flush()

    assert len(events(tls_server)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"redis_url": "localhost:6379"}, "the Redis URL has"),
        ({"redis_url": "http://:hunter2@localhost"}, "the Redis URL has the scheme 'http'"),
        ({"redis_url": "redis://:hunter2@host:port/0"}, "the Redis URL is malformed"),
        ({"redis_url": "redis://:12/hunter2@host/0"}, "names a database that is no number"),
        ({"redis_url": "unix://"}, "names no socket"),
        ({"redis_url": "redis://:hunter2@h/0?socket_timeout=soon"}, "'socket_timeout'"),
        ({"redis_url": "redis://:hunter2@h/0?nonsense=1"}, "nonsense"),
        ({"codec": "gzip"}, "codec"),
        ({"frame_events": 0}, "frame_events"),
        ({"frame_bytes": 1 << 30}, "frame_bytes"),
        ({"linger": -1}, "linger"),
        ({"max_buffer_events": 0}, "max_buffer_events"),
        ({"folder": "a\0b"}, "folder"),
        ({"max_spool_bytes": 0}, "max_spool_bytes"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    settings: dict[str, Any], message: str
) -> None:
    """One line that says what and what was expected, when the proxy starts; no password in it."""
    with pytest.raises(ValueError) as caught:
        Producer(**settings)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_emit_is_quick(valkey: ValkeyServer) -> None:
    """A request of 4 KB with eight headers costs the caller microseconds.

    The bound is ten times what was measured, for machines that are busy with other tests.
    """
    event = request(
        headers={f"X-Header-{n}": "v" * 20 for n in range(7)} | {"Authorization": "secret"},
        body={"messages": [{"role": "user", "content": "word " * 300}], "stop": None},
        response={"choices": [{"message": {"content": "token " * 300}}], "usage": {"total": 5}},
    )
    with Producer(valkey.url) as producer:
        taken = []
        for _ in range(2_000):
            started = time.perf_counter_ns()
            producer.emit(event)
            taken.append(time.perf_counter_ns() - started)
        assert producer.flush(30)

    assert sorted(taken)[1_000] < 200_000


class Node:
    """An object of the proxy's own."""


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**64, -(2**63) - 1, 10**400])
    | st.floats()
    | st.decimals()
    | st.text()
    | st.text(st.characters(categories=["Cs", "L"]))
    | st.sampled_from(["\0", "\ud800", "\ud83d\ude00", "a\0b", "\\u0000"])
    | st.binary()
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.builds(Node)
)
KEYS = (
    st.text(max_size=10)
    | st.sampled_from(["headers", "X-Headers", "Authorization", "\ud800", "\0"])
    | st.integers()
    | st.none()
    | st.binary(max_size=5)
    | st.tuples(st.integers())
)


def _cyclic(value: object) -> object:
    holder: list[object] = [value]
    holder.append(holder)
    return holder


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(_cyclic, inner)
    ),
    max_leaves=10,
)
COLUMNS = st.sampled_from(
    [*RequestEvent.__struct_fields__, *ErrorEvent.__struct_fields__, "upstream_headers", "other"]
)


@pytest.fixture(scope="module")
def property_server(redis_servers: Callable[[str], ValkeyServer]) -> ValkeyServer:
    """The shared server, for many examples of one test."""
    return redis_servers("valkey")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(["request", "error"]),
    fields=st.dictionaries(COLUMNS | KEYS, VALUES, max_size=6),
)
@example(kind="request", fields={"headers": {"a": Node()}, "body": float("nan"), 5: date.min})
@example(kind="error", fields={"headers": [(b"\xff", b"\xff")], "extra_context": {1: Decimal(5)}})
def test_whatever_the_fields_are_the_event_arrives(
    property_server: ValkeyServer, kind: str, fields: dict[Any, Any]
) -> None:
    """No value of any column is a reason to lose an event, to raise, or to break a frame."""
    event_id = new_id()
    stream = str(event_id)
    with Producer(property_server.url, stream=stream, linger=0) as producer:
        accepted = producer.emit({**fields, "type": kind, "id": event_id})
        assert producer.flush()
        rejected = producer.stats.rejected

    [event] = events(property_server, stream)
    assert accepted
    assert rejected == 0
    assert event.id == event_id
