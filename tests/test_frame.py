"""The frame around events: what goes in comes out, and what is no frame says why, in bounded memory."""

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from spoolway.schema import BadFrame, Codec, FrameEncoder, decode_frame
from spoolway.schema.caps import MIB
from spoolway.schema.errors import Oversize
from spoolway.schema.frame import MAX_FRAME_BYTES, MAX_FRAME_EVENTS
from tests.pushed import lines_of

LINES = [b'{"type":"request"}', b'{"type":"error"}', '{"é":1}'.encode()]


def frame(**changes: bytes | None) -> dict[bytes, bytes]:
    """Return a right frame with some fields changed, or left out where None."""
    fields: dict[bytes, bytes | None] = {
        b"v": b"1",
        b"codec": b"json",
        b"n": b"3",
        b"data": b"\n".join(LINES),
        **{name.encode(): value for name, value in changes.items()},
    }
    return {name: value for name, value in fields.items() if value is not None}


def as_redis_gives_it(fields: dict[str, str | bytes | int]) -> dict[bytes, bytes]:
    """Return an entry's fields as they come back: all bytes."""
    return {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in fields.items()
    }


@pytest.mark.parametrize("codec", ["json", "zstd"])
@given(st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line), min_size=1))
def test_lines_come_out_as_they_went_in(codec: Codec, lines: list[bytes]) -> None:
    """Whatever the bytes of a line are, in their order."""
    fields = FrameEncoder(codec).encode(lines, len(lines))
    assert lines_of(as_redis_gives_it(fields)) == lines


@pytest.mark.parametrize("codec", ["json", "zstd"])
def test_an_item_may_hold_several_lines(codec: Codec) -> None:
    """A request and its errors are encoded together."""
    fields = FrameEncoder(codec).encode([LINES[0], b"\n".join(LINES[1:])], 3)
    assert lines_of(as_redis_gives_it(fields)) == LINES


def test_what_is_packed_in_pieces_is_one_frame_that_says_its_size() -> None:
    """As many lines as a frame has, and one more than fits a piece: what unpacks may look first."""
    for count in (1, 16, 17, 100):
        lines = [b'{"n":%d}' % number for number in range(count)]
        fields = as_redis_gives_it(FrameEncoder("zstd").encode(lines, count))
        assert lines_of(fields) == lines
        assert zstandard.frame_content_size(fields[b"data"]) == len(b"\n".join(lines))


def test_a_frame_may_be_written_by_hand() -> None:
    """One XADD from a shell is a producer; a line end at the end is what shells leave there."""
    assert lines_of(frame()) == LINES
    assert lines_of(frame(data=b"\n".join(LINES) + b"\n")) == LINES
    assert decode_frame({**frame(n=b"1", data=b"{}"), b"more": b"ignored"}) == [b"{}"]


PACKED = zstandard.compress(b"\n".join(LINES))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"v": None}, 'field "v" must be 1, got nothing'),
        ({"v": b"2"}, "field \"v\" must be 1, got '2'"),
        ({"codec": None}, 'field "codec" must be json or zstd, got nothing'),
        ({"codec": b"gzip"}, "field \"codec\" must be json or zstd, got 'gzip'"),
        ({"codec": b"\x1b[31m\n" * 90}, 'field "codec" must be json or zstd, got'),
        ({"data": None}, 'field "data" is missing or empty: it holds the JSON lines'),
        ({"data": b"", "n": b"0"}, 'field "data" is missing or empty: it holds the JSON lines'),
        ({"n": None}, 'it is nothing, and "data" has 3 lines'),
        ({"n": b"2"}, "it is '2', and \"data\" has 3 lines"),
        ({"n": b"03"}, "it is '03', and \"data\" has 3 lines"),
        ({"n": b"three"}, 'field "n" must be the number of events'),
        ({"n": b"0", "data": b"{}"}, 'field "n" must be the number of events'),
        ({"data": b"\n".join(LINES) + b"\n\n"}, '"data" has 4 lines'),
        ({"codec": b"zstd"}, 'field "data" is not one zstd frame that unpacks'),
        ({"codec": b"zstd", "data": PACKED[:-1]}, "not one zstd frame that unpacks"),
        ({"codec": b"zstd", "data": PACKED + b"x"}, "not one zstd frame that unpacks"),
        ({"codec": b"zstd", "data": PACKED + PACKED}, "not one zstd frame that unpacks"),
        ({"codec": b"zstd", "data": b"\x50\x2a\x4d\x18\0\0\0\0"}, 'and "data" has 1 lines'),
    ],
)
def test_a_broken_frame_says_what_to_mend(changes: dict[str, Any], what: str) -> None:
    """The message names the field and what is expected there, on one printable line."""
    with pytest.raises(BadFrame) as caught:
        decode_frame(frame(**changes))
    message = str(caught.value)
    assert what in message
    assert len(message) <= 300
    assert message.isprintable()
    assert caught.value.reason == "bad-frame"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data": b"x" * (MAX_FRAME_BYTES + 1)}, f"a frame has at most {MAX_FRAME_BYTES}"),
        ({"n": b"10001", "data": b"\n" * 10_001}, "10001 events; a frame has at most 10000"),
    ],
)
def test_a_frame_that_is_too_large_has_a_reason_of_its_own(
    changes: dict[str, Any], what: str
) -> None:
    """What to mend is its producer's packing, not its bytes; otherwise it is a bad frame."""
    with pytest.raises(Oversize, match=what) as caught:
        decode_frame(frame(**changes))
    assert isinstance(caught.value, BadFrame)
    assert caught.value.reason == "oversize"


