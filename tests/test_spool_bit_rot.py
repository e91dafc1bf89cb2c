"""Bit rot: a byte of a spool that is not what was written costs one record at most."""

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoolway.spool import Limits, SpoolWriter
from spoolway.spool.record import encode_records
from tests.disks import Found, read_back

OPEN = "20261121T132200.123Z-1a2b3c4d.jsonl.open"
SEALED = "20261121T132200.123Z-1a2b3c4d-3.jsonl"
# One bit, the case of a letter, every bit, and whatever makes it a newline, a quote or a NUL.
FLIPS = [*(1 << bit for bit in range(8)), 0xFF]
BECOMES = [*b'\n\0"{}?']


def event(number: int) -> bytes:
    """Return an event in which a client has put what looks like our records, checksum and all."""
    bait = b'{"evil":%d}' % number
    record = b'{"crc":"%08x","event":%b}' % (crc32(bait), bait)
    return b'{"n":%d,"body":%b}' % (number, record)


EVENTS = [event(number) for number in range(3)]


def found_in(folder: Path, name: str, data: bytes) -> Found:
    """Return what a spool of one segment with these bytes gives back."""
    folder.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)  # ext4 syncs what is truncated and written anew
    (folder / name).write_bytes(data)
    return read_back(folder)


def check(found: Found, original: bytes, changed: bytes, position: int) -> None:
    """Compare what was found with what was written, but for one byte."""
    lines = original.splitlines(keepends=True)
    hit, ends_at = 0, len(lines[0])
    while position >= ends_at:
        hit += 1
        ends_at += len(lines[hit])
    if position == ends_at - 1:  # the newline: it says nothing that the checksums do not
        assert (found.events, found.damaged, found.torn) == (EVENTS, [], 0)
        return
    assert found.events == [event for number, event in enumerate(EVENTS) if number != hit]
    # Set aside, all of it, and with its place in the file.
    record = changed[ends_at - len(lines[hit]) : ends_at - 1]
    assert b"".join(damaged.raw for _, damaged in found.damaged) == record.replace(b"\n", b"")
    assert found.torn == 0
    for _, damaged in found.damaged:
        assert changed[damaged.offset :].startswith(damaged.raw)
        assert damaged.reason


@pytest.mark.parametrize("name", [OPEN, SEALED], ids=["open", "sealed"])
def test_every_byte_that_rots_costs_one_record_at_most(tmp_path: Path, name: str) -> None:
    """Each byte in turn, in each way: its record is set aside, all others come back, none is new.

    A newline that rots costs none.
    """
    assert change_every_byte(
        tmp_path / "spool", name, lambda byte: {*(byte ^ flip for flip in FLIPS), *BECOMES}
    ) > 10 * len(encode_records(EVENTS))


@pytest.mark.chaos
@pytest.mark.parametrize("name", [OPEN, SEALED], ids=["open", "sealed"])
def test_every_byte_may_become_any_other(tmp_path: Path, name: str) -> None:
    """The same, whatever a byte becomes."""
    assert change_every_byte(tmp_path / "spool", name, lambda _byte: set(range(256))) == 255 * len(
        encode_records(EVENTS)
    )


def change_every_byte(folder: Path, name: str, values: Callable[[int], set[int]]) -> int:
    """Check what is left when one byte is not what was written; return how many ways there were."""
    original = encode_records(EVENTS)
    states = 0
    for position, byte in enumerate(original):
        for value in values(byte) - {byte}:
            changed = original[:position] + bytes([value]) + original[position + 1 :]
            check(found_in(folder, name, changed), original, changed, position)
            states += 1
    return states


@pytest.mark.parametrize("name", [OPEN, SEALED], ids=["open", "sealed"])
def test_a_hole_costs_the_records_that_it_covers(tmp_path: Path, name: str) -> None:
    """A sector that reads as zeros, anywhere: what it does not touch comes back."""
    original = encode_records(EVENTS)
    ends = [0]
    for line in original.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    for position in range(len(original) - 64):
        changed = original[:position] + bytes(64) + original[position + 64 :]
        # With the newlines around it: without them nothing says where a record begins.
        untouched = [
            event
            for number, event in enumerate(EVENTS)
            if ends[number + 1] <= position or ends[number] - 1 >= position + 64
        ]
        found = found_in(tmp_path / "spool", name, changed)
        assert found.events == untouched
        assert found.damaged or found.torn


def test_a_sealed_segment_that_lost_its_end_has_a_damaged_record(tmp_path: Path) -> None:
    """It was synced to its last byte: what is missing is not what a crash interrupted."""
    original = encode_records(EVENTS)
    for size in range(len(original) - 1, len(original) - len(encode_records(EVENTS[2:])), -1):
        found = found_in(tmp_path / "spool", SEALED, original[:size])
        if size == len(original) - 1:
            assert (found.events, found.damaged) == (EVENTS, [])
            continue
        assert found.events == EVENTS[:2]
        [(_, damaged)] = found.damaged
        assert (damaged.raw, damaged.reason) == (
            original[len(encode_records(EVENTS[:2])) : size],
            "it has no end",
        )


def test_the_torn_end_of_an_open_segment_is_cut(tmp_path: Path) -> None:
    """Wherever the crash interrupted the write: nobody was told that it had succeeded."""
    original = encode_records(EVENTS)
    start = len(encode_records(EVENTS[:2]))
    for size in range(start, len(original) - 1):
        found = found_in(tmp_path / "spool", OPEN, original[:size])
        assert (found.events, found.damaged, found.torn) == (EVENTS[:2], [], size - start)
        for hole in (1, 700):
            zeros = original[:size] + bytes(hole)
            found = found_in(tmp_path / "spool", OPEN, zeros)
            assert (found.events, found.damaged) == (EVENTS[:2], [])
            assert found.torn == size - start + hole


def test_what_rots_while_it_is_written_is_set_aside_too(tmp_path: Path) -> None:
    """The writer looks at none of it again: its reader finds it, and what came later as well."""
    folder = tmp_path / "spool"
    writer = SpoolWriter(folder, Limits(min_free_bytes=0))
    writer.append(EVENTS[:2])
    [file] = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    with file.open("r+b") as opened:
        opened.write(data)
    writer.append(EVENTS[2:])
    writer.close()
    found = read_back(folder)

    assert found.events == EVENTS[1:]
    assert [damaged.offset for _, damaged in found.damaged] == [0]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from([OPEN, SEALED]))
def test_any_number_of_changes_anywhere_invents_no_event(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str
) -> None:
    """Bytes changed, cut out, doubled and put in: what is read is what was written, or set aside."""
    events = [b'{"n":%d,"text":"any"}' % number for number in range(4)]
    content = encode_records(events)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 80)))
        put = data.draw(st.binary(max_size=5) | st.just(content[start:end] * 2))
        content = content[:start] + put + content[end:]
    found = found_in(tmp_path_factory.mktemp("any") / "spool", name, content)

    assert set(found.events) <= set(events)
