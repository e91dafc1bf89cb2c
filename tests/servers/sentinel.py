"""A primary, its replicas and three Sentinels, all from one server's binary, on loopback."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import redis

from tests.servers.local import LocalServer
from tests.servers.valkey import ValkeyServer
from tests.servers.waiting import eventually

NAME = "mymaster"
_DOWN_AFTER_MS = 1_000
_FAILOVER_MS = 10_000


class SentinelServer(LocalServer):
    """One Sentinel that watches one primary. It keeps what it learns in its own configuration."""

    def __init__(
        self, binary: Path, folder: Path, primary: ValkeyServer, *, password: str | None = None
    ) -> None:
        super().__init__(folder)
        self._binary = binary
        self._primary = primary
        self._password = password

    def client(self) -> redis.Redis:
        """Make a new client; `with sentinel.client() as client:`."""
        return redis.Redis(
            port=self.port,
            password=self._password,
            socket_timeout=5,
            socket_connect_timeout=5,
            protocol=2,  # redis-py 8 would make dictionaries of the replies
        )

    def _prepare(self) -> None:
        if self._config.exists():
            return
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self.folder}"',
            f"sentinel monitor {NAME} 127.0.0.1 {self._primary.port} 2",
            f"sentinel down-after-milliseconds {NAME} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {NAME} {_FAILOVER_MS}",
        ]
        if self._primary.password:
            lines.append(f"sentinel auth-pass {NAME} {self._primary.password}")
        if self._password:
            lines += [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
        self._config.write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str | Path]:
        return (self._binary, self._config, "--sentinel")

    def _is_ready(self) -> bool:
        with self.client() as client:
            try:
                info = cast("dict[str, Any]", client.info("server"))
            except (redis.ConnectionError, redis.TimeoutError):
                return False
        return bool(info["process_id"] == self.pid)

    @property
    def _config(self) -> Path:
        return self.folder / "sentinel.conf"


class SentinelGroup:
    """Servers of which one is the primary, and the Sentinels that say which."""

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        replicas: int = 1,
        password: str | None = None,
        sentinel_password: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self._password = password
        self._sentinel_password = sentinel_password
        both = {"masterauth": f'"{password}"'} if password else {}
        extra = {"repl-diskless-sync-delay": "0", **both, **(extra or {})}
        first = ValkeyServer(
            binary, folder / "server-0", append_only="everysec", password=password, extra=extra
        )
        follows = {"replicaof": f"127.0.0.1 {first.port}"}
        self.servers = [
            first,
            *(
                ValkeyServer(
                    binary,
                    folder / f"server-{number}",
                    append_only="everysec",
                    password=password,
                    extra={**extra, **follows},
                )
                for number in range(1, replicas + 1)
            ),
        ]
        self.sentinels = [
            SentinelServer(binary, folder / f"sentinel-{n}", first, password=sentinel_password)
            for n in range(3)
        ]

    @property
    def url(self) -> str:
        """How a client reaches whoever is the primary."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        login = f":{quote(self._password, safe='')}@" if self._password else ""
        told = (
            f"?sentinel_password={quote(self._sentinel_password, safe='')}"
            if self._sentinel_password
            else ""
        )
        return f"redis+sentinel://{login}{hosts}/{NAME}/0{told}"

    @property
    def primary(self) -> ValkeyServer:
        """The server that most Sentinels name."""
        named = [self._named_by(sentinel) for sentinel in self.sentinels if sentinel.running]
        port = max(named, key=named.count)
        return next(server for server in self.servers if server.port == port)

    def failover(self) -> None:
        """Have a replica promoted while the primary lives; return when every Sentinel names it."""
        before = self.primary
        with self.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", NAME)
        self.await_other_than(before)

    def await_other_than(self, before: ValkeyServer) -> None:
        """Return when every Sentinel names another primary."""
        eventually(
            lambda: all(self._named_by(one) != before.port for one in self.sentinels),
            timeout=60,
            what="another primary",
        )

    def await_replicas(self, number: int) -> None:
        """Return when the Sentinels see each other, and so many replicas that keep up."""
        eventually(lambda: all(self._sees(one, number) for one in self.sentinels), timeout=60)

    def _named_by(self, sentinel: SentinelServer) -> int:
        with sentinel.client() as client:
            found: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(found[1])

    def _sees(self, sentinel: SentinelServer, replicas: int) -> bool:
        with sentinel.client() as client:
            seen = str(client.execute_command("SENTINEL", "REPLICAS", NAME))
            primary = str(client.execute_command("SENTINEL", "MASTER", NAME))
        linked = len(re.findall(r"master-link-status'?, b?'ok'", seen))
        others = re.search(r"num-other-sentinels'?[,:] b?'?(\d)", primary)
        return linked == replicas and others is not None and others[1] == "2"

    def __enter__(self) -> Self:
        """Start all of them."""
        try:
            for server in (*self.servers, *self.sentinels):
                server.start()
            self.await_replicas(len(self.servers) - 1)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all of them."""
        self.stop()

    def stop(self) -> None:
        """Kill all of them: nobody needs their data any more."""
        for server in (*self.sentinels, *self.servers):
            server.kill()
