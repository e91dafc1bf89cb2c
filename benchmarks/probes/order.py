"""The probes, in the order of the report. A further one is a module and a line here."""

from typing import Final

from benchmarks.probes.base import Probe
from benchmarks.probes.emit import Emit
from benchmarks.probes.emit_loop import EmitLoop
from benchmarks.probes.idle import Idle
from benchmarks.probes.latency import Latency
from benchmarks.probes.opening import Opening
from benchmarks.probes.waiting import Waiting

PROBES: Final[tuple[Probe, ...]] = (
    Emit(),
    EmitLoop(),
    Waiting(),
    Latency(),
    Idle(),
    Opening(),
)
