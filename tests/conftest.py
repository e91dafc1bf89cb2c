"""Servers for the tests: shared ones started once per test process, private ones to break.

Every fixture that names a server without "private" is shared: a test may fill it, but must not
stop it, change its configuration or rely on what is in it.
"""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import psutil
import pytest

from tests.servers import (
    LocalServer,
    Pgbouncer,
    PostgresServer,
    ValkeyServer,
    make_certificate,
    pgbouncer_binary,
    postgres_binaries,
    redis_binaries,
    tls_binaries,
)
from tests.servers.local import GUARD
from tests.versions import postgres_versions

# A deadline per example would measure the machine. The blob makes a failure that was found
# elsewhere repeatable here. In CI the examples are the same on every run, so that a change is
# judged by what it changed; the random search goes on wherever CI is not set.
hypothesis.settings.register_profile("local", deadline=None, print_blob=True, max_examples=60)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("local"), derandomize=True, database=None
)
hypothesis.settings.register_profile(
    "thorough", parent=hypothesis.settings.get_profile("local"), max_examples=5_000
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")

_RUN_FOLDER = pytest.StashKey[Path]()
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes a private folder in it
_GIB = 2**30

S = TypeVar("S", bound=LocalServer)


def pytest_configure(config: pytest.Config) -> None:
    """Make one folder for all servers of a run; xdist's workers are told the controller's."""
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker_input is not None:
        config.stash[_RUN_FOLDER] = Path(worker_input["server_folder"])
        return
    # mkdtemp as such when TMPDIR says where; not below pytest's own folder, which is closed
    # to the account that PostgreSQL runs as.
    parent = _IN_MEMORY if "TMPDIR" not in os.environ and _has_memory_to_spare() else None
    folder = Path(tempfile.mkdtemp(prefix="spoolway-tests-", dir=parent))
    folder.chmod(0o711)
    GUARD.remove(str(folder))
    config.stash[_RUN_FOLDER] = folder


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Hand the folder to an xdist worker."""
    node.workerinput["server_folder"] = str(node.config.stash[_RUN_FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder when all workers have ended."""
    if not hasattr(config, "workerinput") and _RUN_FOLDER in config.stash:
        shutil.rmtree(config.stash[_RUN_FOLDER], ignore_errors=True)


def _has_memory_to_spare() -> bool:
    """In memory a server is made in a tenth of the time; nothing here is about disks."""
    return (
        os.access(_IN_MEMORY, os.W_OK)
        and shutil.disk_usage(_IN_MEMORY).free >= 2 * _GIB
        and psutil.virtual_memory().available >= 4 * _GIB
    )


@pytest.fixture(scope="session")
def run_folder(pytestconfig: pytest.Config) -> Path:
    """A folder of the whole run, shared by all of xdist's workers."""
    return pytestconfig.stash[_RUN_FOLDER]


@pytest.fixture(scope="session")
def server_folder(run_folder: Path) -> Path:
    """A folder of this test process, in which PostgreSQL's account can work too."""
    folder = run_folder / os.environ.get("PYTEST_XDIST_WORKER", "main")
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def private_folder(server_folder: Path) -> Iterator[Path]:
    """Make an empty folder of this test in which any server can work; removed after it."""
    folder = server_folder / uuid.uuid4().hex[:12]
    folder.mkdir(mode=0o711)
    yield folder
    shutil.rmtree(folder)


# --- PostgreSQL ---------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_servers(
    server_folder: Path, run_folder: Path
) -> Iterator[Callable[[str], PostgresServer]]:
    """Get the shared server of a label ("postgresql-16"), started when first asked for."""
    servers: dict[str, PostgresServer] = {}

    def get(label: str) -> PostgresServer:
        if label not in servers:
            bin_dir = postgres_binaries()[label]
            servers[label] = PostgresServer(bin_dir, server_folder / label, cache=run_folder)
        return _running(servers[label])

    yield get
    for server in servers.values():
        server.stop("immediate")


@pytest.fixture(scope="session", params=postgres_versions())
def postgres_server(
    request: pytest.FixtureRequest, postgres_servers: Callable[[str], PostgresServer]
) -> PostgresServer:
    """The shared PostgreSQL server: the test runs once for every version found."""
    return postgres_servers(request.param)


