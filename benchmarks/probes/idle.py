"""What a worker costs that has nothing to do: CPU, round trips to Redis, statements to PostgreSQL."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from benchmarks.children import Child, running, spoolway
from benchmarks.probes.base import Bound, Figure
from benchmarks.servers import Servers, cpu_seconds, now
from spoolway.schema import DEFAULT_STREAM
from tests.servers import eventually

_SECONDS: Final = 60.0
"""A whole minute: some control jobs run once in each."""
_SETTLING: Final = 5.0
"""Seconds after its first blocking read in which a worker still warms up."""
_OWN_READS: Final = 1
"""Of the reads that Redis counts between two INFO, one is that of the second INFO."""
_OFTEN: Final = 5
"""Times a minute from which on a command is listed."""
_CPU: Final = Bound(floor=1.0)
_ROUND_TRIPS: Final = Bound(floor=120)
_STATEMENT: Final = re.compile(rb"LOG:  (statement|execute [^:]*):")


@dataclass(slots=True, frozen=True)
class _Seen:
    """Counts since the servers' starts."""

    at: float
    cpu: float
    reads: int
    commands: Counter[str]
    statements: int


class Idle:
    """A worker with its defaults, an empty stream and an empty spool."""

    name = "idle"
    each_round = False

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Watch it for a minute.

        Redis counts its reads from sockets: a pipeline is one, however many commands it has.
        PostgreSQL logs every statement for this database, and its log is counted.
        """
        command = spoolway("worker", servers.worker_folder, servers.redis_url, servers.postgres_url)
        log = servers.folder / "idle-worker.log"
        # From postgres, and not from bench: what is done here must not be counted.
        servers.postgres.sql("ALTER DATABASE bench SET log_statement = 'all'")
        try:
            with (
                servers.valkey.client(timeout=60) as client,
                running(command, log, {"SPOOLWAY_LOG_LEVEL": "WARNING"}) as worker,
            ):
                eventually(lambda: _is_reading(client, worker), timeout=60, what="the worker reads")
                time.sleep(_SETTLING / (10 if quick else 1))
                before = _seen(servers, client, worker)
                time.sleep(_SECONDS / (100 if quick else 1))
                after = _seen(servers, client, worker)
                worker.must_run()
        finally:
            servers.postgres.sql("ALTER DATABASE bench RESET log_statement")
        return _figures(before, after)


def _figures(before: _Seen, after: _Seen) -> list[Figure]:
    minutes = (after.at - before.at) / 60
    reads = after.reads - before.reads - _OWN_READS
    commands = after.commands - before.commands
    return [
        Figure("idle worker, CPU", (after.cpu - before.cpu) / (minutes * 60) * 100, "%", _CPU),
        Figure("idle worker, round trips to Redis", reads / minutes, "/min", _ROUND_TRIPS),
        *(
            Figure(f"idle worker, {name.upper()} among them", count / minutes, "/min")
            for name, count in commands.most_common()
            if count / minutes >= _OFTEN and name != "info"
        ),
        Figure(
            "idle worker, statements to PostgreSQL",
            (after.statements - before.statements) / minutes,
            "/min",
        ),
    ]


def _is_reading(client: Any, worker: Child) -> bool:
    worker.must_run()
    clients = cast("dict[str, Any]", client.info("clients"))
    return bool(clients["blocked_clients"]) and bool(client.exists(DEFAULT_STREAM))


def _seen(servers: Servers, client: Any, worker: Child) -> _Seen:
    # One INFO, over a connection that is open already: it is one read.
    told = cast("dict[str, Any]", client.info("everything"))
    commands = {
        name.removeprefix("cmdstat_"): int(stats["calls"])
        for name, stats in told.items()
        if name.startswith("cmdstat_")
    }
    return _Seen(
        at=now(),
        cpu=cpu_seconds(worker.pid),
        reads=int(told["total_reads_processed"]),
        commands=Counter(commands),
        statements=len(_STATEMENT.findall(servers.postgres.log.read_bytes())),
    )
