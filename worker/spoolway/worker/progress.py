"""What a worker has done, and the proof that it still does: counts, and a file that others read.

Health comes from progress. The drain loop and only the drain loop moves `turn`; a worker whose
loop is wedged stops turning, whatever else in the process still runs.
"""

import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from spoolway.worker.identity import slots_taken

STALE_SECONDS: Final = 15.0
"""A worker that has not turned for so long is not healthy."""


@dataclass(slots=True)
class Totals:
    """Counts since this worker started. Events, unless said otherwise."""

    # What came from the stream. At any time
    # read = inserted + duplicate + dead + spooled + given_back + in_flight.
    read: int = 0
    """Events decoded or found undecodable."""
    inserted: int = 0
    duplicate: int = 0
    dead: int = 0
    spooled: int = 0
    """Events synced to the spool."""
    given_back: int = 0
    """Events left pending in Redis: a delivery failed, or the worker stops. They are read again."""
    in_flight: int = 0

    # What came back from the spool. replayed = replay_inserted + replay_duplicate + replay_dead.
    replayed: int = 0
    replay_inserted: int = 0
    replay_duplicate: int = 0
    replay_dead: int = 0

    lost_entries: int = 0
    """Stream entries that were pending and are gone: someone trimmed or deleted them."""
    groups_recreated: int = 0
    entries_claimed: int = 0
    """Stream entries taken over from workers that went away."""
    write_failures: int = 0
    redis_failures: int = 0


class Progress:
    """One worker's totals and its status file `worker-<slot>.json`."""

    def __init__(self, file: Path, consumer: str, pid: int) -> None:
        self.totals = Totals()
        self.state = "starting"
        self.breaker = "closed"
        self.last_commit: float | None = None
        self.last_settled: float | None = None
        """When events last came to where they are safe: the database, the spool, a dead letter."""
        self._file = file
        self._consumer = consumer
        self._pid = pid
        self._turned = time.time()

    def turn(self, state: str) -> None:
        """Record that the drain loop went round, and what it is doing now."""
        self._turned = time.time()
        self.state = state

    def settled(self, *, committed: bool) -> None:
        """Record that events are safe; `committed` if a transaction was."""
        self.last_settled = time.time()
        if committed:
            self.last_commit = self.last_settled

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values; times are Unix seconds."""
        return {
            "pid": self._pid,
            "host": socket.gethostname(),
            "consumer": self._consumer,
            "state": self.state,
            "turned_at": self._turned,
            "breaker": self.breaker,
            "last_commit": self.last_commit,
            "last_settled": self.last_settled,
            **asdict(self.totals),
        }

    def write(self) -> None:
        """Write the status file, whole or not at all."""
        temporary = self._file.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_bytes(orjson.dumps(self.snapshot(), option=orjson.OPT_APPEND_NEWLINE))
        temporary.replace(self._file)

    def remove(self) -> None:
        """Take the status file away: this worker has stopped."""
        self._file.unlink(missing_ok=True)


def read_all(folder: Path) -> list[dict[str, Any]]:
    """Return the status of every worker of this host in the folder, each with its age in seconds.

    Not those of other hosts: containers may share the folder, and each answers for its own worker.
    """
    now = time.time()
    found: list[dict[str, Any]] = []
    for slot in slots_taken(folder):
        try:
            status = orjson.loads(status_file(folder, slot).read_bytes())
            if status["host"] == socket.gethostname():
                found.append({**status, "age": round(now - status["turned_at"], 3)})
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it starts or stops just now, or the file is not a worker's
    return found


def status_file(folder: Path, slot: int) -> Path:
    """Return where the worker of a slot says how it goes."""
    return folder / f"worker-{slot}.json"
