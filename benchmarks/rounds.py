"""All contestants, interleaved over several rounds, each on empty tables and without a spool."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.contestants import Contestant
from benchmarks.servers import Servers
from benchmarks.workload import Workload

WARM_UP: Final = 0
"""The number of the round that is not counted."""
FEW_BYTES: Final = 40_000_000
FEW: Final = {"batches": 10_000, "hundreds": 2_000, "one by one": 500}
"""Most bytes of JSON, and most events, of the warm-up: half a second's work, which tells how many
events a turn of seconds needs."""
MOST_SPOOLED: Final = 50_000
"""A bare disk takes several times as much in two seconds, and all of it is made, and held, before."""

Turn = tuple[Contestant, Workload]


@dataclass(slots=True, frozen=True)
class Run:
    """One contestant's turn in one round."""

    contestant: str
    load: str
    round: int
    events: int
    seconds: float
    cpu: dict[str, float] = field(default_factory=dict)
    """CPU seconds by who used them."""

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


class WrongRows(Exception):
    """A contestant's rows are not the events it was given: its figures mean nothing."""


def take_turn(
    servers: Servers, contestant: Contestant, load: Workload, events: int, number: int
) -> Run:
    """Measure one contestant on empty tables and without a spool, and count what it stored.

    Raises:
        WrongRows: not every event was stored, or its columns were left empty.
    """
    servers.clean()
    measured = contestant.measure(servers, load, events)
    rows = {
        "postgres": servers.postgres_rows,
        "sqlite": servers.sqlite_rows,
        "spool": servers.spool_rows,
    }[contestant.target]()
    if rows != (expected := load.stored(events)):
        raise WrongRows(
            f"{contestant.title}, {load.key}: {contestant.target} holds {rows}, expected {expected}"
        )
    run = Run(contestant.name, load.key, number, events, measured.seconds, measured.cpu)
    say(f"{load.key}  {contestant.title}: {events:,} events, {run.rate:,.0f}/s")
    return run


def few(contestant: Contestant, load: Workload) -> int:
    """Return how many events tell how fast a contestant is, roughly."""
    return min(FEW[contestant.pace], FEW_BYTES // load.bytes_per_event)


def warm_up(servers: Servers, turns: Sequence[Turn], seconds: float) -> dict[tuple[str, str], int]:
    """Give each contestant a few events, and return how many it needs to be busy for `seconds`."""
    fastest: dict[tuple[str, str, str], float] = {}
    for one, load in turns:
        run = take_turn(servers, one, load, few(one, load), WARM_UP)
        peers = one.target, one.pace, load.key
        fastest[peers] = max(fastest.get(peers, 0.0), run.rate)
    return {
        (one.name, load.key): min(
            _rounded(fastest[one.target, one.pace, load.key] * seconds),
            MOST_SPOOLED if one.target == "spool" else load.most,
        )
        for one, load in turns
    }


def rounds(
    servers: Servers,
    turns: Sequence[Turn],
    *,
    count: Callable[[Contestant, Workload], int],
    number_of_rounds: int,
    after_each: Callable[[], None],
) -> list[Run]:
    """Give everyone a turn in each round, size by size.

    Another one begins each time, so that none is always the first on a cold machine.
    """
    runs: list[Run] = []
    for number in range(1, number_of_rounds + 1):
        say(f"round {number} of {number_of_rounds}")
        for key in dict.fromkeys(load.key for _, load in turns):
            ours = [turn for turn in turns if turn[1].key == key]
            first = (number - 1) % len(ours)
            for one, load in [*ours[first:], *ours[:first]]:
                runs.append(take_turn(servers, one, load, count(one, load), number))
        after_each()
    return runs


def _rounded(events: float) -> int:
    """Round to two digits: a number that looks chosen, because it is."""
    return int(float(f"{events:.1e}"))


def say(text: str) -> None:
    """Show progress; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)
