"""Every metric: its name, type, help and labels. docs/monitoring.md is this as a table."""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(slots=True, frozen=True)
class Family:
    """One metric."""

    name: str
    """As in a query; a histogram's without _bucket, _sum and _count."""
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


FAMILIES: Final = {
    family.name: family
    for family in (
        # What became of events. At any time
        # read = settled + in flight, and accepted = read - given_back.
        Family(
            "spoolway_read_events_total",
            "counter",
            "Events read from the stream; those that were given back are read again.",
        ),
        Family(
            "spoolway_settled_events_total",
            "counter",
            "Events by what became of them: inserted, duplicate, dead, spooled, given_back.",
            ("result",),
        ),
        Family(
            "spoolway_in_flight_events", "gauge", "Events that were read and are not settled yet."
        ),
        Family(
            "spoolway_dead_events_total",
            "counter",
            "Events from the stream that became dead letters, by reason.",
            ("reason",),
        ),
        Family(
            "spoolway_replayed_events_total",
            "counter",
            "Events that this worker brought back from the spool, by what became of them.",
            ("result",),
        ),
        Family(
            "spoolway_lost_entries_total",
            "counter",
            "Stream entries that were deleted while they were pending: something trims the stream.",
        ),
        Family(
            "spoolway_claimed_entries_total",
            "counter",
            "Stream entries taken over from workers that went away.",
        ),
        Family(
            "spoolway_recreated_groups_total",
            "counter",
            "Times the consumer group was gone and was made anew.",
        ),
        Family(
            "spoolway_write_failures_total", "counter", "Writes to the database that were given up."
        ),
        Family("spoolway_redis_failures_total", "counter", "Commands to Redis that failed."),
        Family(
            "spoolway_removed_rows_total",
            "counter",
            "Rows that retention has removed, by this worker.",
        ),
        Family(
            "spoolway_removed_partitions_total", "counter", "Partitions that retention has dropped."
        ),
        Family(
            "spoolway_expired_bodies_total", "counter", "Rows whose bodies retention has removed."
        ),
        # How large and how slow.
        Family("spoolway_batch_events", "histogram", "Events in a batch."),
        Family("spoolway_batch_bytes", "histogram", "Bytes of JSON lines in a batch."),
        Family(
            "spoolway_batch_seconds",
            "histogram",
            "Seconds from a batch's decoding until all of it is in the database or on disk.",
        ),
        Family(
            "spoolway_commit_latency_seconds",
            "histogram",
            "Seconds from an event's end until its row is committed; sampled, and weighted. "
            "Without what went through the spool.",
        ),
        # What the worker says of itself.
        Family("spoolway_ready", "gauge", "1 if events are read and kept, as /readyz says."),
        Family(
            "spoolway_last_turn_timestamp_seconds", "gauge", "When the drain loop last went round."
        ),
        Family(
            "spoolway_last_settled_timestamp_seconds",
            "gauge",
            "When events last became safe: in the database, in the spool, or as dead letters.",
        ),
        Family("spoolway_last_commit_timestamp_seconds", "gauge", "When rows were last inserted."),
        Family(
            "spoolway_breaker_state",
            "gauge",
            "1 for the state that the database's breaker is in, 0 for the others.",
            ("state",),
        ),
        Family(
            "spoolway_outage_seconds",
            "gauge",
            "How long the database, redis, the spool's disk or the dead letters' has failed by now.",
            ("of",),
        ),
        Family(
            "spoolway_pool_connections",
            "gauge",
            "Connections to PostgreSQL, in_use or idle.",
            ("state",),
        ),
        Family(
            "spoolway_pool_limit_connections",
            "gauge",
            "Connections to PostgreSQL that may be open: pool size and overflow.",
        ),
        Family(
            "spoolway_build_info",
            "gauge",
            "1; what this worker is.",
            ("version", "python", "database", "consumer"),
        ),
        Family("process_resident_memory_bytes", "gauge", "Memory of the worker's process."),
        Family("process_cpu_seconds_total", "counter", "Processor time of the worker's process."),
        Family("process_start_time_seconds", "gauge", "When the worker was started."),
        # What is asked for.
        Family(
            "spoolway_source_up",
            "gauge",
            "1 if redis, the database, the disk or the dead letters answered when last asked.",
            ("source",),
        ),
        Family(
            "spoolway_stream_entries",
            "gauge",
            "Entries in the stream: not read, or not acknowledged.",
            ("stream",),
        ),
        Family(
            "spoolway_stream_pending_entries",
            "gauge",
            "Entries that a worker has read and not acknowledged.",
            ("stream",),
        ),
        Family(
            "spoolway_stream_lag_entries",
            "gauge",
            "Entries that no worker has read. Absent where Redis cannot tell.",
            ("stream",),
        ),
        Family(
            "spoolway_stream_lag_seconds",
            "gauge",
            "Age of the oldest entry that no worker has read.",
            ("stream",),
        ),
        Family(
            "spoolway_stream_pending_seconds",
            "gauge",
            "Age of the oldest entry that is pending.",
            ("stream",),
        ),
        Family("spoolway_redis_memory_bytes", "gauge", "Memory that Redis uses."),
        Family(
            "spoolway_redis_memory_limit_bytes",
            "gauge",
            "Memory that Redis may use (maxmemory); 0 is without limit.",
        ),
        Family("spoolway_spool_segments", "gauge", "Segments in this folder's spool."),
        Family("spoolway_spool_bytes", "gauge", "Bytes in this folder's spool."),
        Family("spoolway_spool_limit_bytes", "gauge", "Bytes that the spool may take."),
        Family("spoolway_spool_oldest_seconds", "gauge", "Age of the spool's oldest event."),
        Family("spoolway_disk_free_bytes", "gauge", "Bytes free on the folder's disk."),
        Family("spoolway_disk_reserved_bytes", "gauge", "Bytes that the spool leaves free."),
        Family(
            "spoolway_dead_letters", "gauge", "Dead letters in this folder, by reason.", ("reason",)
        ),
        Family("spoolway_database_bytes", "gauge", "Bytes of the whole database."),
        Family(
            "spoolway_database_free_bytes",
            "gauge",
            "Of these, pages to be used again. SQLite alone.",
        ),
        Family(
            "spoolway_table_bytes",
            "gauge",
            "Bytes of a table with indexes and partitions. PostgreSQL alone.",
            ("table",),
        ),
        Family("spoolway_partitions", "gauge", "Partitions of a table.", ("table",)),
        Family(
            "spoolway_partition_days_ready",
            "gauge",
            "UTC days in a row, from today on, that have a partition.",
            ("table",),
        ),
    )
}
