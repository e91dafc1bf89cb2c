"""Ids: UUIDv7 as RFC 9562 lays it out, in the order of minting, with exact bounds of time."""

import sys
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from itertools import accumulate
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.schema import NotUuid7, id_range, is_uuid7, lower_bound, new_id, time_of
from spoolway.schema.ids import from_ms
from tests.strategies import FROM_1970, NAIVE, TO_2200

# RFC 9562, appendix A.6.
RFC_ID = UUID("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
RFC_TIME = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
MS = timedelta(milliseconds=1)
LAST_MS = (1 << 48) - 1


def id_at(ms: int, bits: int = 0) -> UUID:
    """Return a UUIDv7 of a millisecond with the given 74 bits after it."""
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return UUID(int=(ms << 80) | (0x7 << 76) | (high << 64) | (0x2 << 62) | low)


def test_the_layout_is_the_rfcs() -> None:
    """48 bits of milliseconds, version 7, 12 bits, variant 10, 62 bits: the RFC's own example."""
    ms, entropy = 0x017F22E279B0, (0x18C4DC0C0C07398F << 2).to_bytes(8)
    sub_millisecond = 0xCC3 * 1_000_000 // 4096 + 1
    minted = new_id(lambda: ms * 1_000_000 + sub_millisecond, lambda size: entropy[:size])
    assert minted == RFC_ID
    assert time_of(minted) == RFC_TIME


@given(st.integers(0, LAST_MS * 1_000_000), st.binary(min_size=8, max_size=8))
def test_every_id_is_a_uuid7_of_its_time(now_ns: int, entropy: bytes) -> None:
    """Whatever the clock and the random bits are."""
    minted = new_id(lambda: now_ns, lambda _size: entropy)
    assert (minted.version, minted.variant) == (7, uuid.RFC_4122)
    assert is_uuid7(minted)
    assert minted.int >> 80 == now_ns // 1_000_000
    assert time_of(minted) == from_ms(now_ns // 1_000_000)


@given(st.integers(0, 2**61), st.lists(st.integers(245, 10**9), max_size=50), st.randoms())
def test_ids_sort_as_they_were_minted(start: int, steps: list[int], chance: Random) -> None:
    """While the clock goes on by a quarter of a microsecond, whatever the random bits."""
    clock = accumulate(steps, initial=start)
    minted = [new_id(lambda: next(clock), chance.randbytes) for _ in steps]
    assert sorted(minted) == minted
    assert sorted(map(str, minted)) == list(map(str, minted))


def test_real_ids_sort_with_the_real_clock() -> None:
    """One after the other in one thread, except where the clock stood still or went back."""
    minted, moments = [], []
    for _ in range(2_000):
        moments.append(time.time_ns())
        minted.append(new_id())
    for before, after, one, other in zip(
        moments[1:], moments[2:], minted, minted[1:], strict=False
    ):
        if after - before >= 245:
            assert one < other
    assert len(set(minted)) == len(minted)


@given(st.integers(0, 253402300799999), st.integers(0, 2**74 - 1))
def test_a_bound_is_exact_to_the_millisecond(ms: int, bits: int) -> None:
    """An id is at or above the bound of its own millisecond, and below the next one's."""
    one, moment = id_at(ms, bits), from_ms(ms)
    assert lower_bound(moment) < one
    if moment.year < 9999:
        assert one < lower_bound(moment + MS)


@pytest.mark.parametrize("ms", [0, 1, 999, 1000, 0x017F22E279B0, 253402300799999])
@pytest.mark.parametrize("bits", [0, 2**74 - 1])
def test_the_edges_of_a_millisecond_hold(ms: int, bits: int) -> None:
    """The first and the last id of a millisecond are in its range, and in no neighbour's."""
    moment = from_ms(ms)
    assert lower_bound(moment).int <= id_at(ms, bits).int < (ms + 1) << 80
    assert time_of(id_at(ms, bits)) == moment


@given(
    st.datetimes(FROM_1970, TO_2200),
    st.timedeltas(timedelta(0), timedelta(days=2)),
    st.timedeltas(timedelta(days=-1), timedelta(days=3)),
    st.integers(0, 2**74 - 1),
)
def test_a_range_is_half_open(
    start: datetime, length: timedelta, offset: timedelta, bits: int
) -> None:
    """An id is in [start, end) when the millisecond of its time is, and only then."""
    start = start.replace(tzinfo=UTC, microsecond=start.microsecond // 1000 * 1000)
    end, minted = start + length // MS * MS, start + offset // MS * MS
    if minted < from_ms(0):
        return
    one = id_at((minted - from_ms(0)) // MS, bits)
    first, last = id_range(start, end)
    assert (first <= one < last) == (start <= minted < end)


def test_two_days_that_touch_share_no_id() -> None:
    """The end of one range is the start of the next: the bounds of partitions."""
    day = timedelta(days=1)
    start = datetime(2026, 1, 31, tzinfo=UTC)
    assert id_range(start, start + day)[1] == id_range(start + day, start + 2 * day)[0]
    assert id_range(start, start) == (lower_bound(start), lower_bound(start))


def test_a_bound_is_the_same_in_every_zone() -> None:
    """It is the moment that counts."""
    there = RFC_TIME.astimezone(timezone(timedelta(hours=9, minutes=30)))
    assert lower_bound(there) == lower_bound(RFC_TIME)


def test_a_time_before_1970_is_before_every_id() -> None:
    """A range that begins earlier begins with the first id there can be."""
    assert lower_bound(datetime(1900, 1, 1, tzinfo=UTC)) == UUID(int=0)
    assert lower_bound(datetime.min.replace(tzinfo=UTC)) < id_at(0)


def test_a_time_without_a_zone_is_no_bound() -> None:
    """It would be another range on another machine."""
    with pytest.raises(ValueError, match="time zone"):
        lower_bound(NAIVE)


def test_a_range_that_ends_before_it_starts_is_refused() -> None:
    """Rather than silently empty."""
    with pytest.raises(ValueError, match="must not end"):
        id_range(RFC_TIME, RFC_TIME - MS)


def test_a_time_that_python_cannot_say_is_its_last_one() -> None:
    """Ids reach to the year 10889, datetimes to 9999: an alien id must not be a crash."""
    assert time_of(id_at(LAST_MS)) == datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "other",
    [
        uuid.uuid4(),
        uuid.uuid1(),
        uuid.uuid5(uuid.NAMESPACE_URL, "x"),
        UUID(int=0),
        UUID(int=2**128 - 1),
        UUID("017f22e2-79b0-7cc3-58c4-dc0c0c07398f"),  # version 7, another variant
    ],
    ids=["v4", "v1", "v5", "nil", "max", "variant"],
)
def test_another_uuid_has_no_time(other: UUID) -> None:
    """The message says which id, and where to get a right one."""
    assert not is_uuid7(other)
    with pytest.raises(NotUuid7) as caught:
        time_of(other)
    assert str(caught.value).startswith(f"id {other} is not a UUIDv7: mint it with")
    assert caught.value.reason == "not-uuid7"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="uuid.uuid7 came with Python 3.14")
def test_the_standard_librarys_ids_are_ours() -> None:
    """Python's own UUIDv7 has the same time in the same place, and sorts with ours."""
    before = datetime.now(UTC) - MS
    theirs: UUID = uuid.uuid7()  # type: ignore[attr-defined, unused-ignore]  # only Python 3.14 has it
    assert is_uuid7(theirs)
    assert before <= time_of(theirs) <= datetime.now(UTC)
    assert lower_bound(before) <= theirs < lower_bound(datetime.now(UTC) + MS)
