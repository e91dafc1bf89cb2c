"""From stream entries to a batch: what can be read becomes items, what cannot is kept, raw."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.schema import ErrorEvent, FrameEncoder, RequestEvent, new_id
from spoolway.worker.batch import Batch, ReadSize, Window, assemble
from spoolway.worker.stores import Item
from spoolway.worker.stream import Entry
from tests.stores import MS_PER_DAY, id_at

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = Window(timedelta(days=400), timedelta(days=2), now=lambda: NOW)
MS = timedelta(milliseconds=1)


def line(at: datetime = NOW, **fields: object) -> bytes:
    """One request as a JSON line."""
    return orjson.dumps({"type": "request", "id": id_at(at), **fields})


def entry(*lines: bytes, number: int = 1, codec: bytes = b"json", **fields: bytes) -> Entry:
    """Return a stream entry with a frame of these lines; `fields` replace some of its own."""
    data = b"\n".join(lines)
    frame = {b"v": b"1", b"codec": codec, b"n": b"%d" % len(lines), b"data": data}
    replaced = {name.encode(): value for name, value in fields.items()}
    return Entry(b"1000-%d" % number, frame | replaced)


# --- Good and bad, side by side -----------------------------------------------------


def test_every_line_becomes_an_item_with_its_bytes_and_its_day() -> None:
    """An item has the event, the line exactly as it came, and the UTC day of its id."""
    lines = [line(), line(NOW - timedelta(days=1)), line(path="/x")]
    error = orjson.dumps({"type": "error", "id": id_at(NOW)})

    batch = assemble([entry(*lines, number=1), entry(error, number=2)], WINDOW)
    assert batch.dead == []
    assert [item.line for item in batch.items] == [*lines, error]
    assert [type(item.event) for item in batch.items] == [RequestEvent] * 3 + [ErrorEvent]
    today = (NOW.date() - datetime(1970, 1, 1, tzinfo=UTC).date()).days
    assert [item.day for item in batch.items] == [today, today - 1, today, today]
    assert batch.entry_ids == [b"1000-1", b"1000-2"]


def test_what_the_producer_packs_is_read() -> None:
    """A compressed frame of the producer's encoder is the same lines again."""
    lines = [line(body={"n": n}) for n in range(50)]
    fields = FrameEncoder().encode(lines, len(lines))
    raw = {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in fields.items()
    }

    batch = assemble([Entry(b"1-0", raw)], WINDOW)
    assert [item.line for item in batch.items] == lines


