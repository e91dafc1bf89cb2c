"""Behind Sentinel: a primary that is replaced under load costs no event that was pushed."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from spoolway.producer import Producer
from spoolway.producer.servers import Servers
from spoolway.schema import DEFAULT_STREAM, new_id
from spoolway.schema.address import redis_address
from spoolway.schema.redis_errors import NoPrimary
from spoolway.worker.host import jobs_pool
from spoolway.worker.progress import STALE_SECONDS
from spoolway.worker.redis_client import Finder
from tests.commands import run
from tests.pushed import events
from tests.servers import eventually, redis_binaries
from tests.servers.sentinel import SentinelGroup
from tests.workers import WorkerProcess, ending, ids, waiting

PASSWORD, SENTINELS_PASSWORD = "p@ss:w/rd%1", "s3nt:inel?"


@contextmanager
def emitting(producer: Producer) -> Iterator[list[UUID]]:
    """Emit from another thread all the while; yields the ids of what is accepted."""
    accepted: list[UUID] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.wait(0.001):
            event_id = new_id()
            if producer.emit({"type": "request", "id": event_id, "body": "x" * 300}):
                accepted.append(event_id)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield accepted
    finally:
        stop.set()
        thread.join()


def all_on_the_stream(producer: Producer) -> None:
    """Wait until nothing is left in its memory, nor on its disk."""
    assert producer.flush(20)
    eventually(lambda: producer.stats.spooled == producer.stats.unspooled, timeout=30)


@pytest.fixture
def group(request: pytest.FixtureRequest, private_folder: Path) -> Iterator[SentinelGroup]:
    """A primary, its replicas and three Sentinels of this test's own: of a label, so many."""
    label, replicas = getattr(request, "param", ("valkey", 1))
    with SentinelGroup(
        redis_binaries()[label],
        private_folder / "group",
        replicas=replicas,
        password=PASSWORD,
        sentinel_password=SENTINELS_PASSWORD,
    ) as started:
        yield started


def test_failover_while_the_primary_lives_loses_nothing_that_was_pushed(
    group: SentinelGroup, tmp_path: Path
) -> None:
    """The old primary goes on confirming what the new one has not got: the producer sees through it.

    And what Sentinel does not know, or does not tell, is one line.
    """
    with Producer(group.url, folder=tmp_path / "proxy") as producer:
        with emitting(producer) as accepted:
            eventually(lambda: producer.stats.pushed > 200)
            before = group.primary
            group.failover()
            after = producer.stats.accepted
            eventually(lambda: producer.stats.pushed > after, timeout=30)
        all_on_the_stream(producer)
    assert group.primary is not before
    assert producer.stats.push_failures > 0, "the old primary had to be left"
    found = [event.id for event in events(group.primary)]
    assert set(accepted) == set(found)

    shown = run("status", "--dir", str(tmp_path), REDIS_URL=group.url)
    assert "entries; " in shown.out
    for wrong, what in (
        (group.url.replace("mymaster", "other"), "(it knows of none)); check that they run"),
        (group.url.replace("s3nt", "s3cret"), "check user and password in REDIS_URL"),
        (group.url.replace("rd%251", "rd%252"), "check user and password in REDIS_URL"),
    ):
        assert wrong != group.url
        line, *_ = run("status", "--dir", str(tmp_path), REDIS_URL=wrong).out.splitlines()
        assert what in line
        assert not any(word in line for word in ("p@ss", "p%40ss", "s3nt", "s3cret"))


