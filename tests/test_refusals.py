"""Bad rows are dead letters; a database that refuses nearly everything stops the worker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.worker.stores import Refusals, Refusing, Retryable


def test_a_run_of_refusals_trips_it() -> None:
    """100 refused of the last 200: it stops at the hundredth."""
    refusals = Refusals(100, 0.5)
    refusals.accepted(10_000)
    for _ in range(99):
        refusals.refused("no")
    with pytest.raises(Refusing, match="refuses 100 of the last"):
        refusals.refused("no such column")
    assert refusals.tripped


@given(st.lists(st.integers(0, 9), min_size=1, max_size=2_000))
def test_one_bad_row_in_three_never_trips_it(gaps: list[int]) -> None:
    """Under the ratio, refusals are the rows' own fault, however many there are."""
    refusals = Refusals(10, 0.5)
    for gap in gaps:
        refusals.accepted(2 + gap)
        refusals.refused("bad row")
    assert not refusals.tripped


def test_few_refusals_never_trip_it() -> None:
    """Under the count nothing can be told: 99 of 99 become dead letters."""
    refusals = Refusals(100, 0.5)
    for _ in range(99):
        refusals.refused("bad row")
    refusals.judge(99, 99, "bad row")
    assert not refusals.tripped


def test_once_tripped_a_batch_is_judged_by_itself() -> None:
    """It stays tripped while most of a batch is refused, and ends with one that is not."""
    refusals = Refusals(2, 0.5)
    refusals.refused("no")
    with pytest.raises(Refusing):
        refusals.refused("no")

    refusals.refused("no")  # counted, and let through to the end of the batch
    with pytest.raises(Refusing, match="1 of the last 2"):
        refusals.judge(2, 1, "no")
    with pytest.raises(Retryable):
        refusals.judge(3, 1, "no")
    assert not refusals.tripped
    refusals.refused("a bad row")


def test_what_was_refused_before_the_cause_went_away_is_tried_again() -> None:
    """A constraint dropped in the middle of a batch: its first half is no bad data."""
    refusals = Refusals(2, 0.5)
    refusals.refused("no")
    with pytest.raises(Refusing):
        refusals.refused("no")
    with pytest.raises(Retryable, match="written again"):
        refusals.judge(10, 4, "no")
    refusals.judge(10, 0, "")
    assert not refusals.tripped


def test_it_can_be_switched_off() -> None:
    """A count of 0: every refusal is a dead letter."""
    refusals = Refusals(0, 0.5)
    for _ in range(1_000):
        refusals.refused("no")
    refusals.judge(1_000, 1_000, "no")
    assert not refusals.tripped
