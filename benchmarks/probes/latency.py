"""Commit latency: from the moment of a request to the moment its row is committed, at half load.

An event's time is what the proxy's process read from the clock when it called `emit()`. The moment of
its commit is PostgreSQL's own: with `track_commit_timestamp` it keeps, for each transaction, when it
was committed, and a row names its transaction (xmin). Nothing looks at the tables while they are
written. (`created_at` would be when the transaction began.) PostgreSQL reads that clock just before
the commit is written and synced: the time of a commit that does nothing else, measured meanwhile, is
added.
"""

import asyncio
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson

from benchmarks.children import Child, python_module, running, spoolway
from benchmarks.drained import begun, fill, stream_length, until_empty
from benchmarks.probes.base import Bound, Figure
from benchmarks.probes.paced import KILOBYTES, Paced
from benchmarks.scale.stock import frames
from benchmarks.servers import Servers, now

_DRAINED: Final = 50_000
"""Events drained beforehand, which tells what full load is."""
_SECONDS: Final = 10.0
_QUICKLY: Final = 50
"""How many times fewer events, and seconds, a quick run has."""
_LOAD: Final = 0.5
_KEPT_RATE: Final = 0.95
"""Least share of the asked rate that the producer's process must have kept up."""
_SYNC_EVERY: Final = 0.1
_P99: Final = Bound(floor=1_000, aim=300)
_QUIET: Final = {"SPOOLWAY_LOG_LEVEL": "WARNING"}
_COMMIT: Final = "SELECT pg_logical_emit_message(true, 'probe', '')"
"""A transaction with nothing in it but what must be synced."""
_LATENCIES: Final = """
SELECT count(ms), percentile_cont(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY ms)
FROM (
    SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - request_time) * 1000 AS ms
    FROM request_logs WHERE request_time >= $1
) AS committed
"""


class Latency:
    """A producer's process, Redis, one worker with its defaults and PostgreSQL on one machine."""

    name = "latency"
    each_round = False

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Measure what one worker drains, then what half of that takes."""
        share = _QUICKLY if quick else 1
        with _commit_times_kept(servers), servers.valkey.client(timeout=60) as client:
            fill(client, frames(KILOBYTES, _DRAINED // share))
            with running(
                spoolway("worker", servers.worker_folder, servers.redis_url, servers.postgres_url),
                servers.folder / "latency-worker.log",
                _QUIET,
            ) as worker:
                began = begun(client, worker)
                until_empty(lambda: stream_length(client), worker)
                rate = _DRAINED / share / (now() - began) * _LOAD
                since = datetime.now(UTC)
                paced, syncs = asyncio.run(_loaded(servers, worker, rate, _SECONDS / share))
                until_empty(lambda: stream_length(client), worker)
            events, milliseconds = asyncio.run(_latencies(servers, since))
        assert events == paced.events, f"{events} rows of {paced.events} events"
        kept = paced.events / paced.seconds
        assert quick or kept >= rate * _KEPT_RATE, f"{kept:.0f}/s emitted, {rate:.0f}/s asked for"
        sync = statistics.median(syncs)
        p50, p99, longest = (value + sync for value in milliseconds)
        what = f"commit latency at half load, {KILOBYTES} KB"
        return [
            Figure(f"{what}, p50", p50, "ms"),
            Figure(f"{what}, p99", p99, "ms", _P99),
            Figure(f"{what}, longest", longest, "ms"),
            Figure(
                f"{what}, until on the stream (the producer's linger and push), p50",
                paced.pushed_p50_ms,
                "ms",
            ),
            Figure(f"{what}, until on the stream, p99", paced.pushed_p99_ms, "ms"),
            Figure(f"{what}, syncing a commit, median", sync, "ms"),
            Figure(f"{what}, half load", kept, "/s"),
        ]


@contextmanager
def _commit_times_kept(servers: Servers) -> Iterator[None]:
    """Restart PostgreSQL with and afterwards without them: it takes no other way."""
    setting = "track_commit_timestamp"
    servers.postgres.sql(f"ALTER SYSTEM SET {setting} = on")
    servers.postgres.stop()
    servers.postgres.start()
    try:
        yield
    finally:
        servers.postgres.sql(f"ALTER SYSTEM RESET {setting}")
        servers.postgres.stop()
        servers.postgres.start()


async def _loaded(
    servers: Servers, worker: Child, rate: float, seconds: float
) -> tuple[Paced, list[float]]:
    """Let a process emit; return what it tells, and the milliseconds of bare commits meanwhile."""
    result = servers.folder / "paced.json"
    result.unlink(missing_ok=True)
    command = [
        *python_module("benchmarks.probes.paced"),
        *(servers.redis_url, str(rate), str(seconds), str(result)),
    ]
    syncs: list[float] = []
    connection = await asyncpg.connect(servers.postgres_url)
    try:
        with running(command, servers.folder / "paced.log", {}, may_end=True) as producer:
            while not result.exists():
                worker.must_run()
                producer.must_run()
                syncs.append(await _committed(connection))
                await asyncio.sleep(_SYNC_EVERY)
            producer.must_succeed()
    finally:
        await connection.close()
    return Paced(**orjson.loads(_read(result))), syncs


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def _committed(connection: Any) -> float:
    began = now()
    await connection.execute(_COMMIT)
    return (now() - began) * 1e3


async def _latencies(servers: Servers, since: datetime) -> tuple[int, list[float]]:
    """Return the number of rows, and the p50, p99 and longest of their milliseconds."""
    connection = await asyncpg.connect(servers.postgres_url)
    try:
        [row] = await connection.fetch(_LATENCIES, since)
    finally:
        await connection.close()
    return row[0], [float(value) for value in row[1]]
