"""What is around the drain loop: arq as the host, control jobs, the sweep, health."""

import asyncio
import signal
import subprocess
import time
from pathlib import Path

import pytest
from arq.jobs import Job

from spoolway.schema import DEFAULT_STREAM
from spoolway.worker.host import jobs_pool
from spoolway.worker.stream import Stream
from tests.servers import ValkeyServer, eventually
from tests.workers import (
    BIN,
    GROUP,
    WorkerProcess,
    count,
    drained,
    ending,
    push,
    request_line,
    sqlite_in_chaos,
)


@sqlite_in_chaos
def test_arq_command_starts_the_same_worker(
    database: str, private_valkey: ValkeyServer, folder: Path
) -> None:
    """`arq spoolway.worker.settings.WorkerSettings` drains, survives Valkey's death, stops at 0."""
    worker = WorkerProcess(
        database,
        private_valkey.url,
        folder,
        command=("arq", "spoolway.worker.settings.WorkerSettings"),
    )
    with ending(worker):
        worker.started()
        push(private_valkey, [request_line() for _ in range(200)])
        drained(private_valkey, worker)
        private_valkey.kill()
        eventually(lambda: (worker.status() or {})["redis_failures"] > 0, timeout=15)
        private_valkey.start()
        push(private_valkey, [request_line() for _ in range(200)])
        drained(private_valkey, worker, timeout=10)
        assert worker.terminate(timeout=10) == 0
    assert count(database) == 400


def test_control_jobs_are_json_and_run_by_arq(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A control job that is pushed as JSON is run; nothing that arq keeps in Redis is a pickle."""
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder)
    with ending(worker):
        worker.started()
        push(valkey, [request_line()])
        drained(valkey, worker)

        async def sweep() -> object:
            pool = jobs_pool(valkey.url)
            try:
                job = await pool.enqueue_job("sweep_stream")
                assert isinstance(job, Job)
                found = await job.result(timeout=10)
                stored = [
                    await pool.get(key)
                    for key in await pool.keys("arq:*")
                    if await pool.type(key) == b"string"
                ]
                assert stored
                assert not any(value.startswith(b"\x80") for value in stored if value)
                return found
            finally:
                await pool.aclose(close_connection_pool=True)

        assert asyncio.run(sweep()) == 0


def test_acknowledged_entries_that_a_crash_left_are_swept_and_no_others(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Died between XACK and XDEL: the sweep deletes those, never pending or undelivered ones."""
    push(valkey, [request_line() for _ in range(700)])
    with valkey.client() as client:
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        ((_, entries),) = client.xreadgroup(GROUP, "crashed", {DEFAULT_STREAM: ">"}, count=5)
        delivered = [entry_id for entry_id, _ in entries]
        client.xack(DEFAULT_STREAM, GROUP, *delivered[:2], delivered[4])

        async def sweep() -> int:
            stream = Stream(valkey.url, stream=DEFAULT_STREAM, group=GROUP, consumer="x")
            try:
                return await stream.sweep()
            finally:
                await stream.close()

        assert asyncio.run(sweep()) == 2
        left = [entry_id for entry_id, _ in client.xrange(DEFAULT_STREAM)]
        assert left[:3] == delivered[2:], "pending entries, and what lies between them, stay"
        assert len(left) == 5
        client.xgroup_destroy(DEFAULT_STREAM, GROUP)
        assert asyncio.run(sweep()) == 0, "without a group nothing is known to be done"
        client.xgroup_create(DEFAULT_STREAM, GROUP, id="0")
        assert asyncio.run(sweep()) == 0, "a new group has been given nothing yet"
        assert len(client.xrange(DEFAULT_STREAM)) == 5


def health_of(folder: Path) -> int:
    """The exit code of `spoolway health`."""
    command = [str(BIN / "spoolway"), "health", "--dir", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.chaos
def test_wedged_worker_is_unhealthy(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Health comes from progress: a suspended worker turns red within 15 s, a live one is green."""
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder)
    with ending(worker):
        assert health_of(folder) == 1
        worker.started()
        assert health_of(folder) == 0
        assert worker.process is not None
        worker.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        eventually(lambda: health_of(folder) == 1, timeout=25, every=0.5)
        assert time.monotonic() - began <= 18  # 15 s, and the second or two the file was old
        worker.process.send_signal(signal.SIGCONT)
        eventually(lambda: health_of(folder) == 0, timeout=10, every=0.2)


def test_health_is_about_the_workers_that_live(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """A killed worker's status file does not speak for it: red alone, no matter beside a live one."""
    first = WorkerProcess(newest_postgres_url, valkey.url, folder)
    second = WorkerProcess(newest_postgres_url, valkey.url, folder)
    with ending(first, second):
        first.started()
        second.started()
        second.kill()
        assert health_of(folder) == 0
        first.kill()
        assert health_of(folder) == 1
