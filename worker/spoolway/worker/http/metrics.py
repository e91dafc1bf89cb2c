"""What Prometheus gets: where each metric's value is from.

A registry of its own: nothing that a library registers for itself comes along. Values are read at
the scrape, in the event loop's thread, between two steps of the drain loop: counts that belong
together are of one moment. No label comes from an event.
"""

import os
import platform
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from spoolway.worker.backlog import Backlog
from spoolway.worker.http.families import FAMILIES
from spoolway.worker.http.monitor import Monitor
from spoolway.worker.observed import Distribution
from spoolway.worker.progress import Progress

RESULTS: Final = ("inserted", "duplicate", "dead", "spooled", "given_back")
REASONS: Final = (
    "bad-frame",
    "bad-input",
    "conflict",
    "damaged",
    "not-uuid7",
    "outside-window",
    "oversize",
    "refused",
    "undecodable",
    "unreadable",
    "other",
)
"""Why letters are dead. What a file says besides these is `other`: it may be anybody's."""
BREAKER: Final = ("closed", "open", "half-open", "refusing")
OUTAGES: Final = ("database", "redis", "spool", "dead")
_BACKLOG: Final[dict[str, Callable[[Backlog], float | None]]] = {
    "spoolway_stream_entries": lambda found: found.length,
    "spoolway_stream_pending_entries": lambda found: found.pending,
    "spoolway_stream_lag_entries": lambda found: found.undelivered,
    "spoolway_stream_lag_seconds": lambda found: found.lag_seconds,
    "spoolway_stream_pending_seconds": lambda found: found.pending_seconds,
}
_VERSION: Final = version("spoolway")
_PAGE: Final = resource.getpagesize()
_MEMORY: Final = Path("/proc/self/statm")
_STARTED: Final = time.time()


def registry_of(monitor: Monitor) -> CollectorRegistry:
    """Return a registry with this worker's metrics, and nothing else."""
    registry = CollectorRegistry()
    registry.register(_Worker(monitor))
    return registry


class _Worker(Collector):
    """Builds every metric anew at each scrape: the counts themselves are the worker's."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the only collector of its registry cannot be in another's way."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what there is: of a worker that starts, only itself."""
        yield from _process()
        progress = self._monitor.progress
        if progress is not None:
            yield from self._worker(progress)
            yield from _counts(progress)
            yield from self._pool()
            yield from self._asked()

    def _worker(self, progress: Progress) -> Iterator[Metric]:
        settings = self._monitor.settings
        built = (
            _VERSION,
            platform.python_version(),
            settings.database.get_backend_name(),
            progress.consumer,
        )
        yield _family("spoolway_build_info", {built: 1})
        yield _one("spoolway_ready", not self._monitor.unready())
        yield _one("spoolway_last_turn_timestamp_seconds", progress.turned_at)
        yield _one("spoolway_last_settled_timestamp_seconds", progress.last_settled or 0)
        yield _one("spoolway_last_commit_timestamp_seconds", progress.last_commit or 0)
        shown = progress.breaker
        yield _labelled("spoolway_breaker_state", {state: state == shown for state in BREAKER})
        yield _labelled("spoolway_outage_seconds", _outages(progress))

    def _pool(self) -> Iterator[Metric]:
        settings, use = self._monitor.settings, self._monitor.pool_use()
        if use is not None:
            use_of = {"in_use": use.in_use, "idle": use.idle}
            most = settings.database_pool_size + settings.database_max_overflow
            yield _labelled("spoolway_pool_connections", use_of)
            yield _one("spoolway_pool_limit_connections", most)

    def _asked(self) -> Iterator[Metric]:
        monitor, settings = self._monitor, self._monitor.settings
        up = {sample.name: sample.value is not None for sample in monitor.samples}
        yield _labelled("spoolway_source_up", up)
        if (queue := monitor.redis.value) is not None:
            for name, value_of in _BACKLOG.items():
                values = {stream: value_of(found) for stream, found in queue.streams.items()}
                known = {stream: value for stream, value in values.items() if value is not None}
                yield _labelled(name, known)
            if queue.memory is not None:
                yield _one("spoolway_redis_memory_bytes", queue.memory[0])
                yield _one("spoolway_redis_memory_limit_bytes", queue.memory[1])
        if (disk := monitor.disk.value) is not None:
            yield _one("spoolway_spool_segments", disk.segments)
            yield _one("spoolway_spool_bytes", disk.bytes)
            yield _one("spoolway_spool_limit_bytes", settings.spool_max_bytes)
            yield _one("spoolway_spool_oldest_seconds", disk.oldest_seconds)
            yield _one("spoolway_disk_free_bytes", disk.free_bytes)
            yield _one("spoolway_disk_reserved_bytes", settings.spool_min_free_bytes)
        if (letters := monitor.dead_letters.value) is not None:
            yield _labelled("spoolway_dead_letters", _by_reason(letters))
        if (measured := monitor.database.value) is not None:
            tables = measured.tables.items()
            yield _one("spoolway_database_bytes", measured.bytes)
            if measured.free_bytes is not None:
                yield _one("spoolway_database_free_bytes", measured.free_bytes)
            if tables:
                yield _labelled("spoolway_table_bytes", {n: t.bytes for n, t in tables})
                yield _labelled("spoolway_partitions", {n: t.partitions for n, t in tables})
                ready = {n: t.days_ready for n, t in tables}
                yield _labelled("spoolway_partition_days_ready", ready)


