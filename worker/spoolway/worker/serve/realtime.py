"""What comes in and what is done at this moment, across the fleet: from the streams in Redis.

Redis counts entries, and so does this: an entry is what a producer sent at once, one event or, under
load, some hundred. The counts are the streams' own, since they were made, and the same whoever asks.
"""

from datetime import datetime
from typing import Any

from spoolway.worker.backlog import Backlog, in_all
from spoolway.worker.fleet import Look


def realtime(look: Look, started_at: datetime) -> dict[str, Any]:
    """Return `received`, `served` and `ongoing`, null where Redis cannot tell.

    At any moment received = served + ongoing: an entry is served once a worker has made it safe (in
    the database, in its spool or as a dead letter) and acknowledged it; until then it is ongoing.
    `started_at` is when the server that answers was started.
    """
    queue: Backlog | None = in_all(look.streams.values()) if look.streams else None
    return {
        "started_at": started_at,
        "received": queue.added if queue else None,
        "served": queue.settled if queue else None,
        "ongoing": _ongoing(queue),
        "unit": "entries",
    }


def _ongoing(queue: Backlog | None) -> int | None:
    if queue is None:
        return None
    # Where Redis has lost count of what is not read: acknowledged entries are deleted.
    return queue.length if queue.undelivered is None else queue.undelivered + queue.pending
