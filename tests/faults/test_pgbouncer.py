"""pgbouncer between the workers and PostgreSQL: in transaction mode, and killed."""

from collections.abc import Callable

import pytest

from tests.faults.site import Site, error_line, rises, total
from tests.servers import Pgbouncer, PostgresServer, ValkeyServer, eventually
from tests.stores import Templates
from tests.workers import count, push, request_line, spooled, waiting

Start = Callable[..., Pgbouncer]


def through_pgbouncer(site: Site, pooler: Pgbouncer, *, rounds: int) -> None:
    """Load with redeliveries on two workers, and a pooler that is killed in the middle of it."""
    site.reached_at = pooler.url(site.database)
    workers = [
        site.worker(
            SPOOLWAY_BATCH_EVENTS="200",
            SPOOLWAY_WRITE_TIMEOUT="3",
            DATABASE_POOL_SIZE="4",
            folder=site.folder.with_name(f"worker-{n}"),
        ).started()
        for n in range(2)
    ]
    spooled_in_all = 0
    for _ in range(rounds):
        lines = [request_line(model_name="gpt-4o", body={"n": n}) for n in range(1_500)]
        site.send(lines, per_frame=50)
        push(site.valkey, lines[:500], per_frame=50)  # again: duplicates, through staging
        errors = [error_line(error_message=f"no {n}") for n in range(200)]
        site.send(errors, per_frame=50)
        rises(lambda: count(site.database), 100, timeout=30)
        pooler.kill()
        site.send_requests(400, per_frame=20)
        eventually(
            lambda: sum(spooled(worker.folder) for worker in workers),
            timeout=30,
            what="a spool of what could not be written",
        )
        spooled_in_all += 1
        pooler.start()
        rises(lambda: -waiting(site.valkey), 0, timeout=30)
    site.proven(fired=spooled_in_all)
    rises(
        lambda: sum(total(worker, "duplicate", "replay_duplicate") for worker in workers),
        500 * rounds,
        timeout=10,
    )
    for worker in workers:
        assert "prepared statement" not in worker.output()
        assert worker.terminate() == 0


@pytest.mark.chaos
def test_two_workers_through_a_pgbouncer_that_is_killed(
    site: Site, start_pgbouncer: Start, newest_postgres: PostgresServer
) -> None:
    """Two server connections for all: each event once, with redeliveries and an outage between."""
    pooler = start_pgbouncer(newest_postgres, settings={"default_pool_size": 2})
    through_pgbouncer(site, pooler, rounds=1)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_two_workers_through_a_pgbouncer_that_is_killed_again_and_again(
    sites: Callable[..., Site],
    migrated: Templates,
    start_pgbouncer: Start,
    postgres_server: PostgresServer,
    valkey: ValkeyServer,
) -> None:
    """The same four times over, on every PostgreSQL found."""
    pooler = start_pgbouncer(postgres_server, settings={"default_pool_size": 2})
    with migrated.postgres(postgres_server) as logs:
        through_pgbouncer(sites(logs.dsn, valkey), pooler, rounds=4)