def _process() -> Iterator[Metric]:
    if _MEMORY.exists():  # Linux
        pages = int(_MEMORY.read_text().split()[1])
        yield _one("process_resident_memory_bytes", pages * _PAGE)
    yield _one("process_cpu_seconds_total", sum(os.times()[:2]))
    yield _one("process_start_time_seconds", _STARTED)


def _counts(progress: Progress) -> Iterator[Metric]:
    totals, observed = progress.totals, progress.observed
    yield _one("spoolway_read_events_total", totals.read)
    settled = {result: int(getattr(totals, result)) for result in RESULTS}
    yield _labelled("spoolway_settled_events_total", settled)
    yield _one("spoolway_in_flight_events", totals.in_flight)
    yield _labelled("spoolway_dead_events_total", _by_reason(observed.dead))
    replayed = {
        "inserted": totals.replay_inserted,
        "duplicate": totals.replay_duplicate,
        "dead": totals.replay_dead,
    }
    yield _labelled("spoolway_replayed_events_total", replayed)
    yield _one("spoolway_lost_entries_total", totals.lost_entries)
    yield _one("spoolway_claimed_entries_total", totals.entries_claimed)
    yield _one("spoolway_recreated_groups_total", totals.groups_recreated)
    yield _one("spoolway_write_failures_total", totals.write_failures)
    yield _one("spoolway_redis_failures_total", totals.redis_failures)
    yield _one("spoolway_removed_rows_total", totals.removed_rows)
    yield _one("spoolway_removed_partitions_total", totals.removed_partitions)
    yield _one("spoolway_expired_bodies_total", totals.expired_bodies)
    yield _histogram("spoolway_batch_events", observed.batch_events)
    yield _histogram("spoolway_batch_bytes", observed.batch_bytes)
    yield _histogram("spoolway_batch_seconds", observed.batch_seconds)
    yield _histogram("spoolway_commit_latency_seconds", observed.commit_seconds)


def _outages(progress: Progress) -> dict[str, float]:
    """Return how long each thing has been away; of several streams, the longest."""
    seconds = dict.fromkeys(OUTAGES, 0.0)
    for what, outage in progress.outages:
        seconds[what] = max(seconds[what], outage.seconds)
    return seconds


def _by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    """Return a count for each reason, 0 included: an alert needs the series before its first."""
    found = dict.fromkeys(REASONS, 0)
    for reason, number in counts.items():
        found[reason if reason in found else "other"] += number
    return found


def _one(name: str, value: float) -> Metric:
    return _family(name, {(): value})


def _labelled(name: str, values: Mapping[str, float]) -> Metric:
    return _family(name, {(label,): value for label, value in values.items()})


def _family(name: str, values: Mapping[tuple[str, ...], float]) -> Metric:
    declared = FAMILIES[name]
    build = CounterMetricFamily if declared.type == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = build(
        name, declared.help, labels=declared.labels
    )
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _histogram(name: str, found: Distribution) -> Metric:
    family = HistogramMetricFamily(name, FAMILIES[name].help, labels=())
    family.add_metric((), list(found.cumulative()), found.sum)
    return family
