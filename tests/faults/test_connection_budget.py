"""The number of connections: never above what a worker may have, whatever goes wrong."""

import pytest

from tests.faults.site import Site, error_line, rises, total
from tests.servers import eventually
from tests.sessions import most_sessions
from tests.workers import push, request_line, rows, spooled

NAP = """
CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'
"""
SLOW = """
CREATE TRIGGER nap BEFORE INSERT ON request_logs FOR EACH ROW
WHEN (NEW.model_name = 'slow') EXECUTE FUNCTION nap()
"""


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_two_workers_never_have_more_connections_than_they_may(site: Site) -> None:
    """Start, load, redeliveries, slow rows, locks, cut sessions, replay and jobs: two for each."""
    workers = [
        site.worker(
            folder=site.folder.with_name(f"worker-{n}"),
            DATABASE_POOL_SIZE="1",
            DATABASE_MAX_OVERFLOW="1",
            DATABASE_CONN_MAX_LIFETIME="1s",
            SPOOLWAY_IN_FLIGHT="4",
            SPOOLWAY_BATCH_EVENTS="100",
            SPOOLWAY_WRITE_TIMEOUT="1",
        )
        for n in range(2)
    ]
    with most_sessions(site.database) as most:
        for worker in workers:
            worker.started()
        for statement in (NAP, SLOW):
            rows(site.database, statement)
        given_up = 0
        for _ in range(4):
            lines = [request_line(model_name="gpt-4o", body={"n": n}) for n in range(1_000)]
            site.send(lines, per_frame=20)
            push(site.valkey, lines[:300], per_frame=20)
            site.send([error_line(error_message=f"no {n}") for n in range(100)], per_frame=20)
            site.send([request_line(model_name="slow", body={"n": 1})])
            eventually(
                lambda: any(spooled(worker.folder) for worker in workers),
                timeout=30,
                what="a spool of what took too long",
            )
            rows(
                site.database,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'spoolway' AND datname = current_database()",
            )
            given_up += 1
        rows(site.database, "DROP TRIGGER nap ON request_logs")
        site.proven(fired=given_up)
        rises(lambda: sum(total(worker, "replayed") for worker in workers), 1, timeout=10)
    assert most.together == most.by_name["spoolway"] == 4  # full, and never above
    assert most.by_name["spoolway db"] >= 1  # both looked at the tables' version at their start
    assert most.looks > 500
    for worker in workers:
        assert worker.terminate() == 0
