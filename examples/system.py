"""What the demo runs: `spoolway up`, the example proxy, and the upstream behind it.

All of it on free ports of 127.0.0.1, with its state in one folder; what the environment says of
other databases and servers is for other programs.
"""

import asyncio
import os
import secrets
import sys
import sysconfig
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from examples.children import Child
from examples.upstream import BRANCH
from spoolway.schema import DEFAULT_STREAM
from spoolway.worker.progress import read_all

SPOOLWAY: Final = Path(sysconfig.get_path("scripts")) / "spoolway"
BACKEND_TIMEOUT_S: Final = 1
PROXY_STOP_S: Final = 15.0
"""It gives requests 5 s, and the producer 5 s."""
WORKER_STOP_S: Final = 25.0
"""The worker may take 8 s to write what it has, and Valkey 10 s to sync its file."""
UPSTREAM_STOP_S: Final = 5.0
_UVICORN_SAYS: Final = r"running on (http://\S+)"

T = TypeVar("T")


class System:
    """The processes. As a context manager it stops those that run, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "spoolway.db"
        self.logs = folder / "logs"
        self.proxy_url = self.redis_url = self.page_url = ""
        self._environment = _environment()
        self._upstream: Child | None = None
        self._spoolway: Child | None = None
        self._proxy: Child | None = None
        self._redis: Redis | None = None

    async def start(self) -> None:
        """Start everything; return when the proxy answers and the worker drains.

        Raises:
            ChildFailed: one of them does not come up.
        """
        upstream = self._upstream = await self._python("upstream", "--port", "0")
        spoolway = self._spoolway = await self._start(
            "spoolway", str(SPOOLWAY), "up", "--dir", str(self.folder), "--port", "0"
        )
        self.redis_url = await spoolway.until_it_says(r"(?m)^Valkey\s+(redis://\S+)$")
        self.page_url = await spoolway.until_it_says(r"(?m)^page\s+(http://\S+)$")
        self._redis = Redis.from_url(self.redis_url, socket_timeout=2.0)
        upstream_url = await upstream.until_it_says(_UVICORN_SAYS)
        self._environment |= {
            "REDIS_URL": self.redis_url,
            "KEY_HASH_SECRET": _kept_secret(self.folder / "key-hash-secret"),
        }
        proxy = self._proxy = await self._python(
            "proxy",
            *("--backend", f"main={upstream_url}/v1"),
            *("--backend", f"{BRANCH}={upstream_url}/{BRANCH}/v1"),
            *("--timeout", str(BACKEND_TIMEOUT_S)),
            *("--port", "0"),
        )
        self.proxy_url = await proxy.until_it_says(_UVICORN_SAYS) + "/v1"
        # Its status file: written once the database is migrated and the stream's group is there.
        await spoolway.until(lambda: any(w["pid"] == spoolway.pid for w in read_all(self.folder)))

    async def while_all_run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work; raises ChildFailed, and gives the work up, when a process ends under it."""
        working = asyncio.ensure_future(work)
        watching = [
            asyncio.ensure_future(child.until_it_ends())
            for child in (self._upstream, self._spoolway, self._proxy)
            if child is not None and not child.stopping
        ]
        try:
            await asyncio.wait([working, *watching], return_when=asyncio.FIRST_COMPLETED)
            if working.done() and working.exception():
                # It may have failed because of one that is about to be found dead.
                await asyncio.wait(watching, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            for watch in watching:
                if watch.done():
                    watch.result()
            return await working
        finally:
            for task in (working, *watching):
                task.cancel()
            await asyncio.gather(working, *watching, return_exceptions=True)

    async def queue(self) -> int | None:
        """Return how many entries of the stream are not acknowledged; None if Valkey is away."""
        if self._redis is None:
            return None
        try:
            return int(await self._redis.xlen(DEFAULT_STREAM))
        except (RedisError, OSError):
            return None

    async def stop_proxy(self) -> None:
        """Stop intake: the proxy ends, and its producer sends what it still has."""
        if self._proxy is not None:
            await self._proxy.stop(PROXY_STOP_S)

    async def stop(self) -> None:
        """Stop what runs: proxy, worker (which stops its Valkey), upstream."""
        await self.stop_proxy()
        if self._spoolway is not None:
            await self._spoolway.stop(WORKER_STOP_S)
        if self._redis is not None:
            await self._stop_orphaned_valkey(self._redis)
            await self._redis.aclose()
        if self._upstream is not None:
            await self._upstream.stop(UPSTREAM_STOP_S)

    async def _stop_orphaned_valkey(self, redis: Redis) -> None:
        """A `spoolway up` that was killed leaves its Valkey behind."""
        with suppress(RedisError, OSError):
            where = await redis.config_get("dir")
            if Path(where["dir"]) == (self.folder / "valkey").resolve():
                await redis.shutdown()

    async def _python(self, module: str, *arguments: str) -> Child:
        return await self._start(module, sys.executable, "-m", f"examples.{module}", *arguments)

    async def _start(self, name: str, *command: str) -> Child:
        return await Child.start(name, command, self.logs / f"{name}.log", self._environment)

    async def __aenter__(self) -> Self:
        """Make the folder of the logs; nothing is started yet."""
        self.logs.mkdir(mode=0o700, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop what runs."""
        await self.stop()


def _environment() -> dict[str, str]:
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DATABASE_", "REDIS_", "SPOOLWAY_"))
        and not name.lower().endswith("_proxy")
    }
    return ours | {"PYTHONUNBUFFERED": "1", "SPOOLWAY_API_PORT": "0"}


def _kept_secret(file: Path) -> str:
    """Return the same secret on every run, so that an api_key_id stays what it is."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
    return file.read_text()
