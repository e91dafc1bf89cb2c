"""From events per second and their size to workers, cores, memory and disk: arithmetic, no I/O.

Each cost of an event is a straight line over its size: something for the event, something for each
kilobyte. The lines are fitted to measurements by least squares of the relative error, so that a large
event counts no more than a small one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KB: Final = 1024
DAY: Final = 86_400
MINUTE: Final = 60

BUSY: Final = 0.7
"""Share of its time that a processor, or a worker, should be busy at most: the rest takes the peaks."""


class NotEnoughSizes(ValueError):
    """A line needs measurements at two sizes or more."""


@dataclass(slots=True, frozen=True)
class Sample:
    """One measured cost of an event of one size."""

    kilobytes: float
    cost: float


@dataclass(slots=True, frozen=True)
class Line:
    """A cost of one event: `base` for the event and `per_kb` for each of its kilobytes."""

    base: float
    per_kb: float

    def at(self, kilobytes: float) -> float:
        """Return the cost of an event of this size."""
        return self.base + self.per_kb * kilobytes


@dataclass(slots=True, frozen=True)
class Steps:
    """A cost that goes up in steps, at sizes that nobody knows: as measured at the nearest size."""

    measured: tuple[Sample, ...]

    def at(self, kilobytes: float) -> float:
        """Return the cost of an event of this size."""
        nearest = min(self.measured, key=lambda s: abs(math.log(s.kilobytes / kilobytes)))
        return nearest.cost


@dataclass(slots=True, frozen=True)
class Costs:
    """What one event costs. Times are microseconds; sizes are of its JSON, but for `redis_bytes`."""

    worker_us: Line
    """CPU of the worker."""
    postgres_us: Line
    """CPU of PostgreSQL, without autovacuum."""
    redis_us: Line
    """CPU of Redis, for what producers and workers ask of it."""
    wall_us: Line
    """Time of a worker that is never without work."""
    packed_bytes: Line
    """In a frame."""
    redis_bytes: Line
    """Memory of Redis while the event waits, over its kilobytes in a frame."""
    disk_bytes: Line
    """Tables and indexes."""
    table_bytes: Line
    """Of the larger one of two tables: that of the rows, that of the values beside them."""
    wal_bytes: Line
    spool_bytes: Line
    toasted: Steps
    """Values that PostgreSQL keeps beside the row."""


@dataclass(slots=True, frozen=True)
class Load:
    """What comes in."""

    events_per_second: float
    kilobytes: float
    """JSON of an event, the mean."""
    packed: float | None = None
    """Share of the JSON's size that a frame has; None: as the measured events were packed."""
    retention_days: float = 30


@dataclass(slots=True, frozen=True)
class Needs:
    """What a load needs. Bytes, cores, events."""

    workers: int
    worker_cores: float
    postgres_cores: float
    redis_cores: float
    redis_bytes_per_minute: float
    """While no worker runs."""
    spool_bytes_per_minute: float
    """While PostgreSQL is away."""
    network_bytes_per_second: float
    """From producers to Redis, to workers, and to PostgreSQL."""
    wal_bytes_per_second: float
    disk_bytes_per_day: float
    disk_bytes: float
    """After the retention, when each day replaces one."""
    rows_per_day: float
    toasted_per_day: float
    days_to_freeze: float
    """Until PostgreSQL must have read every partition once more, because of its 32-bit transaction
    ids (autovacuum_freeze_max_age)."""


FREEZE_AGE: Final = 200_000_000
"""Transactions: PostgreSQL's default of autovacuum_freeze_max_age."""
BATCH_EVENTS: Final = 4_000
BATCH_KB: Final = 8 * KB
"""Events, or kilobytes, that a worker's transaction aims for."""


def fit(samples: Sequence[Sample]) -> Line:
    """Return the line with the least sum of squared relative errors.

    Raises:
        NotEnoughSizes: no line can be told from these.
    """
    # Too little to be measured, as in a quick run: of that there is no relative error.
    weighed = [(s.kilobytes, s.cost, 1 / s.cost**2) for s in samples if s.cost > 0]
    if not weighed:
        return Line(0.0, 0.0)
    total = sum(w for _, _, w in weighed)
    mean_x = sum(w * x for x, _, w in weighed) / total
    mean_y = sum(w * y for _, y, w in weighed) / total
    spread = sum(w * (x - mean_x) ** 2 for x, _, w in weighed)
    if not spread:
        raise NotEnoughSizes("all samples are of one size")
    per_kb = sum(w * (x - mean_x) * (y - mean_y) for x, y, w in weighed) / spread
    return Line(mean_y - per_kb * mean_x, per_kb)


def needs(costs: Costs, load: Load) -> Needs:
    """Return what a load needs."""
    rate, size = load.events_per_second, load.kilobytes
    packed = costs.packed_bytes.at(size) if load.packed is None else load.packed * size * KB
    disk = rate * costs.disk_bytes.at(size)
    batch = min(BATCH_EVENTS, BATCH_KB / size)
    return Needs(
        workers=max(1, math.ceil(rate * costs.wall_us.at(size) / 1e6 / BUSY)),
        worker_cores=rate * costs.worker_us.at(size) / 1e6,
        postgres_cores=rate * costs.postgres_us.at(size) / 1e6,
        redis_cores=rate * costs.redis_us.at(size) / 1e6,
        redis_bytes_per_minute=rate * MINUTE * costs.redis_bytes.at(packed / KB),
        spool_bytes_per_minute=rate * MINUTE * costs.spool_bytes.at(size),
        network_bytes_per_second=rate * (2 * packed + size * KB),
        wal_bytes_per_second=rate * costs.wal_bytes.at(size),
        disk_bytes_per_day=disk * DAY,
        disk_bytes=disk * DAY * load.retention_days,
        rows_per_day=rate * DAY,
        toasted_per_day=rate * DAY * costs.toasted.at(size),
        days_to_freeze=FREEZE_AGE * batch / (rate * DAY),
    )
