"""Records: one event, its checksum around it, one line; and what is saved when lines are joined."""

import re
import shutil
import subprocess
import time
from pathlib import Path
from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.spool.record import encode_records, event_of, salvage

EVENTS = st.binary(max_size=60).map(lambda event: event.replace(b"\n", b" "))
# What looks like our records, in any piece, beside what does not.
BAIT = st.lists(
    st.sampled_from(
        [b'{"crc":"', b'","event":', b"00000000", b"}", b"{", b"}}", b'{"a":1}', b"\0", b'"', b" "]
    )
    | EVENTS.map(lambda event: encode_records([event])[:-1])
    | EVENTS,
    max_size=8,
).map(b"".join)


@given(events=st.lists(EVENTS | BAIT, max_size=6))
def test_any_bytes_without_a_newline_come_back(events: list[bytes]) -> None:
    """A record is its event's bytes, with a frame around them: one line each."""
    lines = encode_records(events).splitlines(keepends=True)

    assert b"".join(lines) == encode_records(events)
    assert [event_of(line) for line in encode_records(events).split(b"\n")[:-1]] == [None] * len(
        events
    )  # without its newline a line is not whole
    assert [event_of(line + b"\n") for line in encode_records(events).split(b"\n")[:-1]] == events


def test_a_record_is_a_line_of_json_with_the_checksum_of_the_event() -> None:
    """`{"crc":"…","event":{…}}`: the event byte by byte, and the CRC-32 of these bytes."""
    event = b'{"a": 1.0, "b":"\\u0000"}'

    assert encode_records([event]) == b'{"crc":"%08x","event":%b}\n' % (crc32(event), event)


def test_jq_reads_them(tmp_path: Path) -> None:
    """`jq .event` is how an operator looks into a spool."""
    if (jq := shutil.which("jq")) is None:
        pytest.skip("no jq here; the lines are parsed as JSON by the other tests")
    events = ["grüße", "\u2028\x7f\0", '{"a":"\\u0000"}', "x" * 100_000, {"crc": "00000000"}]
    file = tmp_path / "segment.jsonl"
    file.write_bytes(encode_records([orjson.dumps(event) for event in events]))

    done = subprocess.run([jq, "-c", ".event", file], capture_output=True, check=True)
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == events


@given(event=EVENTS | BAIT, position=st.integers(0), bits=st.integers(1, 255))
def test_a_record_with_a_changed_byte_is_none(event: bytes, position: int, bits: int) -> None:
    """Whatever the byte and whatever it becomes: checksum, frame and event are all checked."""
    line = bytearray(encode_records([event]))
    line[position % len(line)] ^= bits

    assert event_of(bytes(line)) is None


@given(
    events=st.lists(EVENTS | BAIT, min_size=1, max_size=5),
    rotted=st.binary(min_size=5, max_size=5).filter(lambda rotted: b"\n" not in rotted),
    ended=st.booleans(),
)
def test_a_newline_that_rots_loses_nothing(events: list[bytes], rotted: bytes, ended: bool) -> None:
    """Records that are joined come apart again, with whatever stands between them; all of them."""
    records = encode_records(events).split(b"\n")[:-1]
    text = b"".join(r + rotted[n : n + 1] for n, r in enumerate(records))

    assert salvage(text[:-1] if ended else text, ended=ended) == (events, b"")


@given(
    first=EVENTS | BAIT,
    second=EVENTS | BAIT,
    rotted=st.binary(min_size=1, max_size=1).filter(lambda rotted: rotted != b"\n"),
    torn=st.integers(1),
)
def test_a_newline_that_rots_in_front_of_a_torn_record_loses_nothing_that_was_whole(
    first: bytes, second: bytes, rotted: bytes, torn: int
) -> None:
    """Not even if so little is left of the torn one that nobody can tell that it is a record."""
    one, two = encode_records([first])[:-1], encode_records([second])[:-2]
    left = two[: torn % len(two)]

    assert salvage(one + rotted + left, ended=False) == ([first], left)


@given(text=BAIT, ended=st.booleans())
def test_what_is_taken_from_a_line_is_a_record_at_its_start(text: bytes, ended: bool) -> None:
    """Never out of the middle: there, what looks like a record is a client's text."""
    text = text.replace(b"\n", b" ")
    events, left = salvage(text, ended=ended)
    taken = text[: len(text) - len(left)]

    for event in events:
        record = encode_records([event])[:-1]
        assert taken.startswith(record)
        taken = taken[len(record) + 1 :]
    assert taken == b""


@pytest.mark.parametrize("ended", [True, False])
def test_text_that_looks_like_a_record_stays_text_when_its_event_is_damaged(ended: bool) -> None:
    """A client may send one with a checksum that is right: only a line's start counts."""
    bait = encode_records([b'{"evil":true}'])[:-1]
    event = b'{"body":%b,"more":[%b]}' % (bait, bait)
    record = bytearray(encode_records([event])[:-1])
    for position in range(len(record)):
        damaged = record.copy()
        damaged[position] ^= 1
        if damaged[position] == ord("\n"):
            continue
        assert salvage(bytes(damaged), ended=ended) == ([], bytes(damaged))


def test_text_that_looks_like_a_record_is_none_where_a_rotted_byte_begins_a_line() -> None:
    """A byte that turns into a newline just in front of it does not make the rest an event."""
    bait = encode_records([b'{"evil":true}'])[:-1]
    record = encode_records([b'{"body":%b}' % bait])
    rest = record[record.index(bait) :]

    assert event_of(rest) is None
    assert salvage(rest[:-1], ended=True) == ([], rest[:-1])


def test_a_damaged_line_full_of_text_like_ours_is_read_in_no_time() -> None:
    """Each byte is looked at once, however many records it might be: 4 MB of openings."""
    text = b'{"crc":"00000000","event":' * 160_000
    began = time.perf_counter()

    assert salvage(text, ended=True) == ([], text)
    assert time.perf_counter() - began < 10
    assert len(re.findall(rb'"crc"', text)) == 160_000
