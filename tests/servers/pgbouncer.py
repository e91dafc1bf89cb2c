"""A pgbouncer in front of a PostgreSQL server, on a free loopback port."""

import shutil
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.servers.account import Account, unprivileged
from tests.servers.local import LocalServer
from tests.servers.postgres import PostgresServer
from tests.servers.tls import Certificate


def pgbouncer_binary() -> Path | None:
    """Where pgbouncer is, if it is installed; Debian's is not on everybody's PATH."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    return Path(found) if found else None


class Pgbouncer(LocalServer):
    """One pooler for one server and its user, in transaction mode, with nothing set for our sake.

    `settings` is any of pgbouncer.ini and wins. With `certificate` it takes TLS from its clients,
    and nothing else. When we are root it runs as an unprivileged user, as PostgreSQL does.
    """

    def __init__(
        self,
        binary: Path,
        folder: Path,
        server: PostgresServer,
        *,
        certificate: Certificate | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(folder)
        self._binary = binary
        self._behind = server
        self._certificate = certificate
        self._settings = dict(settings or {})

    def url(self, url: str) -> str:
        """The URL of one of the server's databases, through here."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self.port}"))

    def _account(self) -> Account | None:
        return unprivileged()

    def _prepare(self) -> None:
        settings: dict[str, str | int] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "auth_type": "scram-sha-256",
            "auth_file": str(self.folder / "users.txt"),
            **self._settings,
        }
        if self._certificate:
            for name, file in (
                ("key", self._certificate.key),
                ("cert", self._certificate.certificate),
            ):
                settings[f"client_tls_{name}_file"] = str(self._copy(file))
            settings["client_tls_sslmode"] = "require"
        users = f'"{self._behind.user}" "{self._behind.password}"\n'
        self._write("users.txt", users)
        lines = [f"{name} = {value}" for name, value in settings.items()]
        servers = f"[databases]\n* = host=127.0.0.1 port={self._behind.port}\n"
        self._write("pgbouncer.ini", "\n".join([servers, "[pgbouncer]", *lines, ""]))
        if account := unprivileged():
            account.own(self.folder)

    def _copy(self, file: Path) -> Path:
        return self._write(file.name, file.read_text())

    def _write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        if account := unprivileged():
            account.own(path)
        return path

    def _command(self) -> Sequence[str | Path]:
        return (self._binary, self.folder / "pgbouncer.ini")

    def _is_ready(self) -> bool:
        # Its port is ours alone: what answers there is this process.
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
            return True
        return False
