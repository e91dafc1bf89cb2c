"""Power cuts: whatever the disk had not been told to keep may be gone, and nothing else is.

Every operation of a workload is recorded, and every state in which a cut may leave the disk is made
in a folder and opened.
"""

import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spoolway.spool import Disk, Limits, NotSpooled, SpoolFolder, SpoolWriter
from tests.disks import (
    INTERRUPT,
    Cut,
    Fault,
    Found,
    Op,
    TestDisk,
    from_call,
    only,
    power_cuts,
    read_back,
)

NOW = datetime(2026, 11, 21, 13, 22, tzinfo=UTC)


@dataclass
class Work:
    """A writer and a reader at work on a disk that remembers, and what they promise."""

    folder: Path
    disk: TestDisk = field(default_factory=TestDisk)
    segment_bytes: int = 1 << 20
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        limits = Limits(segment_bytes=self.segment_bytes, min_free_bytes=0)
        self.writer = SpoolWriter(
            self.folder, limits, disk=self.disk, now=lambda: NOW, clock=lambda: 0.0
        )
        self.reader = SpoolFolder(self.folder, disk=self.disk)

    def append(self, count: int = 1) -> bool:
        """Append so many new events; tell whether they were taken."""
        events = [event(next(self.numbers)) for _ in range(count)]
        self.disk.mark("tried", events)
        try:
            self.writer.append(events)
        except NotSpooled:
            return False
        self.disk.mark("kept", events)
        return True

    def seal(self) -> None:
        """Seal the segment that is open."""
        self.writer.seal()

    def replay(self) -> None:
        """Read the oldest segment that can be had, and remove it."""
        self._replay(lambda _count: True)

    def cut(self) -> None:
        """Read the first chunk of the oldest segment that can be had, and keep the rest of it."""
        self._replay(lambda count: count < 1)

    def _replay(self, goes_on: Callable[[int], bool]) -> None:
        for file in self.reader.segments():
            segment = self.reader.take(file)
            if segment is None:
                continue
            end = 0
            for count, chunk in enumerate(segment.chunks(1, 1 << 20)):
                if not goes_on(count):
                    break
                self.disk.mark("replayed", chunk.lines)
                end = chunk.end
            try:
                if goes_on(1):
                    segment.remove()
                else:
                    segment.cut(end)
            except OSError:
                pass
            finally:
                segment.release()
            return


def event(number: int) -> bytes:
    """Return an event with a client's text in it that looks like one of our records."""
    bait = b'{"bait":%d}' % number
    return b'{"n":%d,"body":{"crc":"%08x","event":%b}}' % (number, crc32(bait), bait)


def check(folder: Path, cut: Cut) -> Found:
    """Make the disk that the power cut left, open it, and compare it with what was promised."""
    for file in folder.iterdir():
        file.unlink()
    for name, content in cut.files.items():
        (folder / name).write_bytes(content)
    found = read_back(folder)

    assert cut.kept - set(found.events) == set(), cut.files
    assert set(found.events) <= cut.tried, cut.files
    for name, damaged in found.damaged:
        # What nobody was told had succeeded: a disk that keeps its end, and not its beginning.
        assert name.endswith(".open"), (damaged, cut.files)
        assert damaged.offset + len(damaged.raw) > cut.synced[name], (damaged, cut.files)
    return found


def check_all(work: Work, folder: Path, most: int = 4_000) -> int:
    """Check every state that a cut may leave, and return how many they are."""
    folder.mkdir(exist_ok=True)
    count = 0
    for cut in power_cuts(work.disk.log, work.folder.name, in_order=True):
        found = check(folder, cut)
        assert found.damaged == [], cut.files
        count += 1
    for cut in power_cuts(work.disk.log, work.folder.name, most=most):
        check(folder, cut)
        count += 1
    return count


def _appends(work: Work) -> None:
    for count in (1, 2, 1):
        work.append(count)


def _seals(work: Work) -> None:
    work.append(2)
    work.seal()
    work.append(1)
    work.seal()
    work.seal()


def _replays(work: Work) -> None:
    work.append(2)
    work.seal()
    work.append(1)
    work.replay()
    work.append(1)
    work.seal()
    work.replay()


def _cuts(work: Work) -> None:
    work.append(3)
    work.seal()
    work.cut()
    work.append(1)
    work.cut()
    work.cut()


def _takes_over(work: Work) -> None:
    work.append(2)
    work.writer.forget()  # as the kernel does when the process is killed
    work.cut()
    work.append(1)


