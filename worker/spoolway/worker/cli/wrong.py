"""What is wrong with a fleet, in words: of the streams, and of each folder and its workers."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from spoolway.worker.backlog import Backlog
from spoolway.worker.cli.shown import age, count, printable
from spoolway.worker.fleet import Folder
from spoolway.worker.progress import STALE_SECONDS

BEHIND_SECONDS: Final = 60.0
"""A backlog that is older, while no event has become safe for as long, is a worker's failure."""


def what_is_wrong(
    queue: Backlog | None, trouble: str | None, folders: Sequence[Folder]
) -> list[str]:
    """Return what is wrong, one line each. `queue` is all streams as one, None without an answer."""
    wrong = [trouble] if trouble else []
    workers = [worker for folder in folders for worker in folder.workers]
    if not workers:
        where = ", ".join(folder.dir for folder in folders)
        wrong.append(f"no worker runs in {where}: start one with spoolway worker")
    wrong += [f"{folder.dir}: {error}" for folder in folders for error in folder.errors]
    for worker in workers:
        name = printable(str(worker["consumer"]))
        if not worker["holds"]:
            wrong.append(f"{name}: {worker['equation']}; {worker['replay_equation']}")
        if worker["age"] >= STALE_SECONDS:
            wrong.append(
                f"{name} has not turned for {worker['age']:.0f} s: it is wedged, restart it"
            )
        if worker.get("breaker") == "refusing":
            wrong.append(f"{name} is stopped by a run of refusals: its log has the reason")
        if lost := int(worker.get("lost_entries", 0)):
            wrong.append(
                f"{name} lost {count(lost, 'entry').replace('entrys', 'entries')}: "
                "something trims the stream"
            )
    names = Counter(printable(str(worker["consumer"])) for worker in workers)
    wrong += [
        f"{number} workers are called {name}: give each a SPOOLWAY_CONSUMER of its own"
        for name, number in names.items()
        if number > 1
    ]
    if queue is not None and workers and queue.age_seconds > BEHIND_SECONDS:
        last = max((worker.get("last_settled") or 0.0 for worker in workers), default=0.0)
        still = time.time() - last
        if still > BEHIND_SECONDS:
            since = f"for {age(still)}" if last else "since the start"
            wrong.append(
                f"the oldest entry waits for {age(queue.age_seconds)}, and no event was settled "
                f"{since}: the workers' logs say why"
            )
    return wrong
