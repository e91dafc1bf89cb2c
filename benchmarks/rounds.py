"""All contestants, interleaved over several rounds, each on empty tables and without a spool."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.contestants import Contestant
from benchmarks.servers import Servers
from benchmarks.workload import MOST_DICTS, Workload

WARM_UP: Final = 0
"""The number of the round that is not counted."""
FEW: Final = {"batches": 10_000, "one by one": 500}
"""Events of the warm-up: half a second's work, which tells how many a turn of seconds needs."""
MOST: Final = {"batches": 200_000, "one by one": MOST_DICTS}
MOST_SPOOLED: Final = 50_000
"""A bare disk takes several times as much in two seconds, and all of it is made, and held, before."""


@dataclass(slots=True, frozen=True)
class Run:
    """One contestant's turn in one round."""

    contestant: str
    kilobytes: int
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
    if rows != (expected := load.rows(events)):
        raise WrongRows(
            f"{contestant.title}, {load.label}: {contestant.target} holds {rows}, "
            f"expected {expected}"
        )
    run = Run(contestant.name, load.kilobytes, number, events, measured.seconds, measured.cpu)
    say(f"{load.label}  {contestant.title}: {events:,} events, {run.rate:,.0f}/s")
    return run


def warm_up(
    servers: Servers, contestants: Sequence[Contestant], loads: Sequence[Workload], seconds: float
) -> dict[tuple[str, int], int]:
    """Give each contestant a few events, and return how many it needs to be busy for `seconds`."""
    fastest: dict[tuple[str, str, int], float] = {}
    for load in loads:
        for contestant in _measured_with(load, contestants):
            run = take_turn(servers, contestant, load, FEW[contestant.pace], WARM_UP)
            peers = contestant.target, contestant.pace, load.kilobytes
            fastest[peers] = max(fastest.get(peers, 0.0), run.rate)
    return {
        (one.name, load.kilobytes): min(
            _rounded(fastest[one.target, one.pace, load.kilobytes] * seconds),
            MOST_SPOOLED if one.target == "spool" else MOST[one.pace],
        )
        for load in loads
        for one in _measured_with(load, contestants)
    }


def rounds(
    servers: Servers,
    contestants: Sequence[Contestant],
    loads: Sequence[Workload],
    *,
    count: Callable[[Contestant, Workload], int],
    number_of_rounds: int,
    after_each: Callable[[], None],
) -> list[Run]:
    """Give everyone a turn in each round.

    Another one begins each time, so that none is always the first on a cold machine.
    """
    runs: list[Run] = []
    for number in range(1, number_of_rounds + 1):
        say(f"round {number} of {number_of_rounds}")
        for load in loads:
            ours = _measured_with(load, contestants)
            first = (number - 1) % len(ours) if ours else 0
            for contestant in [*ours[first:], *ours[:first]]:
                events = count(contestant, load)
                runs.append(take_turn(servers, contestant, load, events, number))
        after_each()
    return runs


def _measured_with(load: Workload, contestants: Sequence[Contestant]) -> list[Contestant]:
    return [one for one in contestants if load.kilobytes in one.kilobytes]


def _rounded(events: float) -> int:
    """Round to two digits: a number that looks chosen, because it is."""
    return int(float(f"{events:.1e}"))


def say(text: str) -> None:
    """Show progress; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)
