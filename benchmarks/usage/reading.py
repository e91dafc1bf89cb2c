"""How long each question takes through the API, one after the other, and the overview as a whole."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Final

from benchmarks.children import Child
from benchmarks.rounds import say
from benchmarks.servers import cpu_seconds
from benchmarks.usage.asked import DEEP, FIRST, PAGE, Question, overview, questions
from benchmarks.usage.client import Browser, Client, connected
from benchmarks.usage.kept import Kind

WARM_UP: Final = 5
"""Times that each is asked before it counts."""
_LONG: Final = 10.0
"""Seconds after which a slow question has been asked often enough."""
_LEAST: Final = 5


@dataclass(slots=True)
class Answered:
    """A question's answers."""

    database: Kind
    name: str
    has_target: bool
    milliseconds: list[float]
    server_ms: float = 0.0
    """CPU time of an answer in `spoolway serve`, without the database's."""
    limit_ms: float | None = None
    """Target of the median."""
    notes: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Half of them took no longer."""
        return median(self.milliseconds)

    @property
    def p95(self) -> float:
        """Nor did 95 of a hundred than this."""
        return quantiles(self.milliseconds, n=20)[-1]


def answers(url: str, server: Child, database: Kind, times: int) -> Iterator[Answered]:
    """Ask everything; warm, on one connection."""
    with connected(url) as client:
        for question in [*questions(), _deep(client)]:
            yield _asked(client, server, database, question, times)
    browser = Browser(url)
    try:
        for name, load in (
            ("overview, first load", lambda: browser.load([*overview(), FIRST])),
            ("overview, refreshed", lambda: browser.ask(overview())),
        ):
            yield _measured(load, server, database, Question(name, "", has_target=True), times)
    finally:
        browser.close()


def _deep(client: Client) -> Question:
    """Walk to the last page before the one that is to be measured."""
    path = f"/api/logs?limit={PAGE}"
    after = ""
    for _ in range(DEEP - 1):
        page = client.json(f"{path}&after={after}" if after else path)
        if page["next"] is None:
            break
        after = page["next"]
    return Question(f"requests, page {DEEP:,}", f"{path}&after={after}", has_target=True)


def _asked(
    client: Client, server: Child, database: Kind, question: Question, times: int
) -> Answered:
    return _measured(lambda: client.timed(question.path), server, database, question, times)


def _measured(
    ask: Callable[[], float], server: Child, database: Kind, question: Question, times: int
) -> Answered:
    for _ in range(min(WARM_UP, times)):
        ask()
    found: list[float] = []
    began, used = time.monotonic(), cpu_seconds(server.pid)
    while len(found) < times:
        found.append(ask())
        if len(found) >= _LEAST and time.monotonic() - began > _LONG:
            break
    result = Answered(database, question.name, question.has_target, found)
    result.server_ms = (cpu_seconds(server.pid) - used) / len(found) * 1e3
    say(
        f"{database} {question.name}: {result.median:.1f} ms, p95 {result.p95:.1f} ms, "
        f"server {result.server_ms:.1f} ms CPU"
    )
    return result
