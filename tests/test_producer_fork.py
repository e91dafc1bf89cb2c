"""The producer in processes that fork: each has its own events, thread, connection and locks."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any
from uuid import UUID

import pytest

from spoolway.producer import Producer
from spoolway.producer.background import THREAD_NAME
from spoolway.schema import RequestEvent
from tests.pushed import events
from tests.servers import ValkeyServer, eventually

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # Python 3.12 and later warn of what is tested here.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def request(path: str) -> dict[str, Any]:
    """A request event that says where it was emitted."""
    return {"type": "request", "path": path}


def in_child(work: Callable[[], object], timeout: float = 30.0) -> int:
    """Fork, do `work` in the child, and return its exit code: 0 if it returned something true.

    A child that hangs is killed, and the code is that of the signal.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)  # as multiprocessing ends: without atexit, without pytest's own end
    return _exit_code(pid, timeout)


def _exit_code(pid: int, timeout: float) -> int:
    status = 0

    def ended() -> bool:
        nonlocal status
        done, status = os.waitpid(pid, os.WNOHANG)
        return done == pid

    try:
        eventually(ended, timeout=timeout, what=f"the child {pid} to end")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return os.waitstatus_to_exitcode(status)


def paths(server: ValkeyServer) -> list[str]:
    """Where the events on the stream were emitted, sorted."""
    return sorted(str(e.path) for e in events(server) if isinstance(e, RequestEvent))


def threads() -> list[threading.Thread]:
    """The producers' threads of this process."""
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_a_child_starts_empty_and_sends_its_own(valkey: ValkeyServer) -> None:
    """What the parent had in its buffer is sent by the parent, once; counts begin at zero."""
    with Producer(valkey.url, linger=60) as producer:
        for _ in range(10):
            producer.emit(request("parent"))

        def child() -> bool:
            empty = producer.stats.accepted == producer.stats.buffered_events == 0
            no_thread = threads() == []
            for _ in range(5):
                producer.emit(request("child"))
            return empty and no_thread and producer.close() and producer.stats.pushed == 5

        assert in_child(child) == 0
        assert producer.stats.buffered_events == 10
        assert producer.flush()

    assert paths(valkey) == ["child"] * 5 + ["parent"] * 10


def test_the_parents_connection_stays_the_parents(valkey: ValkeyServer) -> None:
    """A child neither uses nor closes it: both go on, over different ones."""
    with Producer(valkey.url) as producer, valkey.client() as client:
        producer.emit(request("parent"))
        assert producer.flush()
        before = {c["id"] for c in client.client_list()}

        assert in_child(lambda: producer.emit(request("child")) and producer.flush()) == 0
        producer.emit(request("parent"))
        assert producer.flush()

        assert {c["id"] for c in client.client_list()} == before
    assert paths(valkey) == ["child", "parent", "parent"]


@pytest.mark.parametrize("lock", ["buffer", "starting", "log"])
def test_a_fork_while_a_lock_is_held_does_not_hang_the_child(
    valkey: ValkeyServer, lock: str
) -> None:
    """Another thread may be anywhere when a process forks; the child has locks of its own."""
    with Producer(valkey.url) as producer:
        held: dict[str, Any] = {
            "buffer": producer._background.buffer._lock,
            "starting": producer._background._starting,
            "log": producer._say_dropped._lock,
        }
        holding, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with held[lock]:
                holding.set()
                let_go.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            assert holding.wait(10)
            assert in_child(lambda: producer.emit(request("child")) and producer.close()) == 0
        finally:
            let_go.set()
            holder.join()

    assert paths(valkey) == ["child"]


def test_forks_in_the_middle_of_everything(valkey: ValkeyServer) -> None:
    """While four threads emit and frames are pushed: every child works, and the numbers are exact."""
    children, stop = 20, threading.Event()
    emitted = [0, 0, 0, 0]
    with Producer(valkey.url, linger=0.001) as producer:

        def emit(number: int) -> None:
            while not stop.wait(0.0005):
                emitted[number] += producer.emit(request("parent"))

        emitting = [threading.Thread(target=emit, args=(number,)) for number in range(4)]
        for thread in emitting:
            thread.start()
        try:
            for _ in range(children):
                assert in_child(lambda: producer.emit(request("child")) and producer.close()) == 0
        finally:
            stop.set()
            for thread in emitting:
                thread.join()
        assert producer.flush(30)
        assert producer.stats.accepted == sum(emitted)

    found = paths(valkey)
    assert found.count("child") == children
    assert found.count("parent") == sum(emitted)


