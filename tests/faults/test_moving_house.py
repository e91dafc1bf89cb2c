"""What docs/ tell an operator, done as they tell it: a living SQLite installation becomes a larger one."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from spoolway.producer import Producer
from spoolway.schema import encode_line, new_id
from tests.commands import SPOOLWAY, environment
from tests.faults.oracle import key_and_hash
from tests.faults.site import Site, rises, total
from tests.servers import (
    Pgbouncer,
    PostgresServer,
    ValkeyServer,
    make_certificate,
)
from tests.servers.tls import can_make_certificates
from tests.stores import id_at
from tests.workers import WorkerProcess, rows

KEEP_DAYS = 30


@contextmanager
def traffic(producer: Producer, site: Site) -> Iterator[None]:
    """Emit some hundred requests a second, all the time; each that was accepted is in the ledger."""
    stop = threading.Event()

    def emit() -> None:
        n = 0
        while not stop.wait(0.01):
            for _ in range(3):
                n += 1
                event = {"type": "request", "id": new_id(), "model_name": "m", "body": {"n": n}}
                assert producer.emit(event)
                site.ledger.accept([encode_line(event)])

    thread = threading.Thread(target=emit)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def spoolway(*arguments: str, **settings: str) -> str:
    """Run a command of the page to its end, as an operator does."""
    done = subprocess.run(
        [SPOOLWAY, *arguments],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture
def postgresql(
    start_pgbouncer: Callable[..., Pgbouncer],
    newest_postgres: PostgresServer,
    newest_postgres_url: str,
    private_folder: Path,
) -> tuple[str, str]:
    """An empty PostgreSQL database: its URL, and the one through pgbouncer, which wants TLS."""
    if not can_make_certificates():
        pytest.skip("no openssl command to make certificates with")
    certificate = make_certificate(private_folder / "certificates")
    pooler = start_pgbouncer(newest_postgres, certificate=certificate)
    verified = f"?sslmode=verify-full&sslrootcert={certificate.ca}"
    return newest_postgres_url, pooler.url(newest_postgres_url) + verified


@pytest.mark.chaos
def test_sqlite_moves_to_postgresql_behind_pgbouncer_with_tls_while_traffic_runs(
    sites: Callable[..., Site],
    postgresql: tuple[str, str],
    private_valkey: ValkeyServer,
    tmp_path: Path,
) -> None:
    """docs/moving.md, step by step: two workers and retention afterwards, and no event is lost."""
    direct, url = postgresql
    folder = tmp_path / "var"
    sqlite = f"sqlite:///{folder / 'spoolway.db'}"
    site = sites(direct, private_valkey)
    site.reached_at = url
    site.environment["SPOOLWAY_REQUEST_RETENTION_DAYS"] = str(KEEP_DAYS)
    old = WorkerProcess(sqlite, site.valkey.url, folder)
    site.workers.append(old)
    with Producer(site.valkey.url, folder=tmp_path / "proxy") as producer:
        site.proxies.append(tmp_path / "proxy")
        long_ago = datetime.now(UTC) - timedelta(days=KEEP_DAYS + 5)
        history = [_request(id_at(long_ago + timedelta(seconds=n))) for n in range(300)]
        old.started()
        site.send(history)
        with traffic(producer, site):
            rises(partial(total, old, "inserted"), 600, timeout=30, every=0.1)
            spoolway("db", "upgrade", DATABASE_URL=url)  # 1.
            copy = ("db", "copy", "--from", sqlite)
            spoolway(*copy, DATABASE_URL=url, SPOOLWAY_DIR=str(folder))  # 2.
            assert old.terminate() == 0  # 3.
            workers = [site.worker().started(), site.worker().started()]
            said = spoolway(*copy, DATABASE_URL=url, SPOOLWAY_DIR=str(folder))  # 4.
            assert "both sides are the same" in said
            for worker in workers:
                rises(partial(total, worker, "inserted"), 1, timeout=30, every=0.1)
            settings = {"DATABASE_URL": url, "SPOOLWAY_DIR": str(folder)}
            keep = {"SPOOLWAY_REQUEST_RETENTION_DAYS": str(KEEP_DAYS)}
            spoolway("retention", **settings, **keep)
    removed = [key_and_hash(line)[0] for line in history]
    assert rows(direct, _present(removed)) == []
    site.ledger.destroyed(removed)
    site.proven(fired=removed and old.exit_code == 0)


def _request(event_id: UUID) -> bytes:
    return encode_line({"type": "request", "id": event_id, "model_name": "m", "body": {"n": 0}})


def _present(ids: list[str]) -> str:
    return f"SELECT id FROM request_logs WHERE id IN ({', '.join(map(repr, ids))})"
