"""Telling bad rows from a bad deploy: when most rows are suddenly refused, stop.

A missing column or a wrong constraint refuses every row there is. Dead letters are for the odd one.
"""

import math
from collections import deque

from spoolway.worker.stores.errors import Refusing, Retryable


class Refusals:
    """The verdicts on the last `count / ratio` events; trips when `count` of them are refusals.

    `count` 0 switches it off. Once tripped, it lets a batch through to the end and judges it by
    itself: what most of is refused still raises, what is not ends it.
    """

    def __init__(self, count: int, ratio: float) -> None:
        self._count = count
        self._ratio = ratio
        self._window = max(1, math.ceil(count / ratio))
        self._verdicts: deque[tuple[int, bool]] = deque()
        self._events = self._refused = 0
        self.tripped = False

    def accepted(self, events: int) -> None:
        """Note events that the database took."""
        self._note(events, refused=False)

    def refused(self, message: str) -> None:
        """Note one that it did not take. Raises Refusing when that is one too many."""
        self._note(1, refused=True)
        if self._count and not self.tripped and self._refused >= self._count:
            self.tripped = True
            raise self._refusing(self._refused, self._events, message)

    def judge(self, events: int, refused: int, message: str) -> None:
        """Judge a batch that was written to its end while this is tripped.

        Raises:
            Refusing: most of it was refused.
            Retryable: it was not, so the cause is gone, perhaps in the middle of this batch: what
                was refused before that is no bad row.
        """
        if not self.tripped:
            return
        if refused >= self._ratio * events:
            raise self._refusing(refused, events, message)
        self.tripped = False
        self._verdicts.clear()
        self._events = self._refused = 0
        if refused:
            raise Retryable("the run of refusals ended in this batch: it is written again")

    def _note(self, events: int, *, refused: bool) -> None:
        if not events:
            return
        self._verdicts.append((events, refused))
        self._events += events
        self._refused += events * refused
        while self._events - self._verdicts[0][0] >= self._window:
            gone, were_refused = self._verdicts.popleft()
            self._events -= gone
            self._refused -= gone * were_refused

    def _refusing(self, refused: int, events: int, message: str) -> Refusing:
        return Refusing(
            f"the database refuses {refused} of the last {events} events, the last one with: "
            f"{message}. That is not bad data: look at what was deployed last (tables, constraints, "
            "triggers). Nothing is acknowledged and no dead letter is written; if these events are "
            "to become dead letters, raise SPOOLWAY_REFUSED_COUNT"
        )
