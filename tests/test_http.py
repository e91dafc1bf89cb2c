"""/healthz, /readyz and /metrics of a real worker: what they say when, and what cannot harm it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from spoolway.worker.host import HEALTH_KEY
from spoolway.worker.http.health import liveness, unready
from spoolway.worker.outage import Outage
from spoolway.worker.progress import STALE_SECONDS, Progress
from tests.commands import run
from tests.scraped import Scraped, address_of, ask, ask_json
from tests.servers import ValkeyServer, eventually
from tests.workers import BIN, WorkerProcess, drained, ending, push, request_line


def worker_of(tmp_path: Path, server: ValkeyServer, **settings: str) -> WorkerProcess:
    """A worker with SQLite that listens on a free port."""
    return WorkerProcess(
        f"sqlite:///{tmp_path / 'logs.db'}",
        server.url,
        tmp_path / "var",
        **{"SPOOLWAY_HTTP_PORT": "0", **settings},
    )


def test_a_worker_that_drains_is_alive_and_ready_until_it_stops(
    tmp_path: Path, private_valkey: ValkeyServer
) -> None:
    """Both are 200 while it reads; without Redis it is alive and not ready; a stop is quick."""
    worker = worker_of(tmp_path, private_valkey)
    with ending(worker):
        worker.started()
        address = address_of(worker)
        assert ask_json(address, "/healthz") == (200, {"status": "alive"})
        eventually(lambda: ask(address, "/readyz")[0] == 200, timeout=10)
        assert ask_json(address, "/readyz") == (200, {"ready": True, "reasons": []})
        assert address.startswith("127.0.0.1:"), "loopback, unless told otherwise"

        private_valkey.kill()
        eventually(lambda: ask(address, "/readyz")[0] == 503, timeout=10)
        assert ask_json(address, "/readyz")[1] == {"ready": False, "reasons": ["redis-away"]}
        assert ask_json(address, "/healthz") == (200, {"status": "alive"})
        assert Scraped(ask(address, "/metrics")[1].decode())("spoolway_ready") == 0
        private_valkey.start()
        eventually(lambda: ask(address, "/readyz")[0] == 200, timeout=15)

        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(address, "/healthz", method)[0] == 405
        assert ask(address, "/readyz", "HEAD") == (200, b"")
        assert [ask(address, path)[0] for path in ("/", "/metrics/x", "/../etc/passwd")] == [
            404
        ] * 3
        assert worker.terminate() == 0
    assert "uvicorn" not in {record["logger"].partition(".")[0] for record in worker.logged()}


def test_what_is_alive_and_what_is_ready_follows_from_progress(tmp_path: Path) -> None:
    """A loop that stands still is wedged; each thing that holds events up has its reason."""
    progress = Progress(tmp_path / "worker-0.json", "w-0", os.getpid())
    assert (liveness(None), unready(None)) == ("starting", ["starting"])
    progress.turn("reading", "one")
    assert (liveness(progress), unready(progress)) == ("alive", [])
    progress._turned["two"] = time.time() - STALE_SECONDS
    assert (liveness(progress), unready(progress)) == ("wedged", ["wedged"])
    progress.turn("reading", "two")
    clock = iter(range(100)).__next__
    outages = {name: Outage(name, clock) for name in ("database", "redis", "spool", "dead")}
    progress.outages += outages.items()
    outages["database"].failed(OSError(), "events go to the spool")
    assert unready(progress) == [], "events are taken, and kept"
    for name in ("redis", "spool", "dead"):
        outages[name].failed(OSError(), "nothing is acknowledged")
    progress.breaker, progress.stopping = "refusing", True
    assert unready(progress) == [
        "stopping",
        "database-refusing",
        "redis-away",
        "spool-full",
        "dead-letters-not-written",
    ]


def test_a_port_that_is_taken_is_refused_at_the_start(tmp_path: Path, valkey: ValkeyServer) -> None:
    """One line names the setting; so it does for an address that is not this machine's."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for settings, said in (
            ({"SPOOLWAY_HTTP_PORT": port}, f"SPOOLWAY_HTTP_PORT: 127.0.0.1:{port} is in use"),
            ({"SPOOLWAY_HTTP_HOST": "192.0.2.1"}, "cannot listen on 192.0.2.1:0"),
            ({"SPOOLWAY_HTTP_HOST": "no.such.host.invalid"}, "is no address of this machine"),
        ):
            done = run(
                "worker",
                SPOOLWAY_DIR=str(tmp_path / "var"),
                REDIS_URL=valkey.url,
                **{"SPOOLWAY_HTTP_PORT": "0", **settings},
            )
            assert done.code == 2
            [line] = [line for line in done.err.splitlines() if line.startswith("spoolway: ")]
            assert said in line


