"""Time and CPU time of one measurement, by who used it."""

import os
from dataclasses import dataclass, field

from benchmarks.servers import Servers, cpu_seconds, now


@dataclass(slots=True)
class Measured:
    """What one contestant needed for its events."""

    seconds: float
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU seconds of "client" (whoever writes the rows), "database" and "redis"."""


class Meter:
    """Runs from `start` to `stop`. `clients` are the processes that write: by default this one."""

    def __init__(self, servers: Servers, *clients: int) -> None:
        self._clients = clients
        self._servers = {"database": servers.postgres.pid, "redis": servers.valkey.pid}
        self._began = 0.0
        self._cpu: dict[str, float] = {}

    def start(self, began: float | None = None) -> None:
        """Start now, or at a moment that has just passed."""
        self._cpu = self._used()
        self._began = now() if began is None else began

    def stop(self) -> Measured:
        """Stop, and return what was used since the start."""
        seconds = now() - self._began
        used = self._used()
        return Measured(seconds, {who: used[who] - self._cpu[who] for who in used})

    def _used(self) -> dict[str, float]:
        if self._clients:
            client = sum(map(cpu_seconds, self._clients))
        else:
            # Our own children are servers and other contestants: not counted as ours.
            times = os.times()
            client = times.user + times.system
        return {"client": client, **{who: cpu_seconds(pid) for who, pid in self._servers.items()}}
