"""The processes of a run: the upstream, a proxy, and the load generator."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec

from benchmarks.children import Child, python_module, running
from benchmarks.proxied.app import READY
from benchmarks.proxied.load import LEAD_S, PATIENCE_S, Loaded
from benchmarks.proxied.memory import Held
from benchmarks.servers import cpu_seconds
from tests.servers import eventually
from tests.servers.local import GUARD
from tests.servers.ports import ReservedPort

_ROOT: Final = Path(__file__).parent.parent.parent


class MeasuringFailed(Exception):
    """A process that measures gave up. The message is the end of what it said."""


@dataclass(slots=True)
class Serving:
    """A process that serves HTTP."""

    url: str
    child: Child
    answered: int = 0
    """Requests so far."""

    def cpu(self) -> float:
        """Return the CPU seconds that it has used so far."""
        return cpu_seconds(self.child.pid)


@contextmanager
def serving(module: str, log: Path, arguments: Sequence[str] = ()) -> Iterator[Serving]:
    """Run a module of this package on a free port until the block ends; it may not serve yet."""
    port = ReservedPort()
    command = [*python_module(module), "--port", str(port.number), *arguments]
    with running(command, log, {}) as child:
        yield Serving(f"http://127.0.0.1:{port.number}", child)


def wait_for(proxy: Serving) -> None:
    """Wait until a proxy answers."""

    def answers() -> bool:
        proxy.child.must_run()
        return httpx.get(proxy.url + READY, trust_env=False).is_success

    eventually(answers, timeout=30, what="the proxy serves", ignoring=(httpx.TransportError,))


def asked(
    proxy: Serving, *, connections: int, seconds: float, rate: float | None = None, seed: int = 1
) -> Loaded:
    """Have a process of its own load a proxy, and return what came of it.

    Raises:
        MeasuringFailed: the proxy did not answer, or not what it should.
    """
    command = [
        *python_module("benchmarks.proxied.load"),
        *("--url", proxy.url, "--connections", str(connections)),
        *("--seconds", str(seconds), "--seed", str(seed)),
        *(("--rate", str(rate)) if rate else ()),
    ]
    output = _output_of(command, LEAD_S + seconds + PATIENCE_S + 30)
    proxy.child.must_run()
    loaded = msgspec.json.decode(output, type=Loaded)
    proxy.answered += loaded.in_all
    return loaded


def held_by(redis_url: str, folder: Path, streams: int, megabytes: float) -> Held:
    """Measure the memory of so many streams at once, in a process that does nothing else.

    Raises:
        MeasuringFailed: that process did not end well.
    """
    command = [
        *python_module("benchmarks.proxied.memory"),
        *("--redis-url", redis_url, "--dir", str(folder)),
        *("--streams", str(streams), "--megabytes", str(megabytes)),
    ]
    return msgspec.json.decode(_output_of(command, 600), type=Held)


def _output_of(command: Sequence[str], timeout: float) -> bytes:
    with subprocess.Popen(
        command,
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the benchmark, which then stops this
    ) as process:
        GUARD.watch(process.pid)
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.wait()
            GUARD.release(process.pid)
    if process.returncode:
        raise MeasuringFailed(errors.decode(errors="replace")[-2_000:])
    return output