def test_clients_that_are_slow_many_or_large_do_not_hold_up_the_worker(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """Connections are few and short, headers bounded; draining and the stop go on meanwhile."""
    worker = worker_of(tmp_path, valkey)
    with ending(worker), ExitStack() as clients:
        worker.started()
        host, _, port = address_of(worker).rpartition(":")

        def client(said: bytes) -> socket.socket:
            opened = clients.enter_context(socket.create_connection((host, int(port)), timeout=15))
            opened.sendall(said)
            return opened

        large = client(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 20_000)
        assert large.recv(1000).startswith(b"HTTP/1.1 400"), "headers are bounded"
        slow = [client(b"GET /metrics HTTP/1.1\r\nhost: x\r\n") for _ in range(60)]
        open_files = len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))
        push(valkey, [request_line() for _ in range(500)])
        drained(valkey, worker)
        turned_away = 0
        for each in slow:
            each.setblocking(False)
            try:
                turned_away += each.recv(1) == b""
            except ConnectionResetError:
                turned_away += 1
            except BlockingIOError:
                continue
        assert turned_away >= 60 - 32
        assert open_files < 100
        assert worker.terminate(timeout=6) == 0, "nor do they hold up the stop"


@pytest.mark.chaos
def test_connections_end_and_the_next_client_is_served(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    """Whoever takes every place holds it for 10 s, whatever it sends."""
    worker = worker_of(tmp_path, valkey)
    with ending(worker), ExitStack() as clients:
        worker.started()
        address = address_of(worker)
        host, _, port = address.rpartition(":")
        for _ in range(40):
            opened = clients.enter_context(socket.create_connection((host, int(port)), timeout=15))
            opened.sendall(b"GET ")

        def answers() -> bool:
            try:
                return ask(address, "/healthz")[0] == 200
            except OSError:
                return False

        assert not answers()
        eventually(answers, timeout=15, every=0.5)


@pytest.mark.chaos
def test_a_wedged_loop_shows(tmp_path: Path, valkey: ValkeyServer) -> None:
    """A process that does nothing answers no probe; when it goes on, it is alive again."""
    worker = worker_of(tmp_path, valkey)
    with ending(worker):
        worker.started()
        address = address_of(worker)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            ask(address, "/healthz")
        os.kill(worker.pid, signal.SIGCONT)
        eventually(lambda: ask(address, "/healthz")[0] == 200, timeout=10)


@pytest.mark.chaos  # three interpreters
def test_arq_checks_its_own_key(tmp_path: Path, start_valkey: Callable[..., ValkeyServer]) -> None:
    """`arq --check` finds the worker's key on that worker's Redis, whatever its password has in it."""
    server = start_valkey(password="p@ss/word %41")
    worker = worker_of(tmp_path, server)
    environment = {**os.environ, "REDIS_URL": server.url, "SPOOLWAY_DIR": str(tmp_path / "var")}
    command = [str(BIN / "arq"), "--check", "spoolway.worker.settings.WorkerSettings"]

    def check() -> int:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert "p@ss" not in done.stdout + done.stderr
        return done.returncode

    with ending(worker):
        assert check() == 1
        worker.started()
        with server.client() as client:
            eventually(lambda: client.exists(HEALTH_KEY), timeout=10)
        assert check() == 0
