"""The way back: from a worker's spool to committed rows.

By a worker that finds it at its start, and by `spoolway replay`.
"""

from typing import Final

from benchmarks.children import Child, running, spoolway
from benchmarks.contestants.base import PLAIN, Pace, Target
from benchmarks.contestants.spooling import write_spool
from benchmarks.drained import replay_begun, spool_length, until_empty
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload

_OFTEN: Final = 0.005
"""Seconds between looks at the spool. It becomes shorter by whole segments: nothing tells how near
the end is, and a look into a folder costs little."""


class SpoolwayReplay:
    """The spool is written first; timed is from its first opening to the end of its last segment."""

    target: Target = "postgres"
    pace: Pace = "batches"
    loads = PLAIN

    def __init__(self, name: str, title: str, command: str) -> None:
        self.name = name
        self.title = title
        self._command = command

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Bring the events in; the stream is empty."""
        write_spool(servers, load.lines(events))
        by_hand = self._command == "replay"
        command = spoolway(
            self._command, servers.worker_folder, servers.redis_url, servers.postgres_url
        )
        log = servers.folder / f"spoolway-{self._command}.log"
        child: Child
        with running(command, log, {"SPOOLWAY_LOG_LEVEL": "WARNING"}, may_end=by_hand) as child:
            meter = Meter(servers, child.pid)
            meter.start(replay_begun(servers.spool, child))
            until_empty(lambda: spool_length(servers.spool), child, longest_nap=_OFTEN)
            measured = meter.stop()
            if by_hand:
                child.must_succeed()
            return measured
