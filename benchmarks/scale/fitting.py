"""From a run's measurements to the model's lines, and from the model back to what it did not see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.scale.costs import CHECKED, FITTED, Cost
from benchmarks.scale.model import KB, Costs, Sample, Steps, fit
from benchmarks.workload import Size, key_of

_PER_TURN: Final[Mapping[str, Callable[[Cost], float]]] = {
    "worker_us": lambda cost: cost.drained.cpu["workers"] * 1e6,
    "postgres_us": lambda cost: cost.drained.cpu["postgresql"] * 1e6,
    "redis_us": lambda cost: (cost.drained.cpu["redis"] + cost.filling_cpu) * 1e6,
    "wall_us": lambda cost: cost.drained.seconds * 1e6,
    "packed_bytes": lambda cost: cost.packed_bytes,
    "redis_bytes": lambda cost: cost.redis_bytes,
    "disk_bytes": lambda cost: cost.disk_bytes,
    "table_bytes": lambda cost: cost.table_bytes,
    "wal_bytes": lambda cost: cost.wal_bytes,
    "spool_bytes": lambda cost: cost.spool_bytes,
    "toasted": lambda cost: cost.toasted,
}
"""Names of `Costs` → what all events of one turn cost."""
_IN_STEPS: Final = "toasted"


class NoCosts(Exception):
    """There is nothing to predict from. The message says where that was."""

    def __str__(self) -> str:
        """Return what is wrong, and what to do."""
        return (
            "costs of an event are needed, by its size: "
            f'{super().__str__()}; make bench-scale ARGS="--only costs" measures them'
        )


@dataclass(slots=True, frozen=True)
class Check:
    """A cost that was measured and not fitted to, and what the model said of it."""

    name: str
    size: Size
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Share by which the prediction is above (or, negative, below) the measurement."""
        return self.predicted / self.measured - 1 if self.measured else 0.0


def fitted(measured: Sequence[Cost]) -> Costs:
    """Return the lines through the sizes that are for it.

    Raises:
        NoCosts: a size is missing.
    """
    lines = {
        name: fit([_sample(measured, name, size) for size in FITTED])
        for name in _PER_TURN
        if name != _IN_STEPS
    }
    steps = Steps(tuple(_sample(measured, _IN_STEPS, size) for size in (*FITTED, *CHECKED)))
    return Costs(toasted=steps, **lines)


def checked(measured: Sequence[Cost], model: Costs) -> list[Check]:
    """Compare the lines with the other sizes."""
    found: list[Check] = []
    for size in CHECKED:
        for name in _PER_TURN:
            if name != _IN_STEPS:
                sample = _sample(measured, name, size)
                predicted = getattr(model, name).at(sample.kilobytes)
                found.append(Check(name, size, predicted, sample.cost))
    return found


def _sample(measured: Sequence[Cost], name: str, size: Size) -> Sample:
    """Return the median of one cost over all turns with events of one size."""
    ours = [cost for cost in measured if cost.size == size]
    if not ours:
        raise NoCosts(f"the run has none for {key_of(size)}")
    raw = ours[0].packed_bytes if name == "redis_bytes" else ours[0].json_bytes
    each = [_PER_TURN[name](cost) / cost.drained.events for cost in ours]
    return Sample(raw / ours[0].drained.events / KB, median(each))