def test_ids_of_parent_and_child_differ(valkey: ValkeyServer) -> None:
    """Both mint from the same clock; the random part is the kernel's, not a copied generator's."""
    with Producer(valkey.url) as producer:
        pids = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                for _ in range(500):
                    producer.emit(request("x"))
                os._exit(0 if producer.close() else 1)
            pids.append(pid)
        for _ in range(500):
            producer.emit(request("x"))
        assert [_exit_code(pid, 30) for pid in pids] == [0] * 4
        assert producer.flush()

    ids: list[UUID] = [event.id for event in events(valkey)]
    assert len(set(ids)) == len(ids) == 2_500


def test_a_grandchild_works_too(valkey: ValkeyServer) -> None:
    """A server that forks a worker that forks."""
    with Producer(valkey.url) as producer:
        producer.emit(request("parent"))

        def child() -> bool:
            producer.emit(request("child"))
            return (
                in_child(lambda: producer.emit(request("grandchild")) and producer.close()) == 0
                and producer.close()
            )

        assert in_child(child) == 0

    assert paths(valkey) == ["child", "grandchild", "parent"]


def test_a_closed_producer_is_closed_in_the_child(valkey: ValkeyServer) -> None:
    """The fork does not open it again."""
    producer = Producer(valkey.url)
    producer.close()

    assert in_child(lambda: not producer.emit(request("child"))) == 0


def test_a_child_that_exits_sends_its_own_and_says_nothing(valkey: ValkeyServer) -> None:
    """`sys.exit` in a forking server's worker runs `atexit`: the parent's events are not its loss."""
    code = f"""
import os, sys
from spoolway.producer import Producer
producer = Producer({valkey.url!r}, linger=60)
producer.emit({{"type": "request", "path": "parent"}})
if os.fork() == 0:
    producer.emit({{"type": "request", "path": "child"}})
    sys.exit()
os.wait()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert done.stderr == ""
    assert paths(valkey) == ["child", "parent"]


_of_the_module: Producer | None = None


def _worker(url: str, number: int) -> int:
    """What a process of multiprocessing does: it emits and ends, and never closes."""
    global _of_the_module  # noqa: PLW0603 - as a proxy keeps its producer
    if _of_the_module is None:
        _of_the_module = Producer(url, linger=60)
    _of_the_module.emit(request(f"worker-{number}"))
    return os.getpid()


@pytest.fixture(params=["fork", "forkserver", "spawn"])
def context(request: pytest.FixtureRequest) -> Iterator[BaseContext]:
    """Each of multiprocessing's ways to start a process."""
    yield multiprocessing.get_context(request.param)
    global _of_the_module  # noqa: PLW0603 - as above
    _of_the_module = None


def test_a_process_of_multiprocessing_sends_what_is_left(
    valkey: ValkeyServer, context: Any
) -> None:
    """It ends without calling `atexit` where it was forked: its events are sent all the same."""
    processes = [context.Process(target=_worker, args=(valkey.url, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert paths(valkey) == ["worker-0", "worker-1", "worker-2"]


def test_a_pool_that_inherits_a_used_producer_works(valkey: ValkeyServer) -> None:
    """As a pre-forking server that has loaded the application, and used it, before it forks."""
    global _of_the_module  # noqa: PLW0603 - as above
    _of_the_module = Producer(valkey.url, linger=60)
    try:
        _worker(valkey.url, 0)
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            pids = set(pool.map(_worker, [valkey.url] * 20, range(1, 21)))
        assert os.getpid() not in pids
        assert _of_the_module.close()
    finally:
        _of_the_module = None

    assert paths(valkey) == sorted(f"worker-{n}" for n in range(21))


def test_a_child_without_redis_ends_soon() -> None:
    """What the end of a process waits for Redis is bounded in a forked one too."""
    started = time.monotonic()
    process = multiprocessing.get_context("fork").Process(
        target=_worker, args=("redis://127.0.0.1:1/0", 1)
    )
    process.start()
    process.join(30)

    assert process.exitcode == 0
    assert time.monotonic() - started < 10
