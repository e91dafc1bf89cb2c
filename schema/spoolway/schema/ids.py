"""Ids: UUIDv7 (RFC 9562 §5.7), minted by the producer when a request starts.

One value serves three ends: it is the primary key, the idempotency key of every redelivery, and,
because it sorts by time, the partition key. A day of rows is a range of ids.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from spoolway.schema.errors import NotUuid7

_VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
_OF_BOTH = (0xF << 14) | 0x3  # version and variant, of an id without its last 62 bits
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def new_id(
    now_ns: Callable[[], int] = time.time_ns, entropy: Callable[[int], bytes] = os.urandom
) -> UUID:
    """Mint a UUIDv7: 48 bits of Unix milliseconds, 12 bits of sub-millisecond, 62 random bits.

    The sub-millisecond bits (RFC 9562 §6.2, method 3) make ids of one process sort as they were
    minted, as far as its clock tells them apart (a quarter of a microsecond). The entropy is the kernel's, so that two processes after a fork never mint the same id.
    """
    ms, rest_ns = divmod(now_ns(), 1_000_000)
    fraction = (rest_ns << 12) // 1_000_000
    random_bits = int.from_bytes(entropy(8)) >> 2
    return UUID(int=(ms << 80) | (fraction << 64) | _VERSION_AND_VARIANT | random_bits)


def is_uuid7(value: UUID) -> bool:
    """Tell whether `value` carries version 7 and the RFC 9562 variant."""
    return (value.int >> 62) & _OF_BOTH == _VERSION_AND_VARIANT >> 62


def time_of(value: UUID) -> datetime:
    """Return the UTC time in a UUIDv7, in whole milliseconds.

    Raises:
        NotUuid7: another version carries no time, or carries it elsewhere.
    """
    if not is_uuid7(value):
        raise NotUuid7(value)
    return from_ms(value.int >> 80)


def from_ms(ms: int) -> datetime:
    """Return the UTC time of `ms` Unix milliseconds, clamped to what a datetime can say."""
    try:
        return _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def lower_bound(moment: datetime) -> UUID:
    """Return the smallest id that can be minted at `moment` (millisecond resolution).

    `lower_bound(a) <= id < lower_bound(b)` holds for the ids minted in [a, b), and for no other
    UUIDv7; version and variant bits are zero, so the bound sorts below every real id of its
    millisecond.
    """
    if moment.tzinfo is None:
        raise ValueError(f"a time range needs times with a time zone, got {moment!r}")
    ms = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=max(ms, 0) << 80)


def id_range(start: datetime, end: datetime) -> tuple[UUID, UUID]:
    """Return the half-open range of ids [first, last) minted in [start, end)."""
    if end < start:
        raise ValueError(f"a time range must not end ({end}) before it starts ({start})")
    return lower_bound(start), lower_bound(end)
