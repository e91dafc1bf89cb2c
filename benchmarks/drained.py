"""Watching a backlog shrink: when a worker begins, and when its last event is where it belongs."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.children import Child
from benchmarks.servers import now
from benchmarks.workload import Frame, packed_size
from spoolway.schema import DEFAULT_STREAM

GROUP: Final = "spoolway"
_START_SECONDS: Final = 60.0
_STUCK_SECONDS: Final = 60.0
_FILL_BYTES: Final = 8 << 20


def fill(client: Any, frames: Iterable[Frame]) -> None:
    """Make the stream, and put frames on it; its group reads from the first one on."""
    make_group(client)
    push(client, frames)


def make_group(client: Any) -> None:
    """Make the stream, empty, and its group."""
    client.xgroup_create(DEFAULT_STREAM, GROUP, id="0", mkstream=True)


def push(client: Any, frames: Iterable[Frame]) -> None:
    """Put frames on the stream."""
    size = 0
    with client.pipeline(transaction=False) as pipeline:
        for frame in frames:
            pipeline.xadd(DEFAULT_STREAM, frame)
            size += packed_size(frame)
            if size > _FILL_BYTES:
                pipeline.execute()
                size = 0
        pipeline.execute()


def begun(client: Any, worker: Child) -> float:
    """Return the moment at which the group was given its first entry."""

    def has_read() -> bool:
        (group,) = client.xinfo_groups(DEFAULT_STREAM)
        return bool(group["entries-read"])

    return _first(has_read, worker)


def until_reading(client: Any, workers: Sequence[Child]) -> None:
    """Return when each of these workers waits for an entry."""

    def are_reading() -> bool:
        return sum("b" in one["flags"] for one in client.client_list()) >= len(workers)

    for worker in workers:
        _first(are_reading, worker)


def replay_begun(spool: Path, worker: Child) -> float:
    """Return the moment at which the worker had a segment of a spool open."""
    return _first(lambda: worker.has_open(spool), worker)


def _first(is_so: Callable[[], bool], worker: Child) -> float:
    deadline = now() + _START_SECONDS
    while not is_so():
        worker.must_run()
        if now() > deadline:
            raise TimeoutError(f"the worker read nothing within {_START_SECONDS:.0f} s")
        time.sleep(0.001)
    return now()


def stream_length(client: Any) -> int:
    """Return the entries left: a worker deletes each one behind its acknowledgement."""
    return int(client.xlen(DEFAULT_STREAM))


def spool_length(spool: Path) -> int:
    """Return the segments left: a replay deletes each one behind its last commit."""
    return sum(1 for _ in spool.iterdir())


def until_empty(left: Callable[[], int], worker: Child, longest_nap: float = 0.1) -> None:
    """Return when nothing is left; `longest_nap` is in seconds.

    Looks seldom while much is left and often at the end: looking takes CPU time from those who are
    measured, and not looking makes them look slower than they are.
    """
    first, began = left(), now()
    fewest, moved = first, began
    while fewest:
        gone, passed = first - fewest, now() - began
        expected = fewest * passed / gone if gone else 0.02
        time.sleep(min(max(expected / 4, 0.001), longest_nap))
        if (remaining := left()) < fewest:
            fewest, moved = remaining, now()
            continue
        worker.must_run()
        if now() - moved > _STUCK_SECONDS:
            raise TimeoutError(f"{fewest} were left and did not become fewer any more")
