"""People who look: overviews that are refreshed, and lists that follow what comes in."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Final

from benchmarks.usage.asked import FIRST, overview
from benchmarks.usage.client import Browser, connected
from benchmarks.usage.serving import serving

DASHBOARDS: Final = 5
RELOAD_SECONDS: Final = 20.0
"""Of each of them, as the page does it by itself; they take turns, evenly spread."""
TAILS: Final = 2
TAIL_SECONDS: Final = 1.5
"""As the page does it, too."""


@contextmanager
def dashboards(
    folder: Path, redis_url: str, database_url: str, milliseconds: list[float]
) -> Iterator[None]:
    """Have them until the block ends; what each overview took is appended."""
    over = Event()
    with ExitStack() as stack:
        url, _ = stack.enter_context(serving(folder, redis_url, database_url))
        lookers = []
        for number in range(DASHBOARDS):
            browser = Browser(url)
            stack.callback(browser.close)
            browser.load([*overview(), FIRST])
            delay = number * RELOAD_SECONDS / DASHBOARDS
            lookers.append(
                Looker(over, RELOAD_SECONDS, delay, partial(_reload, browser, milliseconds))
            )
        for _ in range(TAILS):
            client = stack.enter_context(connected(url))
            tail = partial(client.get, "/api/tail?since=10s")
            lookers.append(Looker(over, TAIL_SECONDS, 0.0, tail))
        for looker in lookers:
            looker.start()
        try:
            yield
        finally:
            over.set()
            for looker in lookers:
                looker.join()
    for looker in lookers:
        if looker.failure is not None:
            raise looker.failure


class Looker(Thread):
    """Asks again and again, each time so many seconds after the last, or later if that takes long."""

    def __init__(self, over: Event, every: float, delay: float, ask: Callable[[], object]) -> None:
        super().__init__(name="looker")
        self.failure: Exception | None = None
        self._over = over
        self._every = every
        self._at = time.monotonic() + delay
        self._ask = ask

    def run(self) -> None:
        """Ask until it is over."""
        try:
            while not self._over.wait(max(self._at - time.monotonic(), 0)):
                self._ask()
                self._at = max(self._at + self._every, time.monotonic())
        except Exception as error:  # noqa: BLE001 - raised where they are waited for
            self.failure = error


def _reload(browser: Browser, milliseconds: list[float]) -> None:
    milliseconds.append(browser.ask(overview()))