@given(st.dictionaries(st.sampled_from([b"v", b"codec", b"n", b"data"]), st.binary()))
def test_any_fields_are_a_frame_or_a_bad_one(fields: dict[bytes, bytes]) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(BadFrame):
        decode_frame(fields)


@given(st.binary(max_size=60), st.integers(0, len(PACKED)), st.integers(0, len(PACKED)))
def test_damaged_zstd_is_a_bad_frame(junk: bytes, start: int, end: int) -> None:
    """Whatever is cut from it or put into it: nothing else is raised."""
    with contextlib.suppress(BadFrame):
        decode_frame(frame(codec=b"zstd", data=PACKED[:start] + junk + PACKED[end:]))


def _zeros(size: int, *, sized: bool, level: int = 19) -> bytes:
    """Return as many zeros as one zstd frame, with or without their number in it."""
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=sized)
    chunks = compressor.compressobj(size if sized else -1)
    block = bytes(MIB)
    packed = [chunks.compress(block) for _ in range(size // MIB)]
    return b"".join([*packed, chunks.flush()])


def _claiming(size: int) -> bytes:
    """Return the header of a zstd frame that claims a size, with nothing in it."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def _windowed(window: int) -> bytes:
    """Return "{}" as a zstd frame of unknown size that asks for a window (RFC 8878 §3.1.1.1.2)."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([window]) + b"\x11\x00\x00{}"


BOMBS: dict[str, Callable[[], bytes]] = {
    "1 GB of zeros": lambda: _zeros(1024 * MIB, sized=True, level=1),
    "1 GB of zeros of unknown size": lambda: _zeros(1024 * MIB, sized=False, level=1),
    "a byte too many": lambda: _zeros(MAX_FRAME_BYTES + MIB, sized=False),
    "a claim of 16 EB": lambda: _claiming(2**64 - 3),
    "a claim of 1 TB": lambda: _claiming(2**40),
    "a claim of 32 MB": lambda: _claiming(MAX_FRAME_BYTES),
    "a window of 2 GB": lambda: _windowed(0xA8),
    "33 million line ends": lambda: zstandard.compress(b"\n" * MAX_FRAME_BYTES),
}


@pytest.mark.parametrize("made", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_in_bounded_memory(made: Callable[[], bytes]) -> None:
    """What it unpacks to is never held: neither by Python nor by the decompressor."""
    bomb = made()  # not while the tests are collected, in each of xdist's workers
    process = psutil.Process()
    tracemalloc.start()
    before = process.memory_info().rss
    try:
        with pytest.raises(BadFrame):
            decode_frame(frame(codec=b"zstd", n=b"1", data=bomb))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= 2 * MAX_FRAME_BYTES + MIB
    assert process.memory_info().rss - before <= 2 * MAX_FRAME_BYTES


def test_a_large_window_is_no_bomb() -> None:
    """What streams at zstd's highest level asks for 128 MB; only what is unpacked takes memory."""
    before = psutil.Process().memory_info().rss
    assert decode_frame(frame(codec=b"zstd", n=b"1", data=_windowed(0x88))) == [b"{}"]
    assert psutil.Process().memory_info().rss - before <= 32 * MIB


def test_the_largest_frame_is_taken() -> None:
    """As many bytes and events as a frame may have, of known and of unknown size."""
    line = b"x" * (MAX_FRAME_BYTES // MAX_FRAME_EVENTS - 1)
    data = b"\n".join([line] * MAX_FRAME_EVENTS)
    sized = zstandard.compress(data)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    for packed in (sized, unsized):
        assert len(decode_frame(frame(codec=b"zstd", n=b"10000", data=packed))) == MAX_FRAME_EVENTS


def test_an_unknown_codec_is_no_encoder() -> None:
    """The mistake is told where it was made."""
    with pytest.raises(ValueError, match='codec must be "json" or "zstd"'):
        FrameEncoder("gzip")  # type: ignore[arg-type]  # wrong on purpose here
