"""Segments: written by some, read by others, one owner at a time, whoever is killed."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.spool import Disk, Limits, Segment, SpoolFolder, SpoolWriter
from spoolway.spool import segment as segment_module
from spoolway.spool.names import new_stem, parse, sealed
from spoolway.spool.record import encode_records
from tests.disks import INTERRUPT, TestDisk, read_back

NOW = datetime(2026, 11, 21, 13, 22, 0, 123456, tzinfo=UTC)
SMALL = Limits(min_free_bytes=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not there yet, in another one that is not there yet."""
    return tmp_path / "var" / "spool"


@pytest.fixture
def writer(folder: Path) -> Iterator[SpoolWriter]:
    """A writer to the folder, closed after the test."""
    writer = SpoolWriter(folder, SMALL)
    yield writer
    writer.close()


def events(count: int, start: int = 0) -> list[bytes]:
    """Return so many different events."""
    return [b'{"n":%d}' % number for number in range(start, start + count)]


def taken(folder: Path) -> Segment:
    """Take the only segment of a folder."""
    spool = SpoolFolder(folder)
    [file] = spool.segments()
    segment = spool.take(file)
    assert segment is not None
    return segment


def lines_of(segment: Segment) -> list[bytes]:
    """Return all that is in a segment."""
    return [line for chunk in segment.chunks(100, 1 << 20) for line in chunk.lines]


# --- Writing and reading ------------------------------------------------------------


@given(batches=st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=5))
def test_events_come_back_to_the_byte_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    """Any bytes but newlines, through any number of appends and segments."""
    batches = [[event.replace(b"\n", b"") for event in batch] for batch in batches]
    folder = tmp_path_factory.mktemp("spool")
    writer = SpoolWriter(folder, Limits(min_free_bytes=0, segment_bytes=200), now=lambda: NOW)
    for batch in batches:
        writer.append(batch)
    writer.close()

    assert read_back(folder).events == [event for batch in batches for event in batch]
    assert read_back(folder).damaged == []


def test_no_events_touch_nothing(folder: Path, writer: SpoolWriter) -> None:
    """The folder is made with the first event."""
    writer.append([])
    writer.seal()

    assert not folder.exists()
    assert SpoolFolder(folder).segments() == []