WORKLOADS: dict[str, Callable[[Work], None]] = {
    "appends": _appends,
    "seals": _seals,
    "replays": _replays,
    "cuts": _cuts,
    "takes over": _takes_over,
}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_was_acknowledged_survives_a_power_cut_at_any_time(
    tmp_path: Path, workload: str
) -> None:
    """Each event of an append that returned is read back, once it is synced and until it is gone.

    Nothing is read that was never written; a file has at most a torn end, and never in a sealed
    one.
    """
    work = Work(tmp_path / "spool")
    WORKLOADS[workload](work)

    assert check_all(work, tmp_path / "after") > 10


def test_rotation_survives_a_power_cut_at_any_time(tmp_path: Path) -> None:
    """A segment that is full is sealed in the append that fills it, and the next one is begun."""
    work = Work(tmp_path / "spool", segment_bytes=150)
    for count in (1, 1, 2, 1):
        assert work.append(count)

    assert len(work.reader.segments()) > 2
    assert check_all(work, tmp_path / "after") > 10


def test_an_unsynced_record_may_be_lost(tmp_path: Path) -> None:
    """The states are not all harmless: without its fsync an append does lose events."""

    class Careless(TestDisk):
        def sync(self, descriptor: int) -> None:
            """Do nothing."""

    work = Work(tmp_path / "spool", Careless())
    work.append(2)

    with pytest.raises(AssertionError):
        check_all(work, tmp_path / "after")


def test_an_unsynced_name_may_be_lost(tmp_path: Path) -> None:
    """Nor without the fsync of the folder: the bytes are there, and no name leads to them."""

    class Careless(TestDisk):
        def sync_folder(self, path: Path) -> None:
            """Do nothing."""

    work = Work(tmp_path / "spool", Careless())
    work.append(2)

    with pytest.raises(AssertionError):
        check_all(work, tmp_path / "after")


def test_a_folder_that_is_made_survives_a_power_cut_with_all_above_it(tmp_path: Path) -> None:
    """Each new folder's name is synced in the one above, before a segment is acknowledged in it."""
    synced: list[Path] = []

    class Noting(Disk):
        def sync_folder(self, path: Path) -> None:
            """Note what is synced, and what was there by then."""
            super().sync_folder(path)
            synced.append(path)

    folder = tmp_path / "var" / "lib" / "spool"
    SpoolWriter(folder, Limits(min_free_bytes=0), disk=Noting()).append([b"{}"])

    assert synced[:3] == [tmp_path, tmp_path / "var", tmp_path / "var" / "lib"]
    assert folder in synced


def test_a_folder_that_another_process_has_just_made_is_synced_by_this_one_too(
    tmp_path: Path,
) -> None:
    """It may not have come to that when this one acknowledges, and the power is cut."""
    work = Work(tmp_path / "spool")
    work.append()
    synced = [op.name for op in work.disk.log if isinstance(op, Op) and op.kind == "sync_folder"]

    assert tmp_path.name in synced


def test_what_a_full_disk_took_is_cut_for_good_before_the_segment_is_sealed(tmp_path: Path) -> None:
    """Else the power cut brings the torn half back, in a file that is said to have no torn end."""
    disk = TestDisk()
    work = Work(tmp_path / "spool", disk)
    work.append(2)
    disk.fails = lambda _number, kind: errno.ENOSPC if kind == "write" else None
    assert not work.append(2)
    disk.fails = lambda _number, _kind: None
    work.seal()
    assert work.append(1)

    assert disk.fired == ["write"]
    assert check_all(work, tmp_path / "after") > 10


@pytest.mark.parametrize("failures", [1, 2, 3, 4])
def test_a_segment_whose_fsync_failed_is_written_anew_before_it_goes(
    tmp_path: Path, failures: int
) -> None:
    """After EIO nothing that was written since the last good fsync is on disk, whatever comes next."""
    disk = TestDisk()
    work = Work(tmp_path / "spool", disk)
    work.append(2)
    left = [failures]

    def fails(_number: int, kind: str) -> int | None:
        if kind != "sync" or not left[0]:
            return None
        left[0] -= 1
        return errno.EIO

    disk.fails = fails
    assert work.append(1) == (failures == 1)
    assert work.append(1) == (failures != 4)
    assert work.append(1)

    assert disk.fired == ["sync"] * failures
    assert check_all(work, tmp_path / "after", most=40_000) > 10


def _everything(work: Work) -> None:
    work.append(1)
    work.append(2)
    work.seal()
    work.append(1)
    work.cut()
    work.seal()
    work.replay()
    work.append(1)


def _assert_promise_holds(work: Work, folder: Path) -> None:
    """What was kept is there now, and the next append and what it finds are as ever."""
    kept: set[bytes] = set()
    for entry in work.disk.log:
        if isinstance(entry, Op):
            continue
        if entry.kind == "kept":
            kept |= set(entry.events)
        elif entry.kind == "replayed":
            kept -= set(entry.events)
    work.disk.fails = lambda _number, _kind: None
    again = event(next(work.numbers))
    work.writer.append([again])
    work.writer.close()
    found = read_back(folder)

    assert kept | {again} <= set(found.events)
    assert found.damaged == []
    if not {"create", "remove"} & set(work.disk.fired):
        assert [file.path.name for file in work.reader.segments() if file.size == 0] == []


