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
from spoolway.worker.observed import Observed
from spoolway.worker.outage import Outage

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

    removed_rows: int = 0
    """Rows that retention has removed, of both tables."""
    removed_partitions: int = 0
    expired_bodies: int = 0
    """Rows that have lost their bodies."""


class Progress:
    """One worker's totals and its status file `worker-<slot>.json`."""

    def __init__(self, file: Path, consumer: str, pid: int) -> None:
        self.totals = Totals()
        self.observed = Observed()
        self.outages: list[tuple[str, Outage]] = []
        """What can be away, each under one of a few names: database, redis, spool, dead."""
        self.stopping = False
        self.http: str | None = None
        """Where health and metrics are, as host:port."""
        self.state = "starting"
        self.breaker = "closed"
        self.last_commit: float | None = None
        self.last_settled: float | None = None
        """When events last came to where they are safe: the database, the spool, a dead letter."""
        self._file = file
        self._consumer = consumer
        self._pid = pid
        self._started = time.time()
        self._turned: dict[str, float] = {}

    @property
    def turned_at(self) -> float:
        """When the drain loop last went round, in Unix seconds; of several, the one that lags."""
        return min(self._turned.values(), default=self._started)

    @property
    def consumer(self) -> str:
        """This worker's name in the consumer group."""
        return self._consumer

    @property
    def is_alive(self) -> bool:
        """Whether the drain loop goes round."""
        return is_alive(time.time() - self.turned_at)

    def turn(self, state: str, stream: str = "") -> None:
        """Record that the drain loop of a stream went round, and what it is doing now."""
        self._turned[stream] = time.time()
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
            "written_at": time.time(),
            "turned_at": self.turned_at,
            "breaker": self.breaker,
            "http": self.http,
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


def is_alive(age: float) -> bool:
    """Tell whether a worker that went round so many seconds ago makes progress."""
    return age < STALE_SECONDS


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
