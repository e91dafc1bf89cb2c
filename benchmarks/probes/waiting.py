"""A million events that wait on the stream: the memory of the worker that drains them, and Redis'."""

from collections.abc import Sequence
from typing import Final

from benchmarks.children import running, spoolway
from benchmarks.drained import begun, fill, stream_length, until_empty
from benchmarks.probes.base import Bound, Figure
from benchmarks.scale.drain import used_memory
from benchmarks.scale.stock import frames, json_bytes
from benchmarks.servers import Servers, now

_EVENTS: Final = 1_000_000
_KILOBYTES: Final = 4
_MB: Final = 1 << 20
_RSS: Final = Bound(floor=200, aim=120)
_PACKED: Final = Bound(floor=0.45, aim=0.3)


class Waiting:
    """One worker with its defaults; the rows are counted afterwards."""

    name = "waiting"
    each_round = False

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Fill the stream, then have a worker drain all of it into PostgreSQL."""
        events = _EVENTS // (100 if quick else 1)
        command = spoolway("worker", servers.worker_folder, servers.redis_url, servers.postgres_url)
        log = servers.folder / "waiting-worker.log"
        with servers.valkey.client(timeout=60) as client:
            before = used_memory(client)
            fill(client, frames(_KILOBYTES, events))
            redis_bytes = used_memory(client) - before
            with running(command, log, {"SPOOLWAY_LOG_LEVEL": "WARNING"}) as worker:
                began = begun(client, worker)
                until_empty(lambda: stream_length(client), worker)
                seconds = now() - began
                peak = worker.peak_rss()
        rows = servers.postgres_rows().rows
        assert rows == events, f"{rows} rows in the tables, {events} events were on the stream"
        what = f"{events:,} events of {_KILOBYTES} KB waiting"
        raw = json_bytes(_KILOBYTES, events)
        return [
            Figure(f"worker's peak RSS, {what}", peak / _MB, "MB", _RSS),
            Figure(f"bytes in Redis ÷ raw JSON, {what}", redis_bytes / raw, "", _PACKED),
            Figure(f"drained, {what}", events / seconds, "/s"),
        ]
