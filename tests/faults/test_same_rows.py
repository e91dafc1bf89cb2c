"""Fault 18: whatever a proxy sends becomes the same rows on every database, live and replayed.

One worker per database, each with a stream of its own, is fed the same events; what the tables hold
is compared column by column.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from spoolway.schema import FrameEncoder, encode_line, new_id
from tests.faults.oracle import Found, Ledger, verdict
from tests.servers import PostgresServer, ValkeyServer, eventually, postgres_binaries
from tests.stores import Database, Templates, without_own
from tests.strategies import anything, error_fields, legal_fields, request_fields
from tests.workers import WorkerProcess, ending

DATABASES = ("sqlite", *postgres_binaries())
Row = dict[str, Any]


@dataclass
class Target:
    """One database, its worker and its stream."""

    name: str
    logs: Database
    worker: WorkerProcess
    ledger: Ledger = field(default_factory=Ledger)

    @property
    def stream(self) -> str:
        """The stream that its worker reads."""
        return f"same-rows:{self.name}"


@pytest.fixture
def targets(
    tmp_path: Path,
    migrated: Templates,
    postgres_servers: Callable[[str], PostgresServer],
    valkey: ValkeyServer,
) -> Iterator[list[Target]]:
    """A running worker on each of the databases."""
    with ExitStack() as stack:
        found = []
        for name in DATABASES:
            where = (
                migrated.sqlite(tmp_path)
                if name == "sqlite"
                else migrated.postgres(postgres_servers(name))
            )
            logs = stack.enter_context(where)
            worker = WorkerProcess(
                f"sqlite:///{logs.path}" if logs.is_sqlite else logs.dsn,
                valkey.url,
                tmp_path / name,
                SPOOLWAY_STREAM=f"same-rows:{name}",
            )
            stack.enter_context(ending(worker.start()))
            found.append(Target(name, logs, worker))
        yield found


def given_to_all(targets: list[Target], valkey: ValkeyServer, lines: list[bytes]) -> None:
    """Push the same frame to each stream, and wait until every worker has done with it."""
    frame = FrameEncoder().encode(lines, len(lines))
    with valkey.client() as client:
        for target in targets:
            client.xadd(target.stream, dict(frame))
        eventually(
            lambda: all(client.xlen(target.stream) == 0 for target in targets),
            timeout=30,
            every=0.002,
        )


def stored(target: Target, ids: set[UUID]) -> dict[UUID, Row]:
    """Read the rows of these ids, as the columns are declared, without what the database adds."""

    async def read() -> dict[UUID, Row]:
        found = {}
        for table in ("request_logs", "error_logs"):
            for row in await target.logs.rows(table):
                if row["id"] in ids:
                    found[row["id"]] = without_own(row)
        return found

    return asyncio.run(read())


def assert_same_rows(targets: list[Target], valkey: ValkeyServer, events: list[Row]) -> None:
    """Assert that every event is one row on each of the databases, with the same content."""
    events = [{**event, "id": new_id()} for event in events]
    given_to_all(targets, valkey, [encode_line(event) for event in events])
    ids = {event["id"] for event in events}
    first, *others = [stored(target, ids) for target in targets]
    assert first.keys() == ids, "every event is a row"
    for target, other in zip(targets[1:], others, strict=True):
        assert first == other, f"{targets[0].name} and {target.name} differ"


def with_extra_depth() -> st.SearchStrategy[Row]:
    """A request whose columns of every kind hold anything at all."""
    return st.fixed_dictionaries(
        {"type": st.just("request"), "body": anything(), "extra": anything(), "path": anything()}
    )


PROXIES_EVENTS = st.lists(
    legal_fields() | request_fields() | error_fields() | with_extra_depth(), min_size=1, max_size=20
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


# Without shrinking, which takes minutes here: `make chaos` finds the same, and shrinks it.
@settings(max_examples=8, phases=[Phase.generate], suppress_health_check=QUIET)
@given(events=PROXIES_EVENTS)
def test_whatever_a_proxy_sends_is_the_same_rows_everywhere(
    targets: list[Target], valkey: ValkeyServer, events: list[Row]
) -> None:
    """PostgreSQL of every version found and SQLite end up with the same rows."""
    assert_same_rows(targets, valkey, events)


@pytest.mark.chaos
@pytest.mark.timeout(1_200)
@settings(max_examples=300, suppress_health_check=QUIET)
@given(events=PROXIES_EVENTS)
def test_many_times_whatever_a_proxy_sends_is_the_same_rows_everywhere(
    targets: list[Target], valkey: ValkeyServer, events: list[Row]
) -> None:
    """The same, searched for longer."""
    assert_same_rows(targets, valkey, events)


@pytest.mark.chaos
def test_every_database_is_right_by_the_oracle(targets: list[Target], valkey: ValkeyServer) -> None:
    """The oracle finds nothing wrong on any of them."""
    lines = [encode_line({"type": "request", "id": new_id(), "body": {"n": n}}) for n in range(500)]
    given_to_all(targets, valkey, lines)
    given_to_all(targets, valkey, lines[:100])
    for target in targets:
        target.ledger.accept(lines)
        database = str(target.worker._environment["DATABASE_URL"])
        verdict(
            target.ledger,
            Found.everywhere(database, valkey, [target.worker.folder], stream=target.stream),
        )
