"""Two versions side by side, as docs/deployment.md has it for an upgrade and a rollback."""

from pathlib import Path

import pytest

from tests.commands import refusal, run
from tests.servers import ValkeyServer
from tests.workers import WorkerProcess, count, drained, ending, push, request_line, rows, waiting


@pytest.mark.chaos
@pytest.mark.parametrize("auto_migrate", ["true", "false"])
def test_worker_that_runs_goes_on_when_a_newer_version_has_migrated(
    auto_migrate: str, newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """Its rows land beside a column that it does not know; one that starts then refuses.

    What that one would have drained waits in Redis.
    """
    url = newest_postgres_url
    worker = WorkerProcess(url, valkey.url, folder)
    with ending(worker):
        worker.started()
        rows(url, "ALTER TABLE request_logs ADD COLUMN newer text NOT NULL DEFAULT 'x'")
        rows(url, "UPDATE spoolway_alembic_version SET version_num = '9999'")
        push(valkey, [request_line() for _ in range(100)])
        drained(valkey, worker)
        assert worker.terminate() == 0
    assert count(url) == 100

    push(valkey, [request_line()])
    said = refusal(
        run(
            "worker",
            DATABASE_URL=url,
            REDIS_URL=valkey.url,
            SPOOLWAY_DIR=str(folder),
            DATABASE_AUTO_MIGRATE=auto_migrate,
        )
    )
    assert "spoolway db downgrade" in said
    assert waiting(valkey) == 1
