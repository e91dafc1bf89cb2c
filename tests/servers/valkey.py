"""A Valkey (or Redis) server on a free loopback port or on a unix socket."""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote

import redis

from tests.servers.local import LocalServer
from tests.servers.socket_folder import socket_folder
from tests.servers.tls import Certificate


class ValkeyServer(LocalServer):
    """One server with its data in `folder`.

    By default it keeps nothing over a restart, as a cache would. With `append_only` (the
    `appendfsync` to use) it finds its data again after `stop()` and after `kill()`. `max_memory`
    is bytes or Valkey's own notation ("64mb"), with `noeviction` unless `extra` says otherwise.
    `extra` holds any further directive, its value written as in valkey.conf. With `certificate` it speaks TLS only.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        *,
        port: int | None = None,
        unix_socket: bool = False,
        append_only: Literal["everysec", "always"] | None = None,
        max_memory: int | str = 0,
        password: str | None = None,
        certificate: Certificate | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port=port)
        self.binary = binary
        self.password = password
        self.certificate = certificate
        self.socket: Path | None = None
        if unix_socket:
            self.socket = socket_folder(self, self.folder) / "valkey.sock"
        self._directives = {
            "bind": "127.0.0.1",
            "dir": _quoted(self.folder),
            "save": _quoted(""),
            "maxmemory": str(max_memory),
            "maxmemory-policy": "noeviction",
            "appendonly": "yes" if append_only else "no",
            "appendfsync": append_only or "everysec",
            **({"enable-debug-command": "local"} if self._has("7") else {}),
            **({"requirepass": _quoted(password)} if password else {}),
            **(extra or {}),
        }

    @property
    def url(self) -> str:
        """How a client reaches it: `redis://`, `rediss://` or `unix://`, database 0."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.socket:
            return f"unix://{login}{quote(str(self.socket))}?db=0"
        if self.certificate:
            ca = quote(str(self.certificate.ca))
            return f"rediss://{login}127.0.0.1:{self.port}/0?ssl_ca_certs={ca}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def version(self) -> str:
        """Such as "9.1.2"."""
        return version_of(self.binary)

    def _has(self, major: str) -> bool:
        """Whether it is of this version, or a later one."""
        return int(self.version.partition(".")[0]) >= int(major)

    def client(self, *, timeout: float = 5.0) -> redis.Redis:
        """Make a new client without retries, replies as bytes; `with server.client() as client:`."""
        return redis.Redis.from_url(
            self.url, socket_timeout=timeout, socket_connect_timeout=timeout
        )

    def _prepare(self) -> None:
        listening = {"port": "0"}
        if self.socket:
            listening |= {"unixsocket": _quoted(self.socket), "unixsocketperm": "700"}
        elif self.certificate:
            listening |= {
                "tls-port": str(self.port),
                "tls-ca-cert-file": _quoted(self.certificate.ca),
                "tls-cert-file": _quoted(self.certificate.certificate),
                "tls-key-file": _quoted(self.certificate.key),
                "tls-auth-clients": "no",
            }
        else:
            listening["port"] = str(self.port)
        lines = [f"{name} {value}" for name, value in (self._directives | listening).items()]
        self._config.write_text("\n".join(lines) + "\n")

    def _command(self) -> Sequence[str | Path]:
        return (self.binary, self._config)

    def _is_ready(self) -> bool:
        with self.client(timeout=1.0) as client:
            try:
                # While it loads its append-only file it answers INFO but not PING.
                client.ping()
                info = cast("dict[str, Any]", client.info("server"))
            except (redis.ConnectionError, redis.TimeoutError):
                return False
        return bool(info["process_id"] == self.pid)

    @property
    def _config(self) -> Path:
        return self.folder / "valkey.conf"


def _quoted(value: str | Path) -> str:
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def version_of(binary: Path) -> str:
    """Such as "9.1.2" of a valkey-server or redis-server."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\bv=(\d+\.\d+\.\d+)", told)
    if match is None:
        raise ValueError(f"{binary} --version does not say its version: {told!r}")
    return match[1]


def supports_tls(binary: Path) -> bool:
    """Whether this binary was built with TLS.

    Asked for a TLS port and no other, and given no certificate, every build ends before it listens.
    One with TLS misses the certificate. One without misses TLS itself, or does not know the
    directive: which of the two depends on the version, so a configuration file that is accepted
    proves nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [binary, "--port", "0", "--tls-port", "1", "--dir", folder, "--save", ""],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    return "tls-cert-file" in told.stdout + told.stderr
