"""Real workers for tests: the installed command as a process, and what it did to the database."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
import redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from spoolway.schema import DEFAULT_STREAM, FrameEncoder, encode_line, new_id
from spoolway.spool import SpoolFolder
from spoolway.worker.config import database_url
from tests.forked import Forked, forks
from tests.servers import ValkeyServer, eventually

BIN = Path(sys.executable).parent
sqlite_in_chaos = pytest.mark.parametrize(
    "database",
    ["postgresql", pytest.param("sqlite", marks=pytest.mark.chaos)],
    indirect=True,
)
"""For what goes the same way on both: `make test` has time for one of them."""
GROUP = "spoolway"


class WorkerProcess:
    """`spoolway worker` (or another command) with settings from the environment alone."""

    def __init__(
        self,
        database: str,
        redis_url: str,
        folder: Path,
        *,
        command: Sequence[str] = ("spoolway", "worker"),
        **environment: str,
    ) -> None:
        self.folder = folder
        self.log = folder.with_suffix(f".{os.urandom(3).hex()}.log")
        self._command = list(command)
        self._forks = forks(command)
        self._environment = {
            **_without_settings(os.environ),
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "SPOOLWAY_DIR": str(folder),
            "SPOOLWAY_LOG_FORMAT": "json",
            **environment,
        }
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def anew(self) -> "WorkerProcess":
        """Start it as an operator does, however long that takes; see `forked`."""
        self._forks = False
        return self

    def start(self) -> "WorkerProcess":
        """Start it; returns at once."""
        program, *arguments = self._command
        with self.log.open("ab") as log:
            self.process = (
                Forked(
                    self._command, env=self._environment, stdout=log.fileno(), stderr=log.fileno()
                )
                if self._forks
                else subprocess.Popen(
                    [str(BIN / program), *arguments],
                    env=self._environment,
                    stdout=log,
                    stderr=log,
                )
            )
        return self

    def started(self) -> "WorkerProcess":
        """Start it and return when its drain loop has gone round."""
        self.start()
        eventually(self.status, timeout=30, what="the worker's status file")
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def status(self) -> dict[str, Any] | None:
        """What the worker of this process says of itself, or None if it has not yet."""
        assert self.exit_code is None, f"the worker ended: {self.output()}"
        for file in self.folder.glob("worker-*.json"):
            status: dict[str, Any] = orjson.loads(file.read_bytes())
            if status["pid"] == self.pid:
                return status
        return None

    def terminate(self, timeout: float = 10.0) -> int:
        """Send SIGTERM and return the exit code; fails after `timeout` seconds."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def output(self) -> str:
        """Everything it has printed."""
        return self.log.read_text()

    def logged(self) -> list[dict[str, Any]]:
        """Its log records."""
        return [orjson.loads(line) for line in self.output().splitlines() if line.startswith("{")]


@contextmanager
def ending(*workers: WorkerProcess) -> Iterator[None]:
    """Kill what is still running at the end, however the test ends."""
    try:
        yield
    finally:
        for worker in workers:
            if worker.process is not None and worker.exit_code is None:
                worker.kill()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    ours = ("SPOOLWAY_", "DATABASE_", "REDIS_")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


def request_line(**fields: object) -> bytes:
    """One request event as a JSON line."""
    return encode_line({"type": "request", "id": new_id(), "outcome": "success", **fields})


def push(server: ValkeyServer, lines: Sequence[bytes], *, per_frame: int = 100) -> None:
    """Put lines on the stream as a producer does."""
    encoder = FrameEncoder()
    with server.client() as client, client.pipeline(transaction=False) as pipeline:
        for start in range(0, len(lines), per_frame):
            part = lines[start : start + per_frame]
            pipeline.xadd(DEFAULT_STREAM, dict(encoder.encode(part, len(part))))
            if start % (50 * per_frame) == 0:
                pipeline.execute()
        pipeline.execute()


def waiting(server: ValkeyServer) -> int:
    """Entries in the stream: not yet read, or not yet acknowledged."""
    with server.client() as client:
        return int(client.xlen(DEFAULT_STREAM))


def pending(server: ValkeyServer) -> int:
    """Entries that were delivered and not acknowledged."""
    with server.client() as client:
        try:
            return int(client.xpending(DEFAULT_STREAM, GROUP)["pending"])
        except redis.ResponseError:
            return 0


def spooled(folder: Path) -> int:
    """Events in the spool of a state folder."""
    return sum(file.count_events() for file in SpoolFolder(folder / "spool").segments())


def rows(database: str, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL on either database."""

    async def run() -> list[tuple[Any, ...]]:
        engine = create_async_engine(database_url(database))
        try:
            async with engine.begin() as connection:
                result = await connection.execute(text(sql))
                return [tuple(row) for row in result] if result.returns_rows else []
        finally:
            await engine.dispose()

    return asyncio.run(run())


def count(database: str, table: str = "request_logs") -> int:
    """Rows of a table."""
    return int(rows(database, f"SELECT count(*) FROM {table}")[0][0])


def ids(database: str, table: str = "request_logs") -> list[UUID]:
    """Ids in a table."""
    return [UUID(str(row[0])) for row in rows(database, f"SELECT id FROM {table}")]


def drained(server: ValkeyServer, worker: WorkerProcess, timeout: float = 60.0) -> None:
    """Wait until the stream is empty: everything was committed and acknowledged."""

    def empty() -> bool:
        assert worker.exit_code is None, f"the worker ended: {worker.output()}"
        return waiting(server) == 0

    eventually(empty, timeout=timeout, every=0.05, what="an empty stream")