SOME_ID = str(new_id()).encode()
BAD_LINES = {
    "half": (b'{"type":"request"', "undecodable"),
    "nothing": (b"", "undecodable"),
    "no-object": (b"[]", "undecodable"),
    "no-text": (b"\xff\xfe", "undecodable"),
    "unknown-type": (b'{"type":"response","id":"%s"}' % SOME_ID, "undecodable"),
    "no-type": (b'{"id":"%s"}' % SOME_ID, "undecodable"),
    "no-id": (b'{"type":"request"}', "not-uuid7"),
    "uuid4": (b'{"type":"request","id":"%s"}' % str(uuid4()).encode(), "not-uuid7"),
    "number": (b'{"type":"error","id":7}', "not-uuid7"),
    "too-old": (line(datetime(1999, 12, 31, tzinfo=UTC)), "outside-window"),
    "too-new": (line(datetime(2199, 12, 31, tzinfo=UTC)), "outside-window"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_a_dead_letter_and_the_rest_of_its_frame_goes_on(case: str) -> None:
    """The line is kept to the byte, with its reason and entry; its neighbours are items."""
    bad, reason = BAD_LINES[case]
    good = [line(), line()]

    batch = assemble([entry(good[0], bad, good[1], number=7)], WINDOW)
    assert [item.line for item in batch.items] == good
    [letter] = batch.dead
    assert (letter.reason, letter.raw, letter.entry_id) == (reason, bad, "1000-7")
    assert letter.message
    assert "\n" not in letter.message
    assert batch.events == 3


BAD_FRAMES = {
    "version": {"v": b"2"},
    "codec": {"codec": b"gzip"},
    "count": {"n": b"3"},
    "no-number": {"n": b"two"},
    "not-zstd": {"codec": b"zstd"},
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_a_bad_frame_is_one_dead_letter_with_its_data(case: str) -> None:
    """A frame that breaks the contract is kept as it came; other entries go on."""
    bad, good = entry(line(), line(), number=1, **BAD_FRAMES[case]), entry(line(), number=2)

    batch = assemble([bad, good], WINDOW)
    assert [item.line for item in batch.items] == [good.fields[b"data"]]
    [letter] = batch.dead
    assert (letter.reason, letter.entry_id) == ("bad-frame", "1000-1")
    assert letter.raw == bad.fields[b"data"]
    assert batch.entry_ids == [b"1000-1", b"1000-2"]  # acknowledged, when the letter is on disk


def test_an_entry_of_other_fields_is_kept_whole() -> None:
    """Who pushes under another name has made a mistake, and must still find the event again."""
    wrong = Entry(b"5-0", {b"v": b"1", b"event": line(path="/only-here")})

    [letter] = assemble([wrong], WINDOW).dead
    assert b"/only-here" in letter.fields[b"event"]


@given(st.lists(st.binary(max_size=60).filter(lambda raw: b"\n" not in raw), max_size=8))
def test_whatever_the_lines_are_each_of_them_is_kept(junk: list[bytes]) -> None:
    """Every line of a frame is an item or a dead letter, in its order, and nothing raises."""
    good = line()
    lines = [*junk, good]

    batch = assemble([entry(*lines)], WINDOW)
    assert [letter.raw for letter in batch.dead] + [item.line for item in batch.items] == lines


@given(
    st.dictionaries(
        st.sampled_from([b"v", b"codec", b"n", b"data", b"other"]), st.binary(max_size=30)
    )
)
def test_whatever_an_entry_is_it_is_acknowledged_once_it_is_kept(
    fields: dict[bytes, bytes],
) -> None:
    """No entry of any content raises or is left out."""
    batch = assemble([Entry(b"1-0", fields)], WINDOW)

    assert batch.entry_ids == [b"1-0"]
    assert batch.events >= 1


# --- The window ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "taken"),
    [
        (timedelta(0), True),
        (timedelta(days=1), True),
        (timedelta(days=-1), True),
        (WINDOW.past, True),
        (WINDOW.past + MS, False),
        (-WINDOW.future, True),
        (-WINDOW.future - MS, False),
        (timedelta(days=20_000), False),
        (timedelta(days=-40_000), False),
    ],
)
def test_ids_are_taken_from_as_far_as_clocks_can_be_off(age: timedelta, taken: bool) -> None:
    """Both ends of the window are inside it; a millisecond further is a dead letter."""
    batch = assemble([entry(line(NOW - age))], WINDOW)

    assert [len(batch.items), len(batch.dead)] == ([1, 0] if taken else [0, 1])
    if not taken:
        [letter] = batch.dead
        assert letter.reason == "outside-window"
        assert "SPOOLWAY_ID_PAST_DAYS" in letter.message
        assert "2026-03-03 12:00:00" in letter.message


@given(st.integers(0, 2**48 - 1))
def test_the_message_of_any_time_can_be_written(ms: int) -> None:
    """The 48 bits of an id reach further than a calendar: the largest is of the year 10889."""
    event_id = new_id(now_ns=lambda: ms * 1_000_000)

    batch = assemble([entry(b'{"type":"request","id":"%s"}' % str(event_id).encode())], WINDOW)
    assert batch.events == 1
    assert all(item.day == ms // MS_PER_DAY for item in batch.items)


def test_the_window_moves_with_the_clock() -> None:
    """What was too far ahead is taken when its time has come."""
    clock = [NOW]
    window = Window(timedelta(days=1), timedelta(days=1), now=lambda: clock[0])
    ahead = entry(line(NOW + timedelta(days=3)))

    assert assemble([ahead], window).items == []
    clock[0] = NOW + timedelta(days=3)
    assert len(assemble([ahead], window).items) == 1


# --- How much to read ---------------------------------------------------------------


def _of(events: int, lines: int) -> list[Item]:
    """The items of one frame: so many events, in so many bytes of JSON lines."""
    return [Item(RequestEvent(id=new_id()), bytes(lines // max(events, 1)), 0)] * events


def _read(size: ReadSize, events: int, lines: int) -> int:
    """Let it read as many entries as it asks for, of this kind; return how many that were."""
    count = size.entries()
    size.observe([Entry(b"1-0", {})] * count, Batch([], items=_of(events, lines) * count))
    return count


@pytest.mark.parametrize(
    ("events", "lines", "expected"),
    [
        (1, 1_000, 1_000),  # another language's frames of one event
        (100, 65_536, 10),
        (1_000, 500_000, 1),
        (10_000, 30_000_000, 1),
        (1, 4_000_000, 2),  # few events, many bytes
        (3, 0, 333),
    ],
)
def test_read_size_converges_on_the_batch_that_is_aimed_for(
    events: int, lines: int, expected: int
) -> None:
    """Whatever frames come, after a few reads a batch has the events or the bytes asked for."""
    size = ReadSize(1_000, 8 << 20, slow=2.0)
    for _ in range(25):
        _read(size, events, lines)

    assert _read(size, events, lines) == pytest.approx(expected, rel=0.02)


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 10**7)), max_size=30))
def test_read_size_is_never_nothing(reads: list[tuple[int, int]]) -> None:
    """Frames of any size, and none at all: at least one entry is asked for, and not all of them."""
    size = ReadSize(1_000, 8 << 20, slow=2.0)
    for events, lines in reads:
        size.observe([Entry(b"1-0", {})], Batch([], items=_of(events, lines)))
        assert 1 <= size.entries() <= 1_000


def test_read_size_follows_a_change_within_a_few_reads() -> None:
    """After large frames come small ones, and the other way round: it forgets by halves."""
    size = ReadSize(1_000, 8 << 20, slow=2.0)
    for _ in range(20):
        _read(size, 1, 500)
    for _ in range(8):
        _read(size, 1_000, 500_000)

    assert _read(size, 1_000, 500_000) == 1


def test_read_size_follows_a_slow_database_and_recovers() -> None:
    """Batches that take too long are halved, down to a 64th; quick ones grow to what is aimed for."""
    size = ReadSize(4_000, 8 << 20, slow=2.0)
    for _ in range(25):
        _read(size, 1, 1_000)
    full = size.entries()

    size.took(2.1)
    assert size.entries() == pytest.approx(full / 2, abs=1)
    for _ in range(20):
        size.took(60.0)
    assert size.entries() == pytest.approx(full / 64, abs=1)
    for _ in range(30):
        size.took(0.1)
    assert size.entries() == full


@given(st.lists(st.integers(0, 5_000), max_size=60))
def test_parts_are_all_items_in_order_and_none_much_larger_than_asked_for(
    sizes: list[int],
) -> None:
    """A batch that came out too large is written in several transactions, each within bounds."""
    items = [Item(RequestEvent(id=new_id()), bytes(size), 0) for size in sizes]

    parts = list(Batch([], items=items).parts(8_000))
    assert [item for part in parts for item in part] == items
    assert all(part for part in parts)
    assert all(sum(len(item.line) for item in part[:-1]) < 8_000 for part in parts)
