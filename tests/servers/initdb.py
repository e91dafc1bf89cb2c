"""PostgreSQL's binaries where its account can run them, and new data folders.

`initdb` is a second of work whose result is always the same: with a cache it is done once, and
every further server gets a copy.
"""

import fcntl
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.servers.account import unprivileged

USER = "spoolway"
# Legal in a URL only when quoted, so that whoever forgets to quote it is found out.
PASSWORD = "test:pass/word@1%"


def new_data_folder(bin_dir: Path, data: Path, cache_folder: Path | None) -> None:
    """Make `data` a cluster: user and password as above, UTF-8, C locale, nothing synced."""
    making = data.with_name(data.name + ".making")
    if cache_folder is None:
        _initdb(bin_dir, making)
    else:
        cached = cache_folder / f"initdb-{_label(bin_dir)}"
        with _made_once(cached) as to_make:
            if to_make:
                _initdb(bin_dir, to_make)
        # cp keeps owners and modes, which the server checks, and is ten times as fast as shutil.
        subprocess.run(["cp", "-a", cached, making], check=True)
    making.rename(data)


def _initdb(bin_dir: Path, data: Path) -> None:
    account = unprivileged()
    data.mkdir(mode=0o700)
    password_file = data.with_name(data.name + ".password")
    password_file.write_text(PASSWORD + "\n")
    if account:
        account.own(data)
        account.own(password_file)
    command = [
        f"{bin_dir}/initdb",
        f"--pgdata={data}",
        f"--username={USER}",
        f"--pwfile={password_file}",
        "--auth-host=scram-sha-256",
        "--auth-local=trust",
        "--encoding=UTF8",
        "--no-locale",
        "--no-sync",
        "--no-instructions",
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=data.parent,
            env=clean_environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        password_file.unlink()
    if done.returncode:
        raise RuntimeError(f"initdb in {data} failed:\n{done.stdout}{done.stderr}")


def reachable_binaries(bin_dir: Path, folder: Path) -> Path:
    """`bin_dir`, or a copy of its installation in `folder` when the account cannot get at it.

    Such is a virtual environment under /root: the server is not root, and may not enter there.
    An installation of PostgreSQL works wherever it is copied to; a wheel keeps the libraries that
    it brings in a folder beside its package, and finds them by their relative path.
    """
    account = unprivileged()
    if account is None or account.unreachable(bin_dir) is None:
        return bin_dir
    package, installation = bin_dir.parents[1], bin_dir.parents[0]
    libraries = package.with_name(package.name + ".libs")
    copy = folder / f"install-{_label(bin_dir)}"
    with _made_once(copy) as to_make:
        if to_make:
            (to_make / package.name).mkdir(parents=True)
            subprocess.run(["cp", "-a", installation, to_make / package.name], check=True)
            if libraries.is_dir():
                subprocess.run(["cp", "-a", libraries, to_make], check=True)
    return copy / bin_dir.relative_to(package.parent)


@cache
def version_of(bin_dir: Path) -> str:
    """Such as "16.14"."""
    told = subprocess.run(
        [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"\(PostgreSQL\) (\d+[.\w]*)", told)
    if match is None:
        raise ValueError(f"{bin_dir}/postgres --version does not say its version: {told!r}")
    return match[1]


def clean_environment() -> Mapping[str, str]:
    """Ours, without what would send a command to another server, and with messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}


def _label(bin_dir: Path) -> str:
    """Two builds of one version are two installations."""
    return f"{version_of(bin_dir)}-{zlib.crc32(os.fsencode(bin_dir)):08x}"


@contextmanager
def _made_once(path: Path) -> Iterator[Path | None]:
    """Yield where to make `path`, or None when another process has; never half of it is seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The kernel lets go of the lock when its holder dies.
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
            return
        making = path.with_name(path.name + ".making")
        shutil.rmtree(making, ignore_errors=True)
        yield making
        making.rename(path)
