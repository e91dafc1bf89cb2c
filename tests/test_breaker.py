"""The breaker: during an outage the database is tried now and then, and by a probe alone."""

from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.breaker import FIRST_WAIT, LONGEST_WAIT, Breaker


class Clock:
    """Time as the test wants it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def seen(breaker: Breaker) -> tuple[str, bool, bool]:
    """Its state, whether it lets batches through, and whether it is time for a probe."""
    return breaker.shown, breaker.lets_through, breaker.wants_probe


def test_a_failure_opens_it_and_a_probe_that_gets_through_lets_the_next_batch_decide() -> None:
    """Closed → open → half-open → closed, or open again."""
    clock = Clock()
    breaker = Breaker(clock)
    assert seen(breaker) == ("closed", True, False)

    breaker.failed()
    assert seen(breaker) == ("open", False, False)
    clock.now += FIRST_WAIT
    assert seen(breaker) == ("open", False, True)
    breaker.probed()
    assert seen(breaker) == ("half-open", True, False)
    breaker.failed()
    assert seen(breaker) == ("open", False, False)
    breaker.probed()
    breaker.worked()
    assert seen(breaker) == ("closed", True, False)


def test_probes_become_rare_and_are_never_rarer_than_promised() -> None:
    """The wait doubles up to LONGEST_WAIT, also where probes pass and batches fail."""
    clock = Clock()
    breaker = Breaker(clock)
    waits = []
    for _ in range(8):
        breaker.failed()
        began = clock.now
        while not breaker.wants_probe:
            clock.now += 0.125
        waits.append(clock.now - began)
        breaker.probed()

    assert waits == [0.5, 1, 2, 4, 5, 5, 5, 5]
    assert max(waits) == LONGEST_WAIT
    breaker.worked()
    breaker.failed()
    clock.now += FIRST_WAIT
    assert breaker.wants_probe, "after a batch was written, it begins anew"


@given(st.lists(st.sampled_from(["failed", "probed", "worked"]), max_size=30))
def test_it_is_never_open_without_a_probe_to_come(steps: list[str]) -> None:
    """Whatever happened: it lets batches through, or a probe is due within LONGEST_WAIT."""
    clock = Clock()
    breaker = Breaker(clock)
    for step in steps:
        getattr(breaker, step)()
    clock.now += LONGEST_WAIT
    assert breaker.lets_through != breaker.wants_probe
