"""What breaks first when the load grows: the events per second at which each thing is used up.

Costs are measured; what a machine has is assumed, and stands beside the result.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scale.model import BUSY, DAY, KB, Costs


@dataclass(slots=True, frozen=True)
class Machine:
    """What one server is assumed to have; Redis and PostgreSQL have one each."""

    processors: int = 32
    network_bytes: float = 1.25e9
    """Per second and direction: 10 Gbit/s."""
    disk_bytes: float = 1e9
    """Per second, written in order and synced: an NVMe disk."""


@dataclass(slots=True, frozen=True)
class Limit:
    """The most events per second that one thing takes, and what to do about it."""

    what: str
    events_per_second: float
    remedy: str


_PARTITION_BYTES = 2**32 * 8 * KB
"""PostgreSQL: 2³² pages of 8 KB in a table."""
_PARTITION_TOASTED = 2**32
"""PostgreSQL: values beside their rows have a number of 32 bits, unique in their table."""


def limits(costs: Costs, kilobytes: float, machine: Machine) -> Sequence[Limit]:
    """Return all limits, the lowest first."""
    packed = costs.packed_bytes.at(kilobytes)
    cores = f"{machine.processors} processors, {BUSY:.0%} busy"
    uses = (
        (
            f"Redis: one thread, {BUSY:.0%} busy",
            costs.redis_us.at(kilobytes) / 1e6,
            BUSY,
            "several streams on several servers, producers and workers shared out among them",
        ),
        (
            "Redis: its network, out to workers",
            packed,
            machine.network_bytes * BUSY,
            "several servers; a higher level of zstd at the producers",
        ),
        (
            f"PostgreSQL: {cores}",
            costs.postgres_us.at(kilobytes) / 1e6,
            machine.processors * BUSY,
            "fewer indexes; several databases, each with streams and workers of its own",
        ),
        (
            "PostgreSQL: its network, in from workers",
            kilobytes * KB,
            machine.network_bytes * BUSY,
            "workers on the same machine; 25 Gbit/s; several databases",
        ),
        (
            "PostgreSQL: WAL on one disk",
            costs.wal_bytes.at(kilobytes),
            machine.disk_bytes * BUSY,
            "WAL on a disk of its own, wal_compression; several databases",
        ),
        (
            "PostgreSQL: 32 TB in a table, of which each day has two",
            costs.table_bytes.at(kilobytes) * DAY,
            _PARTITION_BYTES,
            "partitions of hours; bodies in object storage, with their address in the row",
        ),
        (
            "PostgreSQL: 2³² values beside their rows in the partition of a day",
            costs.toasted.at(kilobytes) * DAY,
            _PARTITION_TOASTED,
            "toast_tuple_target of 4080 keeps rows of 4 KB whole; partitions of hours; bodies elsewhere",
        ),
    )
    found = [Limit(what, has / use, remedy) for what, use, has, remedy in uses if use > 0]
    return sorted(found, key=lambda limit: limit.events_per_second)
