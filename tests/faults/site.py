"""Where a fault happens: one stream, one database, a folder, the workers on them, and the ledger.

A test breaks something in between, and ends with `proven`: the fault happened, and nothing came of it.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spoolway.schema import DEFAULT_STREAM, encode_line, new_id
from spoolway.spool import SpoolFolder
from spoolway.worker.stream import Stream
from tests.faults.oracle import Found, Ledger, conserved, key_and_hash, verdict
from tests.servers import ValkeyServer, eventually
from tests.workers import BIN, GROUP, WorkerProcess, push, request_line, rows, waiting

HERE = Path(__file__).parent


@dataclass
class Site:
    """Everything that one test breaks and looks at."""

    database: str
    valkey: ValkeyServer
    folder: Path
    """SPOOLWAY_DIR of its workers, unless they get one of their own."""
    reached_at: str = ""
    """Where its workers find the database, when there is something in between."""
    environment: dict[str, str] = field(default_factory=dict)
    """Settings of all its workers."""
    crashes: bool = False
    """Whether entries may be left that were acknowledged and not deleted. The control job that
    deletes them once a minute is then run when they are waited for."""
    ledger: Ledger = field(default_factory=Ledger)
    workers: list[WorkerProcess] = field(default_factory=list)
    proxies: list[Path] = field(default_factory=list)
    """Folders of producers."""

    # What is sent.

    def send(self, lines: Sequence[bytes], *, per_frame: int = 100) -> list[bytes]:
        """Push lines, and note that they were accepted."""
        push(self.valkey, lines, per_frame=per_frame)
        self.ledger.accept(lines)
        return list(lines)

    def send_requests(self, count: int, *, per_frame: int = 100, **fields: object) -> list[bytes]:
        """Push so many requests, each with a body of its own."""
        start = len(self.ledger.accepted)
        return self.send(
            [
                request_line(model_name="gpt-4o", body={"n": n, "text": "lorem ipsum"}, **fields)
                for n in range(start, start + count)
            ],
            per_frame=per_frame,
        )

    # Who works on it.

    def worker(
        self, *launcher: str, folder: Path | None = None, **environment: str
    ) -> WorkerProcess:
        """Make a worker, not started; killed at the end of the test. See `launched`."""
        worker = WorkerProcess(
            self.reached_at or self.database,
            self.valkey.url,
            folder or self.folder,
            command=launched(*launcher, command=("spoolway", "worker")),
            **self.environment | environment,
        )
        self.workers.append(worker)
        return worker

    def command(self, *command: str, **environment: str) -> WorkerProcess:
        """Make another command with the same settings, for instance a replay."""
        process = WorkerProcess(
            self.reached_at or self.database,
            self.valkey.url,
            self.folder,
            command=command,
            **self.environment | environment,
        )
        self.workers.append(process)
        return process

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            if worker.process is not None and worker.exit_code is None:
                worker.kill()

    # What came of it.

    @property
    def folders(self) -> list[Path]:
        """The folders of all workers and producers."""
        workers = (worker.folder for worker in self.workers)
        return list(dict.fromkeys([self.folder, *workers, *self.proxies]))

    def spooled_files(self) -> int:
        """Count the segments in all folders."""
        return sum(len(SpoolFolder(folder / "spool").segments()) for folder in self.folders)

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until stream and spool are empty: by then everything is where it stays."""

        def empty() -> bool:
            assert any(worker.exit_code is None for worker in self._started()), self.outputs()
            if self.crashes and waiting(self.valkey):
                asyncio.run(self._sweep())
            return waiting(self.valkey) == 0 and self.spooled_files() == 0

        eventually(empty, timeout=timeout, every=0.05, what="an empty stream and an empty spool")

    async def _sweep(self) -> None:
        stream = Stream(self.valkey.url, stream=DEFAULT_STREAM, group=GROUP, consumer="sweep")
        try:
            await stream.sweep()
        finally:
            await stream.close()

    def fresh_event_lands(self, timeout: float = 15.0) -> None:
        """Push one more event, and wait for its row."""
        [line] = self.send_requests(1)
        sql = f"SELECT 1 FROM request_logs WHERE id = '{key_and_hash(line)[0]}'"
        eventually(
            lambda: rows(self.database, sql), timeout=timeout, every=0.1, what="a fresh event's row"
        )

    def look(self) -> Found:
        """Read every place."""
        return Found.everywhere(self.database, self.valkey, self.folders)

    def proven(self, *, fired: object, dead: Iterable[str] = (), timeout: float = 60.0) -> Found:
        """Assert that the fault fired, that work goes on, and that the oracle finds nothing wrong.

        `fired` is what only the fault can have brought about; it must be true.
        """
        assert fired, "the fault did not happen: nothing is proven"
        self.fresh_event_lands(timeout)
        self.settle(timeout)
        found = self.look()
        verdict(self.ledger, found, dead=dead)
        for worker in self._started():
            if worker.exit_code is None and (status := worker.status()):
                conserved(status)
        return found

    def outputs(self) -> str:
        """What all of its processes have printed."""
        return "\n".join(worker.output() for worker in self._started())

    def _started(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker.process is not None]


def launched(*launcher: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that runs a command under a launcher of this folder.

    Such as `launched("crashing_worker.py", "before XACK", "2", command=("spoolway", "worker"))`.
    """
    if not launcher:
        return tuple(command)
    script, *arguments = launcher
    # -P: this folder must not be where the child's imports are looked up.
    return (Path(sys.executable).name, "-P", str(HERE / script), *arguments, "--", *command)


def total(worker: WorkerProcess, *names: str) -> Any:
    """Return the sum of a live worker's counts; 0 until it has told any."""
    status = worker.status()
    return sum(status[name] for name in names) if status else 0


def rises(number: Callable[[], float], least: float, **wait: Any) -> None:
    """Wait until a number is at least this; `wait` as of `eventually`."""
    eventually(lambda: number() >= least, **wait)


def falls(number: Callable[[], float], most: float, **wait: Any) -> None:
    """Wait until a number is at most this; `wait` as of `eventually`."""
    eventually(lambda: number() <= most, **wait)


def error_line(**fields: object) -> bytes:
    """One error event as a JSON line."""
    return encode_line({"type": "error", "id": new_id(), "error_type": "Timeout", **fields})


def run(
    *command: str, timeout: float = 60.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an installed command to its end."""
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env=environment or None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