@pytest.mark.chaos
@pytest.mark.parametrize(
    "group", [(label, number) for label in redis_binaries() for number in (1, 2)], indirect=True
)
@pytest.mark.parametrize("accident", ["the primary is killed", "SENTINEL FAILOVER"])
def test_replaced_primary_under_load_leaves_every_event_once(
    group: SentinelGroup, accident: str, tmp_path: Path, folder: Path
) -> None:
    """A producer emits, a worker drains, control jobs run: before it, in it, and after it."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    worker = WorkerProcess(database, group.url, folder)
    with ending(worker):
        worker.started()
        with Producer(group.url, folder=tmp_path / "proxy") as producer:
            with emitting(producer) as accepted:
                eventually(lambda: (worker.status() or {})["inserted"] > 500, timeout=20)
                before = group.primary
                if accident == "SENTINEL FAILOVER":
                    group.failover()
                else:
                    before.kill()
                    group.await_other_than(before)
                pushed = producer.stats.pushed
                eventually(lambda: producer.stats.pushed > pushed + 500, timeout=30)
            all_on_the_stream(producer)
            assert producer.stats.push_failures > 0, "the old primary had to be left"
        primary = group.primary
        assert primary is not before
        eventually(lambda: waiting(primary) == 0, timeout=30, what="an empty stream")
        eventually(lambda: set(ids(database)) >= set(accepted), timeout=30)

        async def swept() -> object:
            pool = jobs_pool(group.url)
            try:
                job = await pool.enqueue_job("sweep_stream")
                assert job is not None
                return await job.result(timeout=30)
            finally:
                await pool.aclose(close_connection_pool=True)

        assert isinstance(asyncio.run(swept()), int)
        assert worker.terminate() == 0
        assert not any(word in worker.output() for word in ("p@ss", "p%40ss", "s3nt"))
    found = ids(database)
    assert len(found) == len(set(found))
    assert set(found) == set(accepted)


@pytest.mark.chaos
def test_group_that_the_new_primary_does_not_know_is_made_anew(
    group: SentinelGroup, tmp_path: Path, folder: Path
) -> None:
    """A primary that was promoted before it had the group: it is read from the first entry on."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    worker = WorkerProcess(database, group.url, folder)
    with ending(worker), Producer(group.url, folder=tmp_path / "proxy") as producer:
        worker.started()
        before = group.primary
        before.kill()
        group.await_other_than(before)
        with group.primary.client() as client:
            client.delete(DEFAULT_STREAM)
        accepted = new_id()
        producer.emit({"type": "request", "id": accepted})
        eventually(lambda: ids(database) == [accepted], timeout=30)
        eventually(lambda: (worker.status() or {})["groups_recreated"] == 1)


@contextmanager
def silent(number: int) -> Iterator[str]:
    """The URL of so many Sentinels that take a connection and say nothing."""
    with ExitStack() as opened:
        listeners = [
            opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        hosts = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in listeners)
        yield f"redis+sentinel://{hosts}/mymaster"


def test_producer_waits_for_a_silent_sentinel_no_longer_than_for_a_connection() -> None:
    """Not as long as for a push: meanwhile nothing would be taken to the disk."""
    with silent(2) as url:
        servers = Servers(redis_address(url), connect_timeout=0.2, timeout=30.0)
        began = time.monotonic()
        with pytest.raises(NoPrimary):
            servers.of(DEFAULT_STREAM)
        assert time.monotonic() - began < 10


@pytest.mark.chaos
async def test_worker_asks_silent_sentinels_for_a_few_seconds_and_then_others() -> None:
    """However many there are: its drain loop goes round before it counts as wedged."""
    with silent(12) as url:
        finder = Finder(redis_address(url), DEFAULT_STREAM)
        began = time.monotonic()
        with pytest.raises(NoPrimary):
            await finder.find()
        assert time.monotonic() - began < STALE_SECONDS - 7
        finder.primary = None
        began = time.monotonic()
        await finder.look_again()
        assert time.monotonic() - began < 3, "a command waits for it"


async def test_what_is_no_sentinels_answer_names_no_primary() -> None:
    """Whatever listens there, the worker stays, and asks the next one."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(65536):
            writer.write(b"$1\r\nx\r\n" * said.count(b"*"))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = redis_address(f"redis+sentinel://127.0.0.1:{port}/mymaster")
        with pytest.raises(NoPrimary):
            await Finder(address, DEFAULT_STREAM).find()
        with pytest.raises(NoPrimary):
            await asyncio.to_thread(Servers(address, 2.0, 2.0).of, DEFAULT_STREAM)
