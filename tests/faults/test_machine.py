"""Faults in any order: a state machine in which a crash is an action, over real servers and workers.

Whatever happened, at the end everything is brought back, one worker finishes the work, and the
oracle finds nothing wrong.
"""

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spoolway.schema import new_id
from tests.faults.crashing_worker import STEPS
from tests.faults.oracle import conserved, key_and_hash
from tests.faults.site import Site, error_line
from tests.faults.test_poison import HOPELESS, REPAIRABLE
from tests.servers import PostgresServer, ValkeyServer, eventually
from tests.stores import Templates
from tests.workers import WorkerProcess, spooled, waiting

SETTINGS = {
    "SPOOLWAY_WRITE_TIMEOUT": "1",
    "SPOOLWAY_STARTUP_TIMEOUT": "0.3",
    "SPOOLWAY_BATCH_EVENTS": "50",
    "SPOOLWAY_LOG_LEVEL": "WARNING",
}
MOST_WORKERS = 2
A_WHILE = 0.6
"""Seconds that the workers are left alone at most, until something moves."""


@dataclass
class Ground:
    """What all examples of a test share: starting servers takes longer than an example."""

    migrated: Templates
    valkey: ValkeyServer
    folder: Path
    server: PostgresServer | None = None
    """None: SQLite."""
    numbers: "count[int]" = field(default_factory=count)

    def revive(self) -> None:
        """Bring back what an example has broken."""
        if not self.valkey.running:
            self.valkey.start()
        if self.server is not None:
            if not self.server.running:
                self.server.start()
            self.server.resume()


