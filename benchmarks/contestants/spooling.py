"""What a disk takes: bare append and fsync of a spool's bytes, and the spool room without Redis."""

import os
from collections.abc import Sequence
from typing import Final

from benchmarks.contestants.base import PLAIN, Pace, Target
from benchmarks.meter import Measured, Meter
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.spool import SpoolWriter
from spoolway.spool.record import encode_records

BATCH: Final = 2_000
"""Events of one write and one fsync: as many of 4 KB as the worker aims for."""


class Append:
    """Prepared bytes, the same as in a spool, into one plain file: nothing is left but the disk."""

    name = "append"
    title = f"append + fsync, {BATCH} events"
    target: Target = "spool"
    pace: Pace = "batches"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Write the records, batch by batch."""
        blocks = [encode_records(batch) for batch in batches(load.lines(events))]
        servers.spool.mkdir(parents=True)
        with nothing_to_collect(), (servers.spool / "append.jsonl").open("ab", buffering=0) as file:
            meter = Meter(servers)
            meter.start()
            for block in blocks:
                if file.write(block) != len(block):
                    raise OSError("the disk took a part of a write")
                os.fsync(file.fileno())
            return meter.stop()


class Writer:
    """The spool room alone: checksums, lines, segments, syncs."""

    name = "spool-writer"
    title = f"SpoolWriter.append, {BATCH} events"
    target: Target = "spool"
    pace: Pace = "batches"
    loads = PLAIN

    def measure(self, servers: Servers, load: Workload, events: int) -> Measured:
        """Spool the events, batch by batch."""
        lines = load.lines(events)
        with nothing_to_collect():
            meter = Meter(servers)
            meter.start()
            write_spool(servers, lines)
            return meter.stop()


def write_spool(servers: Servers, lines: Sequence[bytes]) -> None:
    """Put events into the worker's spool, as a worker does that has no database."""
    writer = SpoolWriter(servers.spool)
    for batch in batches(lines):
        writer.append(batch)
    writer.close()


def batches(lines: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Split lines as a worker reads them."""
    return [lines[start : start + BATCH] for start in range(0, len(lines), BATCH)]
