"""A PostgreSQL server on a free loopback port and on a unix socket."""

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from tests.servers.account import Account, unprivileged
from tests.servers.initdb import (
    PASSWORD,
    USER,
    clean_environment,
    new_data_folder,
    reachable_binaries,
    version_of,
)
from tests.servers.local import LocalServer, ServerFailedError
from tests.servers.socket_folder import socket_folder
from tests.servers.tls import Certificate

StopMode = Literal["smart", "fast", "immediate"]

_STOP_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class PostgresServer(LocalServer):
    """One server with its data in `folder`; over TCP a password is asked for, over the socket not.

    `fsync=False` also leaves out full-page writes: nothing is lost when processes are killed, only
    when the machine dies. `synchronous_commit` is on either way. `settings` is any of
    postgresql.conf and wins. `cache` is a folder in which `initdb` is done once for all servers
    that share it. When we are root, the server runs as an unprivileged user, who must be able to
    reach `folder`: pytest's tmp_path is not for it.

    With `certificate` it takes TLS, and over TCP nothing else; with `clients` also, clients must
    have a certificate of that authority. With `standby_of` it starts as a
    streaming copy of a running server, which only reads until `promote`.
    """

    def __init__(
        self,
        bin_dir: Path,
        folder: Path,
        *,
        port: int | None = None,
        cache: Path | None = None,
        fsync: bool = False,
        settings: Mapping[str, str | int] | None = None,
        certificate: Certificate | None = None,
        clients: Certificate | None = None,
        standby_of: "PostgresServer | None" = None,
    ) -> None:
        super().__init__(folder, port=port)
        self.user = USER
        self.password = PASSWORD
        self.version = version_of(bin_dir)
        self.major = int(self.version.partition(".")[0])
        self.data = self.folder / "data"
        self.socket_folder = socket_folder(self, self.folder)
        self.bin_dir = bin_dir
        self._cache = cache
        self._certificate = certificate
        self._clients = clients
        self._standby_of = standby_of
        self._settings: dict[str, str | int] = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.socket_folder),
            "max_connections": 100,
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "timezone": "UTC",
            # In the data folder, so that a killed server's goes with it; elsewhere it would stay.
            "dynamic_shared_memory_type": "mmap",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            **(settings or {}),
        }

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """`postgresql://user:password@127.0.0.1:port/database`, another password if given."""
        secret = quote(self.password if password is None else password, safe="")
        return f"postgresql://{self.user}:{secret}@127.0.0.1:{self.port}/{quote(database)}"

    def socket_url(self, database: str = "postgres") -> str:
        """The same database over the unix socket, without a password."""
        where = f"host={quote(str(self.socket_folder), safe='')}&port={self.port}"
        return f"postgresql://{self.user}@/{quote(database)}?{where}"

    def create_database(self, name: str, *, template: str = "template0") -> str:
        """Make a database, from `template` when it has no connections, and return its URL."""
        # Copying files is twice as fast as going through the WAL when nothing is synced.
        strategy = " strategy file_copy" if self.major >= 15 else ""
        self.sql(f'create database "{name}" template "{template}"{strategy}')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, and whoever is still connected to it."""
        self.sql(f'drop database if exists "{name}" with (force)')

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as superuser, by psql; rows as lines, columns separated by `|`."""
        done = subprocess.run(
            [self.bin_dir / "psql", "-XAtq", "-c", statement, self.socket_url(database)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=clean_environment(),
        )
        if done.returncode:
            raise RuntimeError(f"{statement!r} failed: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    @cached_property
    def has_lz4(self) -> bool:
        """Whether columns can be compressed with lz4 (asked of the running server)."""
        setting = "name = 'default_toast_compression'"
        return self.sql(f"select 'lz4' = any(enumvals) from pg_settings where {setting}") == "t"

    def stop(self, mode: StopMode = "fast", *, timeout: float = 20.0) -> None:
        """Stop it: wait for clients (smart), end them (fast), or leave recovery to the next start.

        SIGKILL after `timeout` seconds.
        """
        self._stop(_STOP_SIGNALS[mode], timeout)
        self._remove_shared_memory()

    def _account(self) -> Account | None:
        return unprivileged()

    def _environment(self) -> Mapping[str, str]:
        return clean_environment()

    def _prepare(self) -> None:
        if (account := unprivileged()) is not None:
            for folder in {self.folder, self.socket_folder}:
                account.own(folder)
            if (closed := account.unreachable(self.folder)) is not None:
                raise ServerFailedError(
                    f"PostgreSQL runs as {account.name} and cannot enter {closed}, which leads to "
                    f"{self.folder}: give it another folder, or run the tests as a normal user"
                )
        self.bin_dir = reachable_binaries(self.bin_dir, self._cache or self.folder)
        if self.data.exists():
            return
        if self._standby_of is not None:
            self._copy_from(self._standby_of)
        else:
            new_data_folder(self.bin_dir, self.data, self._cache)
        if self._certificate is not None:  # of a new folder; the settings stay with this object
            self._take_tls(self._certificate)

    def promote(self) -> None:
        """Make a standby a primary; returns when it writes."""
        self.sql("select pg_promote(wait => true)")

    def _copy_from(self, primary: "PostgresServer") -> None:
        account = unprivileged()
        subprocess.run(
            [
                *(self.bin_dir / "pg_basebackup", "-D", self.data, "-d", primary.socket_url()),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
            cwd=self.folder,
            env=clean_environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )

    def _take_tls(self, certificate: Certificate) -> None:
        files = {"ssl_cert_file": certificate.certificate, "ssl_key_file": certificate.key}
        method = "scram-sha-256"
        if self._clients is not None:
            files["ssl_ca_file"] = self._clients.ca
            method += " clientcert=verify-ca"
        for name, file in files.items():
            copy = self.data / name  # the server wants to own its key
            copy.write_bytes(file.read_bytes())
            copy.chmod(0o600)
            if account := unprivileged():
                account.own(copy)
            self._settings[name] = name
        (self.data / "pg_hba.conf").write_text(
            f"local all all trust\nhostssl all all all {method}\n"
        )
        self._settings["ssl"] = "on"

    def _command(self) -> Sequence[str | Path]:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        return (self.bin_dir / "postgres", "-D", self.data, "-p", str(self.port), *settings)

    def _is_ready(self) -> bool:
        # What pg_ctl looks at: the first line is the process id, the eighth its state.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _remove_shared_memory(self) -> None:
        """After a crash the last 56 bytes would stay in the kernel until the next start, or ever.

        They are what keeps two servers out of one data folder; the seventh line has their id.
        """
        lock_file = self.data / "postmaster.pid"
        if self.running or not lock_file.exists():
            return
        lines = lock_file.read_text().splitlines()
        ids = lines[6].split() if len(lines) > 6 else []
        if len(ids) == 2 and (ipcrm := shutil.which("ipcrm")):
            subprocess.run([ipcrm, "-m", ids[1]], capture_output=True, check=False)


def supports_tls(bin_dir: Path) -> bool:
    """Whether this build has OpenSSL in it."""
    shown = subprocess.run(
        [bin_dir / "pg_config", "--configure"], capture_output=True, text=True, check=False
    ).stdout
    return "openssl" in shown