class Outages(RuleBasedStateMachine):
    """One example: a database, a stream, a folder, and what is done to them."""

    ground: ClassVar[Ground]

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        ground = self.ground
        ground.revive()
        with ground.valkey.client() as client:
            client.flushall()
        self.folder = ground.folder / str(next(ground.numbers))
        self.folder.mkdir()
        if ground.server is None:
            logs = self.stack.enter_context(ground.migrated.sqlite(self.folder))
            self.path: Path | None = logs.path
            database = f"sqlite:///{logs.path}"
        else:
            self.path = None
            database = self.stack.enter_context(ground.migrated.postgres(ground.server)).dsn
        self.site = Site(database, ground.valkey, self.folder / "var", environment=dict(SETTINGS))
        self.site.crashes = True
        self.stack.callback(self.site.close)
        self.dead: list[str] = []
        self.suspended = False
        self.lock: sqlite3.Connection | None = None

    # What may be done.

    @initialize(most=st.sampled_from([None, None, 40_000, 0]))
    def settings(self, most: int | None) -> None:
        """Draw how much the spool may hold: at times nothing."""
        if most is not None:
            self.site.environment["SPOOLWAY_SPOOL_MAX_BYTES"] = str(most)

    @precondition(lambda self: self.ground.valkey.running)
    @rule(events=st.integers(1, 400), per_frame=st.sampled_from([1, 7, 100]))
    def push_good(self, events: int, per_frame: int) -> None:
        """Push requests."""
        self.site.send_requests(events, per_frame=per_frame)

    @precondition(lambda self: self.ground.valkey.running)
    @rule(
        hopeless=st.lists(st.integers(0, len(HOPELESS) - 1), max_size=3),
        repairable=st.lists(st.integers(0, len(REPAIRABLE) - 1), max_size=3),
        errors=st.integers(0, 5),
    )
    def push_odd(self, hopeless: list[int], repairable: list[int], errors: int) -> None:
        """Push what is repaired, what dies, and errors, in one frame."""
        bad = [HOPELESS[n] % new_id().hex[20:].encode() for n in hopeless]
        lines = [
            b'{"type":"request","id":"%s",%s}' % (str(new_id()).encode(), REPAIRABLE[n])
            for n in repairable
        ]
        lines += [error_line(error_message=f"{n}") for n in range(errors)]
        if bad or lines:
            self.site.send([*bad, *lines])
            self.dead += [key_and_hash(line)[0] for line in bad]

    @precondition(lambda self: self.ground.valkey.running and len(self.alive) < MOST_WORKERS)
    @rule()
    def start_worker(self) -> None:
        """Start a worker, and do not wait for it."""
        self.site.worker().start()

    @precondition(lambda self: self.ground.valkey.running and len(self.alive) < MOST_WORKERS)
    @rule(step=st.sampled_from(list(STEPS)), nth=st.integers(1, 4))
    def start_worker_that_crashes(self, step: str, nth: int) -> None:
        """Start a worker that will kill itself."""
        self.site.worker("crashing_worker.py", step, str(nth)).start()

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, MOST_WORKERS - 1))
    def kill_worker(self, which: int) -> None:
        """SIGKILL."""
        self.alive[which % len(self.alive)].kill()

    @precondition(lambda self: self.alive)
    @rule(which=st.integers(0, MOST_WORKERS - 1))
    def terminate_worker(self, which: int) -> None:
        """SIGTERM: it ends within 10 s, whatever is away."""
        worker = self.alive[which % len(self.alive)]
        # -15: before it listened to signals; -9: it crashed meanwhile, as it was told to.
        assert worker.terminate(10) in (0, -15, -9), worker.output()

    @precondition(lambda self: not self.database_is_away)
    @rule(mode=st.sampled_from(["fast", "immediate", "kill"]))
    def stop_database(self, mode: str) -> None:
        """Stop or kill PostgreSQL; lock SQLite."""
        server = self.ground.server
        if server is None:
            assert self.path is not None
            self.lock = sqlite3.connect(self.path, isolation_level=None, timeout=10)
            self.lock.execute("BEGIN EXCLUSIVE")
        elif mode == "kill":
            server.kill()
        else:
            server.stop("fast" if mode == "fast" else "immediate")

    @precondition(lambda self: self.ground.server is not None and not self.database_is_away)
    @rule()
    def suspend_database(self) -> None:
        """SIGSTOP."""
        assert self.ground.server is not None
        self.ground.server.suspend()
        self.suspended = True

    @precondition(lambda self: self.database_is_away)
    @rule()
    def bring_database_back(self) -> None:
        """Start, continue, unlock."""
        self.suspended = False
        if self.lock is not None:
            self.lock.execute("ROLLBACK")
            self.lock.close()
            self.lock = None
        elif (server := self.ground.server) is not None:
            if server.running:
                server.resume()
            else:
                server.start()

    @precondition(lambda self: self.ground.valkey.running)
    @rule()
    def kill_valkey(self) -> None:
        """SIGKILL; what it has accepted is in its file."""
        self.ground.valkey.kill()

    @precondition(lambda self: not self.ground.valkey.running)
    @rule()
    def start_valkey(self) -> None:
        """Start it again."""
        self.ground.valkey.start()

    @precondition(lambda self: self.alive)
    @rule()
    def let_them_work(self) -> None:
        """Leave the workers alone until something moves, for a while at most."""
        before = self.position
        with suppress(AssertionError):
            eventually(lambda: self.position != before, timeout=A_WHILE, every=0.02)

    @precondition(lambda self: not self.suspended and spooled(self.site.folder) > 0)
    @rule()
    def replay_by_hand(self) -> None:
        """Run `spoolway replay` to its end: all done, or something is left."""
        replay = self.site.command("spoolway", "replay", "--json").start()
        eventually(lambda: replay.exit_code is not None, timeout=30, what="the end of a replay")
        assert replay.exit_code in (0, 1), replay.output()

    # What must hold.

    @invariant()
    def counts_add_up(self) -> None:
        """What each live worker says of itself adds up, at any time."""
        for worker in self.alive:
            try:
                status = worker.status()
            except AssertionError:
                continue  # it crashed just now, as it was told to
            if status is not None:
                conserved(status)

    def teardown(self) -> None:
        """Bring everything back, finish the work, and ask the oracle."""
        with self.stack:
            if self.database_is_away:
                self.bring_database_back()
            self.ground.revive()
            self.site.environment["SPOOLWAY_STARTUP_TIMEOUT"] = "10"
            self.site.worker().start()
            self.site.proven(fired=True, dead=self.dead, timeout=60)

    @property
    def alive(self) -> list[WorkerProcess]:
        """The workers that run."""
        return [worker for worker in self.site.workers if worker.exit_code is None]

    @property
    def database_is_away(self) -> bool:
        """Whether it was stopped, suspended or locked."""
        server = self.ground.server
        stopped = server is not None and not server.running
        return stopped or self.suspended or self.lock is not None

    @property
    def position(self) -> tuple[int, int]:
        """Where the events are, as far as it is quickly told."""
        entries = waiting(self.ground.valkey) if self.ground.valkey.running else 0
        return entries, self.site.spooled_files()


@pytest.fixture(params=["sqlite", "postgresql"])
def machine(
    request: pytest.FixtureRequest,
    migrated: Templates,
    start_valkey: Callable[..., ValkeyServer],
    tmp_path: Path,
) -> type[Outages]:
    """The machine on servers of this test's own."""
    server = None
    if request.param == "postgresql":
        server = request.getfixturevalue("private_postgres")
    ground_ = Ground(migrated, start_valkey(append_only="always"), tmp_path, server)

    class Machine(Outages):
        ground = ground_

    return Machine


HEALTH = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_whatever_breaks_in_whatever_order_every_event_ends_up_once(
    machine: type[Outages],
) -> None:
    """A few short stories. Not shrunk: `make chaos` finds the same ones, and shrinks them."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=2,
            stateful_step_count=10,
            phases=[Phase.generate],
            suppress_health_check=HEALTH,
        ),
    )


@pytest.mark.chaos
@pytest.mark.timeout(3_600)
def test_whatever_breaks_in_many_orders_every_event_ends_up_once(machine: type[Outages]) -> None:
    """Many long stories; one that fails is told as short as it can be."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=60, stateful_step_count=40, suppress_health_check=HEALTH),
    )