@pytest.fixture(scope="session")
def newest_postgres(postgres_servers: Callable[[str], PostgresServer]) -> PostgresServer:
    """The shared server of the newest version, for what does not depend on the version."""
    return postgres_servers(_newest_postgres())


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Make an empty database for this test, on every version found."""
    with _fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def newest_postgres_url(newest_postgres: PostgresServer) -> Iterator[str]:
    """Make an empty database for this test, on the newest version only."""
    with _fresh_database(newest_postgres) as url:
        yield url


@pytest.fixture
def start_postgres(
    private_folder: Path, run_folder: Path
) -> Iterator[Callable[..., PostgresServer]]:
    """Start servers of this test's own, to be broken: `start_postgres(label, **options)`."""
    with ExitStack() as stop:

        def start(label: str = "", **options: Any) -> PostgresServer:
            label = label or _newest_postgres()
            folder = private_folder / f"{label}-{uuid.uuid4().hex[:6]}"
            options = {"cache": run_folder} | options
            server = PostgresServer(postgres_binaries()[label], folder, **options)
            stop.callback(server.stop, "immediate")
            server.start()
            return server

        yield start


@pytest.fixture
def private_postgres(start_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """A server of this test's own, of the newest version: kill it, suspend it, fill it."""
    return start_postgres()


@pytest.fixture
def start_pgbouncer(private_folder: Path) -> Iterator[Callable[..., Pgbouncer]]:
    """Start poolers in front of a server: `start_pgbouncer(server, **options)`; skips without one."""
    binary = pgbouncer_binary()
    if binary is None:
        pytest.skip("no pgbouncer here (Debian: apt install pgbouncer)")
    with ExitStack() as stop:

        def start(server: PostgresServer, **options: Any) -> Pgbouncer:
            folder = private_folder / f"pgbouncer-{uuid.uuid4().hex[:6]}"
            pooler = Pgbouncer(binary, folder, server, **options)
            stop.callback(pooler.stop)
            pooler.start()
            return pooler

        yield start


# --- Valkey and Redis ---------------------------------------------------------


@pytest.fixture(scope="session")
def redis_servers(server_folder: Path) -> Iterator[Callable[[str], ValkeyServer]]:
    """Get the shared server of a label ("valkey", "redis-7"), started when first asked for."""
    servers: dict[str, ValkeyServer] = {}

    def get(label: str) -> ValkeyServer:
        if label not in servers:
            servers[label] = ValkeyServer(redis_binaries()[label], server_folder / label)
        return _running(servers[label])

    yield get
    for server in servers.values():
        server.stop()


@pytest.fixture
def valkey(redis_servers: Callable[[str], ValkeyServer]) -> ValkeyServer:
    """The shared Valkey server, emptied."""
    return _emptied(redis_servers("valkey"))


@pytest.fixture(params=list(redis_binaries()))
def redis_server(
    request: pytest.FixtureRequest, redis_servers: Callable[[str], ValkeyServer]
) -> ValkeyServer:
    """The shared server, emptied: the test runs once for every Valkey and Redis found."""
    return _emptied(redis_servers(request.param))


@pytest.fixture
def start_valkey(private_folder: Path) -> Iterator[Callable[..., ValkeyServer]]:
    """Start servers of this test's own, to be broken: `start_valkey(label, **options)`."""
    with ExitStack() as stop:

        def start(label: str = "valkey", **options: Any) -> ValkeyServer:
            folder = private_folder / f"{label}-{uuid.uuid4().hex[:6]}"
            server = ValkeyServer(redis_binaries()[label], folder, **options)
            stop.callback(server.stop)
            server.start()
            return server

        yield start


@pytest.fixture
def private_valkey(start_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    """A server of this test's own that keeps its data over a kill and a start."""
    return start_valkey(append_only="everysec")


@pytest.fixture
def tls_server(start_valkey: Callable[..., ValkeyServer], private_folder: Path) -> ValkeyServer:
    """A server of this test's own that speaks TLS only (`rediss://`); skips where none can."""
    if not tls_binaries():
        pytest.skip("no Valkey or Redis with TLS here, or no openssl command")
    certificate = make_certificate(private_folder / "certificates")
    return start_valkey(next(iter(tls_binaries())), certificate=certificate)


# --- Both ---------------------------------------------------------------------


def _running(server: S) -> S:
    """A test that broke a shared server must not break the next ones."""
    if not server.running:
        server.start()
    return server


def _emptied(server: ValkeyServer) -> ValkeyServer:
    with server.client() as client:
        client.flushall()
    return server


@contextmanager
def _fresh_database(server: PostgresServer) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    yield _running(server).create_database(name)
    _running(server).drop_database(name)


def _newest_postgres() -> str:
    return list(postgres_binaries())[-1]


# --- Workers ------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database: a SQLite file, then the newest PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'logs.db'}"
    else:
        yield request.getfixturevalue("newest_postgres_url")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A worker's folder for state."""
    return tmp_path / "var"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "spoolway-test", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)