CODES = [errno.EIO, errno.ENOSPC, errno.EFBIG]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("fails", [only, from_call], ids=["once", "for good"])
def test_the_promise_holds_whichever_call_to_the_disk_fails(
    tmp_path: Path,
    fault: Fault,
    code: int,
    fails: Callable[..., Callable[[int, str], int | None]],
) -> None:
    """The kth call fails, for every k, before or after it did its work.

    An append returns and its events are there, or it raises NotSpooled; and when the disk works
    again, so does the spool.
    """
    for k in itertools.count(1):
        disk = TestDisk(fails(k, code=code), fault)
        folder = tmp_path / f"spool-{k}"
        _everything(work := Work(folder, disk))
        if not disk.fired:
            assert k > 20
            return
        _assert_promise_holds(work, folder)


@pytest.mark.parametrize("fault", Fault)
def test_the_promise_holds_wherever_it_is_interrupted(tmp_path: Path, fault: Fault) -> None:
    """Ctrl-C at the kth call, for every k: what was acknowledged stays, and nothing spoils it."""
    for k in itertools.count(1):
        disk = TestDisk(only(k, code=INTERRUPT), fault)
        folder = tmp_path / f"spool-{k}"
        work = Work(folder, disk)
        with suppress(KeyboardInterrupt):
            _everything(work)
        if not disk.fired:
            assert k > 20
            return
        _assert_promise_holds(work, folder)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.__getitem__)
def test_a_power_cut_after_a_failure_loses_nothing_either(tmp_path: Path, code: int) -> None:
    """The kth call fails, for every k, and then the power is cut, at any later time."""
    for k in itertools.count(1):
        disk = TestDisk(only(k, code=code))
        work = Work(tmp_path / f"spool-{k}", disk)
        for step in (work.append, work.append, work.seal, work.append):
            step()
        if not disk.fired:
            assert k > 10
            return
        check_all(work, tmp_path / "after", most=40_000)


STEPS = st.sampled_from(["append", "append", "append two", "seal", "replay", "cut", "die"])


def _run(work: Work, steps: Sequence[str]) -> None:
    for step in steps:
        if step == "append two":
            work.append(2)
        elif step == "die":
            work.writer.forget()
        else:
            getattr(work, step)()


def _check_any(folder: Path, steps: list[str], failing: int | None, code: int, size: int) -> None:
    disk = TestDisk(only(failing, code=code) if failing else lambda _number, _kind: None)
    work = Work(folder / "spool", disk, size)
    _run(work, steps)

    check_all(work, folder / "after", most=200_000)


def any_workload(most_steps: int) -> st.SearchStrategy[tuple[list[str], int | None, int, int]]:
    """Return what writers and readers do, which call fails and how, and how large a segment is."""
    return st.tuples(
        st.lists(STEPS, min_size=3, max_size=most_steps),
        st.none() | st.integers(1, 5 * most_steps),
        st.sampled_from(CODES),
        st.sampled_from([150, 1 << 20]),
    )


@settings(max_examples=60, deadline=None)
@given(workload=any_workload(6))
def test_any_workload_survives_any_failure_and_a_power_cut_at_any_time(
    tmp_path_factory: pytest.TempPathFactory, workload: tuple[list[str], int | None, int, int]
) -> None:
    """Whatever writers and readers do, whichever call fails: what was acknowledged is there."""
    _check_any(tmp_path_factory.mktemp("any"), *workload)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@settings(max_examples=1_500, deadline=None)
@given(workload=any_workload(12))
def test_many_and_long_workloads_survive_any_failure_and_a_power_cut_at_any_time(
    tmp_path_factory: pytest.TempPathFactory, workload: tuple[list[str], int | None, int, int]
) -> None:
    """The same, for minutes."""
    _check_any(tmp_path_factory.mktemp("any"), *workload)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.__getitem__)
def test_everything_survives_a_power_cut_after_two_failures(
    tmp_path: Path, fault: Fault, code: int
) -> None:
    """Any two calls fail, and then the power is cut, at any later time."""
    calls = TestDisk()
    _everything(Work(tmp_path / "spool", calls))
    fired = 0
    for first, second in itertools.combinations(range(1, calls.calls + 1), 2):
        disk = TestDisk(only(first, second, code=code), fault)
        work = Work(tmp_path / f"spool-{first}-{second}", disk)
        _everything(work)
        check_all(work, tmp_path / "after", most=200_000)
        fired += len(disk.fired) == 2

    assert fired > 100
