"""A library that is asked in a thread of its own: it may fail, or take its time, and nobody waits.

What is asked is answered within a limit, or not at all. All questions together may take a share of
the time that goes by, so that names nobody has heard of cannot keep a worker busy. After a question
that took too long, or several failures in a row, the library is left alone for a while: one warning
says so, and it is tried again later.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

log = logging.getLogger("spoolway.enrichment")

L = TypeVar("L")
T = TypeVar("T")

_IDLE: Final = 5.0
"""Seconds after which a thread that nobody asks ends."""
_MOST_FAILURES: Final = 5
"""Failures in a row: one model may be broken, not all of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a library may take, in seconds."""

    loading: float = 5.0
    """Its import, once."""
    question: float = 1.0
    """As long does whoever asks wait at most, once: then it is off."""
    share: float = 0.1
    """Of the time that goes by, for all questions."""
    burst: float = 0.25
    """Of that, saved up while nobody asks."""
    off: float = 60.0
    """Until it is tried again; twice as long each time."""
    most_off: float = 3600.0


PATIENT: Final = Limits(loading=60.0, question=5.0, share=1.0, burst=60.0)
"""For a command that somebody waits for, and no event does."""


class NotNow(Exception):
    """It is off, or has had its share of the time: ask again later."""


class Failed(Exception):
    """It raised, or its answer cannot be right."""


class Aside(Generic[L]):
    """One library."""

    def __init__(
        self,
        name: str,
        load: Callable[[], L],
        limits: Limits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what imports it, at the first question."""
        self.name: Final = name
        self.failures = 0
        self.refreshed = 0
        """How often it came back after it had been off: what was kept since may be wrong."""
        self._load = load
        self._limits = limits or Limits()
        self._clock = clock
        self._library: L | None = None
        self._spent = 0.0
        self._spent_at = clock()
        self._late: Future[Any] | None = None
        """A question that nobody waits for any more."""
        self._in_a_row = 0
        self._is_off = False
        self._off_until = 0.0
        self._off_for = self._limits.off
        self._has_warned = False
        self._lock = threading.Lock()
        self._questions: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def is_off(self) -> bool:
        """Whether it is left alone for now."""
        return self._is_off

    def ask(self, question: Callable[[L], T]) -> T:
        """Return the answer.

        Raises:
            NotNow: there is none now.
            Failed: there is none, and was none when it was asked.
        """
        now = self._clock()
        if self._is_off:
            if now < self._off_until or (self._late is not None and not self._late.done()):
                raise NotNow(self.name)
            self._late = None
        if self._library is None:
            self._library = self._answer(self._load, self._limits.loading)
            now = self._clock()
        earned = (now - self._spent_at) * self._limits.share
        self._spent, self._spent_at = max(0.0, self._spent - earned), now
        if self._spent >= self._limits.burst:
            raise NotNow(self.name)
        library = self._library
        try:
            answer = self._answer(lambda: question(library), self._limits.question)
        finally:
            self._spent += self._clock() - now
        self._worked()
        return answer

    def _answer(self, question: Callable[[], T], seconds: float) -> T:
        future = self._put(question)
        try:
            return future.result(seconds)
        except Exception as error:
            if isinstance(error, TimeoutError) and not future.done():
                self._late = future
                self._turn_off(f"it takes longer than {seconds:g} s")
                raise NotNow(self.name) from None
            self.failures += 1
            self._in_a_row += 1
            if self._in_a_row >= _MOST_FAILURES or self._library is None:
                # Its type alone: what it says may have a client's words in it.
                self._turn_off(f"it fails ({type(error).__name__})")
                raise NotNow(self.name) from error
            raise Failed(self.name) from error

    def _turn_off(self, why: str) -> None:
        self._is_off, self._in_a_row = True, 0
        self._off_until = self._clock() + self._off_for
        log.log(
            logging.DEBUG if self._has_warned else logging.WARNING,
            "%s is left alone for %d s, because %s: what it would fill in stays null; see "
            "spoolway enrich for rows that are stored",
            self.name,
            self._off_for,
            why,
        )
        self._has_warned = True
        self._off_for = min(self._off_for * 2, self._limits.most_off)

    def _worked(self) -> None:
        self._in_a_row = 0
        if self._is_off:
            self._is_off = False
            self.refreshed += 1
            log.info("%s answers again", self.name)

    # --- Its thread -----------------------------------------------------------------------------

    def _put(self, question: Callable[[], T]) -> "Future[T]":
        future: Future[T] = Future()
        with self._lock:
            self._questions.put((question, future))
            if self._thread is None:
                # A daemon: what hangs must not keep the process from ending.
                self._thread = threading.Thread(
                    target=self._serve, name=f"spoolway-{self.name}", daemon=True
                )
                self._thread.start()
        return future

    def _serve(self) -> None:
        while True:
            try:
                question, future = self._questions.get(timeout=_IDLE)
            except Empty:
                with self._lock:
                    if self._questions.empty():
                        self._thread = None
                        return
                continue
            try:
                future.set_result(question())
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the asker's
                future.set_exception(error)
            del question, future  # not until the next one comes
