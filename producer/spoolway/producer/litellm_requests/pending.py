"""Requests in LiteLLM that have begun, and of which the end is not known yet. Without LiteLLM.

Bounded in number and in time, and nothing gets lost: what is given up is handed to the caller.
"""

import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spoolway.producer.litellm_requests.payload import DISCONNECTED
from spoolway.producer.litellm_requests.shapes import Columns
from spoolway.producer.record import Record

MAX_REQUESTS: Final = 10_000
"""At once, in one process: more than LiteLLM can serve."""
SETTLE_S: Final = 60.0
"""How long a call by the SDK that failed waits for its router to try again; it tells nobody when it
gives up. The router's own waits between attempts are shorter."""


ENDED_S: Final = 10.0
"""How long one that has ended is remembered: LiteLLM may tell of the end twice."""


@dataclass(slots=True, eq=False)
class Pending:
    """One request."""

    record: Record
    metadata: Mapping[str, Any]
    """LiteLLM's own, as it is at each moment."""
    began: float | None = None
    """Seconds since 1970."""
    owner: Callable[[], object | None] | None = None
    """A weak reference to what lives as long as the request, if there is such a thing."""
    attempts: list[Columns] = field(default_factory=list)
    """At backends, for `backend_attempts`."""
    error: Columns | None = None
    """The last one."""
    columns: Columns = field(default_factory=dict)
    """What is known of it besides, if it is given up."""
    attempt_began: float | None = None
    """Of the attempt that runs. None while there is none: calls that LiteLLM makes inside of each
    other fail one after the other, and are one attempt."""
    may_go_on: bool = False
    """By the SDK: a call that fails may be tried again."""
    noted: bool = False
    """By the SDK: the last failure is in `attempts` already."""
    ended: bool = False
    disconnected: bool = False
    touched: float = field(default_factory=time.monotonic)

    def is_over(self, now: float) -> bool:
        """Tell whether nothing more will be heard of it; `now` is monotonic seconds."""
        if self.ended:
            return now - self.touched > ENDED_S
        if self.owner is not None and self.owner() is None:
            return True
        if self.metadata.get(DISCONNECTED) is True:
            # The client is gone. If a part of the answer was there, LiteLLM tells so at once: it
            # has until the next look.
            over, self.disconnected = self.disconnected, True
            return over
        return self.owner is None and now - self.touched > SETTLE_S


class PendingRequests:
    """All of a process. Any thread may call; nobody waits for longer than a look at a dict."""

    def __init__(self, *, most: int = MAX_REQUESTS) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._requests: dict[str, Pending] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._requests)

    def get(self, key: str | None) -> Pending | None:
        """Return it, if it is there."""
        return None if key is None else self._requests.get(key)

    def add(self, key: str, pending: Pending) -> list[Pending]:
        """Keep it; return what has to be given up for that, oldest first."""
        with self._lock:
            before = self._requests.pop(key, None)
            given_up = [before] if before is not None else []
            self._requests[key] = pending
            while len(self._requests) > self._most:
                given_up.append(self._requests.pop(next(iter(self._requests))))
        return given_up

    def drop(self, key: str | None) -> None:
        """Forget it."""
        if key is not None:
            with self._lock:
                self._requests.pop(key, None)

    def take_over(self, now: float) -> list[Pending]:
        """Take out, and return, those of which nothing more will be heard."""
        with self._lock:
            keys = [key for key, pending in self._requests.items() if pending.is_over(now)]
            return [self._requests.pop(key) for key in keys]

    def take_all(self) -> list[Pending]:
        """Take out, and return, all of them."""
        with self._lock:
            taken = list(self._requests.values())
            self._requests.clear()
        return taken


def weakly(owner: object) -> Callable[[], object | None] | None:
    """Return a weak reference; None for what cannot be referred to so, or is not there."""
    try:
        return None if owner is None else weakref.ref(owner)
    except TypeError:
        return None