def test_an_event_with_a_newline_is_refused(folder: Path, writer: SpoolWriter) -> None:
    """It would be two lines: nothing of its batch is written."""
    with pytest.raises(ValueError, match="newline"):
        writer.append([b"{}", b'{}\n{"crc":"00000000","event":}', b"{}"])

    assert not folder.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_them(folder: Path, umask: int) -> None:
    """Folder 0700 and files 0600, whatever the umask: they hold whole requests."""
    before = os.umask(umask)
    try:
        writer = SpoolWriter(folder, SMALL)
        writer.append(events(3))
        modes = {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        writer.close()
        segment = taken(folder)
        segment.cut(next(segment.chunks(1, 1 << 20)).end)
    finally:
        os.umask(before)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes | {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_order_of_the_names_is_the_order_of_writing(folder: Path) -> None:
    """Even within a millisecond, and when the clock is set back."""
    times = iter([NOW, NOW, NOW + timedelta(seconds=1), NOW - timedelta(hours=1), NOW] * 4)
    limits = Limits(min_free_bytes=0, segment_bytes=1)
    writer = SpoolWriter(folder, limits, now=lambda: next(times))
    for event in events(20):
        writer.append([event])

    assert len(list(folder.iterdir())) == 20
    assert read_back(folder).events == events(20)


@given(
    first=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001 - UTC is added below
    second=st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)),  # noqa: DTZ001 - UTC is added below
    zone=st.timezones(),
    count=st.integers(0, 10**9),
)
def test_a_name_says_when_it_began_and_how_much_is_in_it(
    first: datetime, second: datetime, zone: object, count: int
) -> None:
    """To the millisecond, in UTC; names sort by it."""
    stems = [new_stem(began.replace(tzinfo=UTC)) for began in (first, second)]
    name = parse(sealed(stems[0], count))
    floor = first.replace(tzinfo=UTC, microsecond=first.microsecond // 1000 * 1000)

    assert name == (floor, count)
    assert parse(stems[0] + ".jsonl.open") == (floor, None)
    if abs(first - second) >= timedelta(milliseconds=1):
        assert (stems[0] < stems[1]) == (first < second)


def test_a_segment_is_listed_with_its_size_its_time_and_its_events(
    folder: Path, writer: SpoolWriter
) -> None:
    """An open one's events are counted line by line, a sealed one's are in its name."""
    writer.append(events(3))
    writer.append(events(2))
    [file] = writer.folder.segments()
    assert (file.is_open, file.named_events, file.count_events()) == (True, None, 5)
    assert file.size == file.path.stat().st_size

    writer.seal()
    [file] = writer.folder.segments()
    assert (file.is_open, file.named_events, file.count_events()) == (False, 5, 5)
    assert abs(datetime.now(UTC) - file.began) < timedelta(minutes=5)


def test_a_chunk_has_about_as_many_events_or_bytes_as_were_asked_for(
    folder: Path, writer: SpoolWriter
) -> None:
    """Whichever comes first; its end is where the next one begins."""
    writer.append(events(10))
    writer.close()
    size = len(encode_records(events(1)))
    segment = taken(folder)

    assert [len(chunk.lines) for chunk in segment.chunks(4, 1 << 20)] == [4, 4, 2]
    assert [len(chunk.lines) for chunk in segment.chunks(100, 3 * size)] == [3, 3, 3, 1]
    assert [chunk.end for chunk in segment.chunks(5, 1 << 20)] == [5 * size, 10 * size]
    segment.release()


def test_two_readings_of_a_segment_do_not_move_each_other(
    folder: Path, writer: SpoolWriter
) -> None:
    """Each one has an offset of its own in the file that they share."""
    writer.append([b'"%d%b"' % (number, b"x" * 1000) for number in range(3000)])
    writer.close()
    segment = taken(folder)
    first, second = segment.chunks(7, 1 << 20), segment.chunks(7, 1 << 20)
    lines = [(one.lines, two.lines) for one, two in zip(first, second, strict=True)]

    assert all(one == two for one, two in lines)
    assert sum(len(one) for one, _ in lines) == 3000
    segment.release()


def test_a_segment_that_is_released_can_neither_be_read_nor_removed(
    folder: Path, writer: SpoolWriter
) -> None:
    """It may be another one's by now, and its descriptor another file's."""
    writer.append(events(2))
    writer.close()
    segment = taken(folder)
    chunks = segment.chunks(1, 1 << 20)
    next(chunks)
    segment.release()
    segment.release()

    for call in (segment.remove, lambda: segment.cut(0), lambda: next(segment.chunks(1, 1))):
        with pytest.raises(ValueError, match="released"):
            call()
    assert read_back(folder).events == events(2)


def test_a_line_longer_than_any_frame_is_set_aside_in_pieces(
    folder: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what looks like a record at the start of a piece is none."""
    bait = encode_records([b'"bait"'])[:-1]
    long = bait * 40
    monkeypatch.setattr(segment_module, "MOST_LINE_BYTES", 3 * len(bait))
    writer.append(events(2))
    writer.close()
    [file] = folder.iterdir()
    file.write_bytes(b"x" + long[1:] + b"\n" + file.read_bytes())
    found = read_back(folder)

    assert found.events == events(2)
    assert b"".join(damaged.raw for _, damaged in found.damaged) == b"x" + long[1:]
    assert len(found.damaged) > 10


@pytest.mark.parametrize("suffix", ["-9.jsonl", ".jsonl.open"])
def test_long_records_that_a_rotted_newline_joined_come_apart(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Though together they are longer than what is read at once."""
    lines = [b'"%d%b"' % (number, b"x" * 60) for number in range(9)]
    monkeypatch.setattr(segment_module, "MOST_LINE_BYTES", 150)
    folder.mkdir(parents=True)
    data = encode_records(lines)
    (folder / f"20261121T132200.123Z-1a2b3c4d{suffix}").write_bytes(data.replace(b"\n", b"?"))
    found = read_back(folder)

    assert (found.events, found.damaged, found.torn) == (lines, [], 0)


# --- Sealing ------------------------------------------------------------------------


def test_a_segment_is_sealed_when_it_is_full(folder: Path) -> None:
    """By the append that fills it: what is replayed and deleted is never much larger."""
    writer = SpoolWriter(folder, Limits(min_free_bytes=0, segment_bytes=100))
    writer.append(events(2))
    assert [file.is_open for file in writer.folder.segments()] == [True]
    writer.append(events(2))
    assert [file.is_open for file in writer.folder.segments()] == [False]


def test_a_segment_is_sealed_by_the_age_of_its_first_event(folder: Path) -> None:
    """`seal(older_than)`: later appends do not make it younger."""
    clock = [100.0]
    writer = SpoolWriter(folder, SMALL, clock=lambda: clock[0])
    writer.append(events(1))
    clock[0] += 59
    writer.append(events(1))
    writer.seal(older_than=60)
    assert [file.is_open for file in writer.folder.segments()] == [True]
    clock[0] += 1
    writer.seal(older_than=60)
    assert [file.is_open for file in writer.folder.segments()] == [False]

    writer.append(events(1))
    assert [file.is_open for file in writer.folder.segments()] == [False, True]
    writer.close()


def test_what_is_appended_after_close_begins_a_new_segment(
    folder: Path, writer: SpoolWriter
) -> None:
    """`close` seals, and the writer can still be used."""
    writer.append(events(1))
    writer.close()
    writer.close()
    writer.append(events(1, 1))
    writer.close()

    assert len(writer.folder.segments()) == 2
    assert read_back(folder).events == events(2)


def interrupted(folder: Path) -> tuple[SpoolWriter, TestDisk]:
    """Return a writer that was stopped by Ctrl-C in the middle of a write."""
    disk = TestDisk()
    writer = SpoolWriter(folder, SMALL, disk=disk)
    writer.append(events(2))
    disk.fails = lambda _number, kind: INTERRUPT if kind == "write" else None
    with pytest.raises(KeyboardInterrupt):
        writer.append([b'"interrupted, and quite long"'])
    disk.fails = lambda _number, _kind: None
    return writer, disk


def test_an_append_that_was_interrupted_spoils_no_later_one(folder: Path) -> None:
    """Ctrl-C in the middle of a write leaves half a line: nothing is appended to that."""
    writer, disk = interrupted(folder)
    writer.append(events(2, 2))
    writer.close()
    found = read_back(folder)

    assert disk.fired == ["write"]
    assert (found.events, found.damaged) == (events(4), [])
    assert found.torn > 0


def test_a_segment_that_was_interrupted_is_not_sealed_with_half_a_line(folder: Path) -> None:
    """A sealed segment has no torn end: this one is left as it is to whoever replays it."""
    writer, disk = interrupted(folder)
    writer.close()
    found = read_back(folder)

    assert disk.fired == ["write"]
    assert (found.events, found.damaged) == (events(2), [])
    assert [file.is_open for file in writer.folder.segments()] == [True]


def test_events_are_not_appended_to_a_file_that_somebody_has_deleted(
    folder: Path, writer: SpoolWriter
) -> None:
    """An operator empties the folder, or removes it: what comes next goes to a file with a name."""
    for remove_folder in (False, True):
        writer.append(events(1))
        for file in folder.iterdir():
            file.unlink()
        if remove_folder:
            folder.rmdir()
        writer.append(events(2))
        writer.close()
        assert read_back(folder).events == events(2)
        taken(folder).remove()


# --- Taking -------------------------------------------------------------------------


def test_what_is_being_written_cannot_be_taken(folder: Path, writer: SpoolWriter) -> None:
    """A live writer has locked it; sealed, it can be."""
    writer.append(events(1))
    [file] = writer.folder.segments()
    assert SpoolFolder(folder).take(file) is None
    writer.seal()
    taken(folder).release()


def test_a_segment_is_taken_by_one_reader_only(folder: Path, writer: SpoolWriter) -> None:
    """The second one gets None, until the first one releases it."""
    writer.append(events(1))
    writer.close()
    [file] = writer.folder.segments()
    first = SpoolFolder(folder).take(file)
    assert first is not None
    assert SpoolFolder(folder).take(file) is None
    first.release()
    taken(folder).release()


def test_many_readers_and_writers_share_a_folder_and_each_event_is_read_once(
    folder: Path,
) -> None:
    """Writers append and seal while readers take and remove: nothing is lost, nothing comes twice."""
    limits = Limits(min_free_bytes=0, segment_bytes=200)
    found: list[bytes] = []
    done = threading.Event()

    def write(start: int) -> None:
        writer = SpoolWriter(folder, limits)
        for event in events(100, start):
            writer.append([event])
        writer.close()

    def read() -> None:
        spool = SpoolFolder(folder)
        while True:
            last = done.is_set()
            for file in spool.segments():
                segment = spool.take(file)
                if segment is not None:
                    found.extend(lines_of(segment))
                    segment.remove()
            if last:
                return

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        writers = [pool.submit(write, start) for start in (0, 100, 200)]
        for future in writers:
            future.result()
        done.set()
        for future in readers:
            future.result()

    assert sorted(found) == sorted(events(300))
    assert list(folder.iterdir()) == []


def _remove(path: Path) -> None:
    path.unlink()


def _seal(path: Path) -> None:
    path.rename(path.with_name("20261121T132200.123Z-1a2b3c4d-1.jsonl"))


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(__file__)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("becomes", [_remove, _seal, _link, _folder, _fifo])
def test_what_changes_between_listing_and_taking_is_not_taken(
    folder: Path, writer: SpoolWriter, becomes: Callable[[Path], None]
) -> None:
    """Replayed by another one, sealed, or replaced by what is no file: None, and no error."""
    writer.append(events(1))
    writer.forget()
    [file] = writer.folder.segments()
    becomes(file.path)

    assert writer.folder.take(file) is None


def test_a_file_that_is_replaced_while_it_is_locked_is_not_taken(
    folder: Path, writer: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name leads to another file by then: what was locked is what nobody will remove."""
    writer.append(events(1))
    writer.close()
    [file] = writer.folder.segments()
    flock = fcntl.flock

    def replaced(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        data = file.path.read_bytes()
        file.path.unlink()
        file.path.write_bytes(data)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", replaced)
    assert writer.folder.take(file) is None
    assert read_back(folder).events == events(1)


def test_a_new_segment_that_a_reader_takes_for_a_dead_ones_is_left_to_it(folder: Path) -> None:
    """Between its making and its locking anybody may lock and remove it: another one is made."""
    held: list[Segment] = []
    thieves: list[Callable[[Segment], None]] = [Segment.remove, held.append, Segment.release]

    class Slow(Disk):
        def create(self, path: Path) -> int:
            """Make a file, and let a reader be faster."""
            descriptor = super().create(path)
            if thieves:
                segment = Segment.take(path, Disk())
                assert segment is not None
                thieves.pop(0)(segment)
            return descriptor

    writer = SpoolWriter(folder, SMALL, disk=Slow())
    writer.append(events(2))
    writer.close()
    for segment in held:
        segment.remove()

    assert thieves == []
    assert read_back(folder).events == events(2)


@pytest.mark.parametrize(
    "name",
    [
        "20261121T132200.123Z-1a2b3c4d-1000.jsonl.gz",
        "20261121T132200.123Z-1a2b3c4d.jsonl.tmp",
        "20261121T132200.123Z-1a2b3c4d.jsonl",
        "20261121T132200.123Z-1A2B3C4D-1.jsonl",
        "20269999T132200.123Z-1a2b3c4d-1.jsonl",
        "20261121T132261.123Z-1a2b3c4d-1.jsonl",
        "00001121T132200.123Z-1a2b3c4d-1.jsonl",
        "20261121T132200.123Z-1a2b3c4d-" + "9" * 100 + ".jsonl",
        "20261121T132200.123Z-1a2b3c4d--1.jsonl",
        "20261121T132200.123Z-1a2b3c4d-\u0661.jsonl",
        "\uff12\uff10\uff12\uff161121T132200.123Z-1a2b3c4d-1.jsonl",
        "20261121T132200.123Z-1a2b3c4d-1.jsonl\n",
        ".20261121T132200.123Z-1a2b3c4d-1.jsonl",
        os.fsdecode(b"20261121T132200.123Z-1a2b3c4d-1\xff.jsonl"),
        os.fsdecode(b"\xff\xfe"),
        "lost+found",
    ],
)
def test_a_file_with_another_name_is_none_of_ours(
    folder: Path, writer: SpoolWriter, name: str
) -> None:
    """It is neither read nor touched, and in nobody's way."""
    writer.append(events(1))
    writer.close()
    (folder / name).write_bytes(encode_records([b'"not ours"']))

    assert read_back(folder).events == events(1)
    assert (folder / name).exists()


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        os.mkfifo,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["folder", "fifo", "device", "nowhere"],
)
def test_what_is_no_file_is_none_of_ours(
    folder: Path, writer: SpoolWriter, make: Callable[[Path], None]
) -> None:
    """Whatever its name: a FIFO would hold its reader for ever, a link lead anywhere."""
    writer.append(events(1))
    writer.close()
    make(folder / "20261121T132200.123Z-1a2b3c4d-18.jsonl")
    make(folder / "20261121T132200.123Z-1a2b3c4d.jsonl.open")

    assert read_back(folder).events == events(1)


@pytest.mark.parametrize("suffix", ["-1.jsonl", ".jsonl.open"])
@given(data=st.binary(max_size=200))
def test_opening_never_fails_for_what_is_in_it(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    """Any bytes: set aside or torn, and none of them lost on the way."""
    folder = tmp_path_factory.mktemp("spool")
    (folder / f"20261121T132200.123Z-1a2b3c4d{suffix}").write_bytes(data)
    found = read_back(folder)

    assert found.events == []
    spoiled = b"".join(damaged.raw for _, damaged in found.damaged)
    if suffix == "-1.jsonl":
        assert spoiled == data.replace(b"\n", b"")
        assert found.torn == 0
    for _, damaged in found.damaged:
        assert data[damaged.offset :].startswith(damaged.raw)


# --- The end of a segment -----------------------------------------------------------


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("is_open", [False, True])
def test_cut_keeps_what_follows(
    folder: Path, writer: SpoolWriter, chunks: int, is_open: bool
) -> None:
    """As a sealed segment of the same time; of nothing, no segment is left."""
    writer.append(events(7))
    if is_open:
        writer.forget()
    else:
        writer.close()
    [before] = writer.folder.segments()
    with before.path.open("ab") as file:
        file.write(b'{"crc":"' if is_open else b"")
    segment = taken(folder)
    end = 0
    for _, chunk in zip(range(chunks), segment.chunks(2, 1 << 20), strict=False):
        end = chunk.end
    segment.cut(end)
    after = writer.folder.segments()
    left = events(7)[2 * chunks :]

    assert read_back(folder).events == left
    assert read_back(folder).damaged == []
    if left or is_open:
        assert [(file.began, file.named_events) for file in after] == [(before.began, len(left))][
            : len(after)
        ]
    assert len(list(folder.iterdir())) == len(after) == (1 if left else 0)


def test_cut_keeps_what_is_damaged(folder: Path, writer: SpoolWriter) -> None:
    """It is nowhere else yet. And the last event of an open one, though its newline has rotted."""
    writer.append(events(4))
    writer.forget()
    [file] = writer.folder.segments()
    file.path.write_bytes(file.path.read_bytes().replace(b'"n":1', b'"n":7')[:-1] + b"?")
    taken(folder).cut(0)
    found = read_back(folder)

    assert found.events == [events(4)[n] for n in (0, 2, 3)]
    assert [b'"n":7' in damaged.raw for _, damaged in found.damaged] == [True]
    assert [file.named_events for file in writer.folder.segments()] == [4]


def test_a_crash_while_cutting_loses_nothing(folder: Path, writer: SpoolWriter) -> None:
    """The rest has its name before the whole goes: both are there, and what is in both comes twice."""
    writer.append(events(5))
    writer.close()
    disk = TestDisk(lambda _number, kind: INTERRUPT if kind == "remove" else None)
    spool = SpoolFolder(folder, disk=disk)
    segment = spool.take(spool.segments()[0])
    assert segment is not None
    end = next(segment.chunks(2, 1 << 20)).end
    with pytest.raises(KeyboardInterrupt):
        segment.cut(end)
    segment.release()

    assert disk.fired == ["remove"]
    assert len(spool.segments()) == 2
    assert sorted(read_back(folder).events) == sorted(events(5) + events(3, 2))


def test_a_cut_that_fails_leaves_the_segment_and_nothing_else(
    folder: Path, writer: SpoolWriter
) -> None:
    """On a full disk the half of a copy would only take more room away."""
    writer.append(events(5))
    writer.close()
    disk = TestDisk(lambda _number, kind: 28 if kind == "write" else None)
    spool = SpoolFolder(folder, disk=disk)
    segment = spool.take(spool.segments()[0])
    assert segment is not None
    end = next(segment.chunks(2, 1 << 20)).end
    with pytest.raises(OSError, match="No space left"):
        segment.cut(end)
    segment.release()

    assert disk.fired == ["write"]
    assert len(list(folder.iterdir())) == 1
    assert read_back(folder).events == events(5)


def test_what_a_killed_cut_left_behind_is_removed_by_the_next_one(
    folder: Path, writer: SpoolWriter
) -> None:
    """Nobody reads it. What another process is making is locked, and stays; so does what is not ours."""
    writer.append(events(5))
    writer.close()
    ours, theirs, foreign = (
        folder / name
        for name in (
            "20261121T132200.123Z-1a2b3c4d.jsonl.tmp",
            "20261121T132200.123Z-5e6f7a8b.jsonl.tmp",
            "mine.jsonl.tmp",
        )
    )
    for path in (ours, theirs, foreign):
        path.write_bytes(b"{")
    segment = taken(folder)
    end = next(segment.chunks(2, 1 << 20)).end
    with theirs.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        segment.cut(end)

    assert (ours.exists(), theirs.exists(), foreign.exists()) == (False, True, True)
    assert read_back(folder).events == events(3, 2)


def test_a_segment_that_is_gone_already_is_removed_without_an_error(
    folder: Path, writer: SpoolWriter
) -> None:
    """An operator was faster; and what has its name by now is not removed in its place."""
    writer.append(events(1))
    writer.close()
    segment = taken(folder)
    segment.path.unlink()
    segment.path.write_bytes(encode_records(events(1, 9)))
    segment.remove()

    assert read_back(folder).events == events(1, 9)


# --- Processes ----------------------------------------------------------------------


WRITING = """
import sys
from pathlib import Path
from spoolway.spool import Limits, SpoolWriter

writer = SpoolWriter(Path(sys.argv[1]), Limits(segment_bytes=100_000, min_free_bytes=0))
for batch in range(1_000_000):
    writer.append([b'{"batch":%d,"n":%d,"x":"%b"}' % (batch, n, b"x" * 500) for n in range(20)])
    print(batch, flush=True)
"""

TAKING = """
import sys
from pathlib import Path
from spoolway.spool import SpoolFolder

spool = SpoolFolder(Path(sys.argv[1]))
for file in spool.segments():
    segment = spool.take(file)
    if segment is not None:
        for chunk in segment.chunks(100, 1 << 20):
            assert not chunk.damaged
            sys.stdout.buffer.writelines(line + b"\\n" for line in chunk.lines)
        segment.remove()
"""


def python(code: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """Start a process that runs the code."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE
    )


@pytest.mark.parametrize(
    "batches",
    [1, 37, *(pytest.param(n, marks=pytest.mark.chaos) for n in range(2, 62, 2))],
)
def test_what_a_killed_process_had_acknowledged_is_taken_over_by_another(
    folder: Path, batches: int
) -> None:
    """SIGKILL in the middle of appending: each batch that it printed is read back, whole."""
    writing = python(WRITING, folder)
    assert writing.stdout is not None
    seen = [writing.stdout.readline() for _ in range(batches)]
    [*_, last] = SpoolFolder(folder).segments()
    while_alive = SpoolFolder(folder).take(last) if last.is_open else None
    assert while_alive is None
    writing.kill()
    seen += writing.stdout.readlines()
    writing.stdout.close()
    assert writing.wait() == -signal.SIGKILL
    if seen[-1:] and not seen[-1].endswith(b"\n"):
        seen.pop()

    taking = python(TAKING, folder)
    output, _ = taking.communicate()
    assert taking.returncode == 0
    found = output.splitlines()
    per_batch = dict.fromkeys(map(int, seen), 0)
    for line in found:
        batch = int(line.partition(b'"batch":')[2].partition(b",")[0])
        per_batch[batch] = per_batch.get(batch, 0) + 1
    assert set(map(per_batch.__getitem__, map(int, seen))) == {20}
    assert len(set(found)) == len(found)
    assert list(folder.iterdir()) == []


FORKING = """
import os, sys
from pathlib import Path
from spoolway.spool import Limits, SpoolWriter

def say(line):
    os.write(1, line.encode() + b"\\n")  # at once: two processes share the pipe

writer = SpoolWriter(Path(sys.argv[1]), Limits(min_free_bytes=0))
writer.append([b'"parent"'])
forget = sys.argv[2] == "forget"
pid = os.fork()
if pid == 0:
    if forget:
        writer.forget()
        writer.append([b'"child"'])
    say(f"child {os.getpid()}")
    sys.stdin.read()
    os._exit(0)
say(f"parent {os.getpid()}")
if sys.argv[3] == "seal":
    writer.close()
    say("sealed")
os.waitpid(pid, 0)
"""


def _forked(folder: Path, *arguments: str) -> tuple["subprocess.Popen[bytes]", dict[bytes, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", FORKING, folder, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said: dict[bytes, int] = {}
    while len(said) < (3 if arguments[1] == "seal" else 2):
        name, _, number = process.stdout.readline().strip().partition(b" ")
        said[name] = int(number or 0)
    return process, said


def _end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.read()  # the child has it open until it ends
    process.stdout.close()
    process.wait()


def test_a_forked_child_that_forgets_keeps_nothing_locked(folder: Path) -> None:
    """The lock stays the parent's while it lives; when it is killed, the child does not hold it."""
    process, said = _forked(folder, "forget", "stay")
    try:
        spool = SpoolFolder(folder)
        assert [spool.take(file) for file in spool.segments()] == [None, None]
        os.kill(said[b"parent"], signal.SIGKILL)
        process.wait()
        found = [spool.take(file) for file in spool.segments()]
        texts = [lines_of(segment) for segment in found if segment is not None]
        assert texts == [[b'"parent"']]
        for segment in found:
            if segment is not None:
                segment.remove()
    finally:
        _end(process)
    assert read_back(folder).events == [b'"child"']


READING = """
import os, sys
from pathlib import Path
from spoolway.spool import SpoolFolder

spool = SpoolFolder(Path(sys.argv[1]))
segment = spool.take(spool.segments()[0])
pid = os.fork()
if pid == 0:
    segment.forget()
    segment.release()
    os._exit(0)
os.waitpid(pid, 0)
print("forgotten", flush=True)
sys.stdin.read()
segment.remove()
"""


def test_a_forked_child_that_forgets_a_segment_leaves_it_locked_by_its_parent(
    folder: Path, writer: SpoolWriter
) -> None:
    """The parent reads on, and nobody else has it."""
    writer.append(events(1))
    writer.close()
    [file] = writer.folder.segments()
    process = subprocess.Popen(
        [sys.executable, "-c", READING, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"forgotten\n"
        assert writer.folder.take(file) is None
    finally:
        _end(process)
    assert process.returncode == 0
    assert writer.folder.segments() == []


def test_a_parent_that_seals_has_unlocked_its_segment_for_forgetful_children_too(
    folder: Path,
) -> None:
    """A child that has a copy of its descriptor does not keep a sealed segment from being replayed."""
    process, _ = _forked(folder, "keep", "seal")
    try:
        assert read_back(folder).events == [b'"parent"']
    finally:
        _end(process)


def test_two_processes_never_get_the_same_segment(folder: Path) -> None:
    """Each of several that take what they can reads other events; together they read all."""
    writer = SpoolWriter(folder, Limits(min_free_bytes=0, segment_bytes=100))
    for event in events(200):
        writer.append([event])
    writer.close()
    processes = [python(TAKING, folder) for _ in range(3)]
    found = [line for p in processes for line in p.communicate()[0].splitlines()]

    assert [p.returncode for p in processes] == [0, 0, 0]
    assert sorted(found) == sorted(events(200))
