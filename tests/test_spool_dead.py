"""Dead letters: on disk before anything is acknowledged, for their owner's eyes, line by line."""

import base64
import fcntl
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spoolway.spool import UNREADABLE, DeadLetter, DeadLetters, Disk, KeptLetter

NOW = datetime(2026, 3, 1, 23, 59, 59, 123456, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not there yet, in another one that is not there yet."""
    return tmp_path / "var" / "dead"


def letters_in(folder: Path, now: Callable[[], datetime] = lambda: NOW) -> DeadLetters:
    """Return the dead letters of a folder, with a clock of the test's own."""
    return DeadLetters(folder, now=now)


def keep(dead: DeadLetters, letters: Sequence[DeadLetter]) -> None:
    """Keep letters as the drain loop does."""
    dead.keep(letters)


def kept(folder: Path) -> list[dict[str, Any]]:
    """Read every line of every file."""
    files = sorted(folder.glob("*.jsonl"))
    return [orjson.loads(line) for file in files for line in file.read_bytes().splitlines()]


def raw_of(letter: dict[str, Any]) -> bytes:
    """Return the bytes that a letter is about."""
    if "raw" in letter:
        return bytes(letter["raw"].encode())
    return base64.b64decode(letter["raw_base64"])


def test_a_letter_is_one_line_with_all_that_is_known(folder: Path) -> None:
    """Reason, message, SQLSTATE, stream entry, time and the raw bytes: one JSON line each."""
    letters = [
        DeadLetter("refused", "no poison", b'{"a":1}', entry_id="1-0", sqlstate="23514"),
        DeadLetter("undecodable", 'two\nlines "quoted"', b"line\nbreak", entry_id="2-0"),
    ]
    keep(letters_in(folder), letters)

    assert [file.name for file in folder.iterdir()] == ["2026-03-01.jsonl"]
    assert kept(folder) == [
        {
            "first_seen": NOW.isoformat(),
            "reason": "refused",
            "sqlstate": "23514",
            "message": "no poison",
            "entry_id": "1-0",
            "raw": '{"a":1}',
        },
        {
            "first_seen": NOW.isoformat(),
            "reason": "undecodable",
            "sqlstate": None,
            "message": 'two\nlines "quoted"',
            "entry_id": "2-0",
            "raw": "line\nbreak",
        },
    ]


def test_no_letters_leave_no_file(folder: Path) -> None:
    """The folder is made when the first letter comes."""
    keep(letters_in(folder), [])

    assert not folder.exists()


def test_letters_are_appended_and_a_new_day_is_a_new_file(folder: Path) -> None:
    """What is there stays; files are named by the UTC day."""
    days = iter([NOW, NOW, datetime(2026, 3, 2, tzinfo=UTC)])
    dead = letters_in(folder, lambda: next(days))
    for raw in (b"a", b"b", b"c"):
        keep(dead, [DeadLetter("refused", "m", raw)])

    assert sorted(file.name for file in folder.iterdir()) == [
        "2026-03-01.jsonl",
        "2026-03-02.jsonl",
    ]
    assert [raw_of(letter) for letter in kept(folder)] == [b"a", b"b", b"c"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_can_read_them(folder: Path, umask: int) -> None:
    """Folder 0700 and files 0600, whatever the umask: they hold whole requests."""
    folder.parent.mkdir()
    before = os.umask(umask)
    try:
        keep(letters_in(folder), [DeadLetter("refused", "m", b"secret")])
    finally:
        os.umask(before)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raws=st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), max_size=5))
def test_any_bytes_come_back_to_the_byte(folder: Path, raws: list[bytes]) -> None:
    """UTF-8 as text for a person to read, anything else as base64; nothing breaks a line."""
    shutil.rmtree(folder, ignore_errors=True)
    keep(letters_in(folder), [DeadLetter("undecodable", "m", raw) for raw in raws])

    assert [raw_of(letter) for letter in kept(folder)] == raws


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\xed\xa0\x80", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_utf8_is_kept_as_base64(folder: Path, raw: bytes) -> None:
    """Half a character, a surrogate, a compressed frame."""
    keep(letters_in(folder), [DeadLetter("bad-frame", "m", raw)])

    [letter] = kept(folder)
    assert "raw" not in letter
    assert base64.b64decode(letter["raw_base64"]) == raw


def test_jq_reads_them(folder: Path) -> None:
    """`jq .raw` is how an operator looks at them."""
    if (jq := shutil.which("jq")) is None:
        pytest.skip("no jq here; the lines are parsed as JSON by the other tests")
    raws = ["grüße", "\u2028\x7f\0", '{"a":"\\u0000"}', "x" * 100_000]
    keep(letters_in(folder), [DeadLetter("refused", "m", raw.encode()) for raw in raws])

    done = subprocess.run(
        [jq, "-c", ".raw", folder / "2026-03-01.jsonl"], capture_output=True, check=True
    )
    assert [orjson.loads(line) for line in done.stdout.splitlines()] == raws


def test_many_writers_never_mix_their_lines(folder: Path) -> None:
    """Workers that share the folder append whole lines, large ones too."""
    writers = [letters_in(folder) for _ in range(8)]
    raws = [bytes([65 + n]) * 100_000 for n in range(8)]

    def work(writer: DeadLetters, raw: bytes) -> None:
        for _ in range(3):
            writer.keep([DeadLetter("refused", "m", raw), DeadLetter("refused", "n", raw)])

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(work, writers, raws))
    found = [raw_of(letter) for letter in kept(folder)]
    assert sorted(found) == sorted(raws * 6)


# --- On disk before it is acknowledged ----------------------------------------------


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was synced so far: the name, and how large it was then."""
    seen: list[tuple[str, int]] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append((path.name, path.stat().st_size if path.is_file() else 0))

    monkeypatch.setattr(os, "fsync", recorded)
    return seen


def test_the_file_and_its_name_are_synced_before_keep_returns(
    folder: Path, synced: list[tuple[str, int]]
) -> None:
    """A new file: its bytes, then the folder that names it. After that its bytes are enough."""
    dead = letters_in(folder)
    file = folder / "2026-03-01.jsonl"
    keep(dead, [DeadLetter("refused", "m", b"first")])
    assert (file.name, file.stat().st_size) in synced
    assert (folder.name, 0) in synced
    assert synced.index((file.name, file.stat().st_size)) < synced.index((folder.name, 0))

    del synced[:]
    keep(dead, [DeadLetter("refused", "m", b"second")])
    assert (file.name, file.stat().st_size) in synced


def test_a_name_is_synced_also_when_another_one_made_the_file(
    folder: Path, synced: list[tuple[str, int]]
) -> None:
    """Whoever made it, or put it in another's place, may have been killed before it synced that."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"first")])
    del synced[:]
    keep(dead, [DeadLetter("refused", "m", b"second")])
    assert (folder.name, 0) in synced


def test_a_sync_that_fails_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO: the letters may not be on disk, so their entries must not be acknowledged."""

    def fails(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="Input/output error"):
        keep(letters_in(folder), [DeadLetter("refused", "m", b"raw")])


def test_a_folder_that_cannot_be_written_is_raised(tmp_path: Path) -> None:
    """A file where the folder should be: nothing is kept, and that is said."""
    (tmp_path / "dead").write_text("in the way")

    with pytest.raises(OSError, match="dead"):
        keep(letters_in(tmp_path / "dead"), [DeadLetter("refused", "m", b"raw")])


def _full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let a disk take `room` bytes more, and then not even one."""
    write = os.write
    left = [room]

    def limited(descriptor: int, data: bytes) -> int:
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        taken = write(descriptor, data[: left[0]])
        left[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)


def test_a_disk_that_fills_up_is_raised_and_nothing_is_left_of_the_letter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half that was written is taken back: the letters are tried again, and are there once."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"before")])
    before = (folder / "2026-03-01.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        _full_after(patched, 100)
        with pytest.raises(OSError, match="No space left"):
            keep(dead, [DeadLetter("refused", "m", b"x" * 5_000)])
    assert (folder / "2026-03-01.jsonl").read_bytes() == before
    keep(dead, [DeadLetter("refused", "m", b"after")])

    assert _readable(folder) == [b"before", b"after"]


def test_a_line_torn_by_a_kill_spoils_no_other_line(folder: Path) -> None:
    """A worker killed in the middle of a write leaves half a line: the next one begins anew."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"before")])
    with (folder / "2026-03-01.jsonl").open("ab") as file:
        file.write(b'{"first_seen":"2026')
    keep(dead, [DeadLetter("refused", "m", b"after")])

    assert _readable(folder) == [b"before", b"after"]


def _readable(folder: Path) -> list[bytes]:
    """The raw bytes of every line that is JSON."""
    found = []
    for line in (folder / "2026-03-01.jsonl").read_bytes().splitlines():
        try:
            found.append(raw_of(orjson.loads(line)))
        except orjson.JSONDecodeError:
            continue
    return found


# --- Reading them ---------------------------------------------------------------------


LETTERS = st.builds(
    DeadLetter,
    reason=st.text(min_size=1, max_size=9),
    message=st.text(max_size=9),
    raw=st.binary(max_size=20) | st.text(max_size=9).map(str.encode),
    entry_id=st.text(max_size=9),
    sqlstate=st.none() | st.text(max_size=5),
    fields=st.dictionaries(
        st.sampled_from([b"v", b"codec", b"n", b"x"]), st.binary(max_size=9), max_size=3
    ),
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(letters=st.lists(LETTERS, max_size=4))
def test_letters_come_back_as_they_were_kept(folder: Path, letters: list[DeadLetter]) -> None:
    """Every field, to the byte, in their order, with the time they were first seen."""
    shutil.rmtree(folder, ignore_errors=True)
    keep(letters_in(folder), letters)

    found = list(letters_in(folder).letters())
    assert [one.letter for one in found] == letters
    assert {one.first_seen for one in found} <= {NOW.isoformat()}


def test_no_folder_has_no_letters(folder: Path) -> None:
    """Nothing was ever refused."""
    assert letters_in(folder).files() == []
    assert list(letters_in(folder).letters()) == []


def test_an_id_stays_the_same_as_long_as_the_letter_is_there(folder: Path) -> None:
    """It is a digest of the line: whatever comes and goes around it."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a"), DeadLetter("refused", "m", b"b")])
    first, second = dead.letters()
    dead.remove(first.file, {first.digest})
    keep(dead, [DeadLetter("refused", "m", b"c")])

    assert next(dead.letters()).id == second.id
    assert len(second.id) == 12
    assert int(second.id, 16) >= 0


HOSTILE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"7",
    b"\xff\xfe",
    b"\x1b[2J",
    b"{}",
    b'{"first_seen":"2026","reason":"refused"}',
    b'{"first_seen":1,"reason":"r","sqlstate":null,"message":"m","entry_id":"","raw":""}',
    b'{"first_seen":"","reason":"r","sqlstate":null,"message":"m","entry_id":"","raw_base64":"?"}',
    b'{"first_seen":"","reason":"r","sqlstate":null,"message":"m","entry_id":"","raw":"","fields":7}',
    b'{"first_seen":"","reason":[],"sqlstate":null,"message":"m","entry_id":"","raw":""}',
    b'{"first_seen":"2026-03-0',
]


def test_what_is_no_letter_is_listed_as_that_and_spoils_no_other(folder: Path) -> None:
    """A torn line, a damaged one, somebody's text: unreadable, with its bytes; never an exception."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"before")])
    with (folder / "2026-03-01.jsonl").open("ab") as file:
        file.write(b"\n".join(HOSTILE))
    keep(dead, [DeadLetter("refused", "m", b"after")])

    found = list(dead.letters())
    assert [one.reason for one in found] == ["refused", *[UNREADABLE] * len(HOSTILE), "refused"]
    assert [one.line for one in found[1:-1]] == HOSTILE


def test_what_is_appended_meanwhile_is_not_read(folder: Path) -> None:
    """Else whoever puts letters back while they read would never come to an end."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a"), DeadLetter("refused", "m", b"b")])
    seen = []
    for kept in dead.letters():
        seen.append(kept)
        keep(dead, [DeadLetter("refused", "again", kept.line)])
    assert len(seen) == 2
    assert len(list(dead.letters())) == 4


def test_what_is_no_file_of_letters_is_not_opened(folder: Path) -> None:
    """A folder, a link, a FIFO, a half-made copy: none of them is read, and none holds us up."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a")])
    (folder / "1.jsonl").mkdir()
    (folder / "2.jsonl").symlink_to(folder / "2026-03-01.jsonl")
    os.mkfifo(folder / "3.jsonl")
    (folder / ".2026-03-01.jsonl.00.tmp").write_bytes(b"half")
    assert len(list(dead.letters())) == 1


# --- Taking them out ------------------------------------------------------------------


def removed(dead: DeadLetters, *raws: bytes) -> int:
    """Take out the letters with these raw bytes."""
    number = 0
    for path in dead.files():
        meant = {
            one.digest for one in dead.letters_of(path) if one.letter and one.letter.raw in raws
        }
        number += dead.remove(path, meant)
    return number


def raws_in(dead: DeadLetters) -> list[bytes]:
    """The raw bytes of every letter."""
    return [one.letter.raw for one in dead.letters() if one.letter]


def test_the_others_stay_byte_by_byte(folder: Path) -> None:
    """Order, torn lines, mode: the file is the same without what was taken out."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", raw) for raw in (b"a", b"b", b"c")])
    path = folder / "2026-03-01.jsonl"
    with path.open("ab") as file:
        file.write(b"torn")
    lines = path.read_bytes().splitlines(keepends=True)

    assert removed(dead, b"b") == 1
    assert path.read_bytes() == b"".join([lines[0], lines[2], b"torn"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_the_last_letter_takes_its_file_along(folder: Path) -> None:
    """Nothing is left of a day on which all was mended."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a"), DeadLetter("refused", "m", b"a")])
    assert removed(dead, b"a") == 2
    assert list(folder.iterdir()) == []
    keep(dead, [DeadLetter("refused", "m", b"b")])
    assert raws_in(dead) == [b"b"]


def test_what_is_not_there_takes_nothing_along(folder: Path) -> None:
    """Another one was first; the file is as it was."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a")])
    before = (folder / "2026-03-01.jsonl").stat().st_ino
    assert dead.remove(folder / "2026-03-01.jsonl", {b"0" * 16}) == 0
    assert dead.remove(folder / "2026-03-02.jsonl", {b"0" * 16}) == 0
    assert (folder / "2026-03-01.jsonl").stat().st_ino == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_keeps_its_owner(folder: Path) -> None:
    """Root took a letter out: the worker whose file it is can still append to it."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", b"a"), DeadLetter("refused", "m", b"b")])
    path = folder / "2026-03-01.jsonl"
    os.chown(path, 12345, 12346)
    removed(dead, b"a")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_a_worker_that_appends_at_that_moment_loses_nothing(folder: Path) -> None:
    """Eight writers and two that take out: every letter is there, or was taken out."""
    writers, takers = 8, 2
    each = 20

    def write(number: int) -> None:
        dead = letters_in(folder)
        for turn in range(each):
            kind = b"take" if turn % 2 else b"stay"
            keep(dead, [DeadLetter("refused", "m", b"%b %d %d" % (kind, number, turn))])

    def take(_number: int) -> int:
        dead = letters_in(folder)
        taken = 0
        while not done:
            taken += sum(
                dead.remove(path, {one.digest for one in dead.letters_of(path) if _is_taken(one)})
                for path in dead.files()
            )
        return taken

    done: list[bool] = []
    with ThreadPoolExecutor(writers + takers) as pool:
        taking = [pool.submit(take, number) for number in range(takers)]
        list(pool.map(write, range(writers)))
        done.append(True)
        taken = sum(one.result() for one in taking)
    left = raws_in(letters_in(folder))
    staying = [raw for raw in left if raw.startswith(b"stay")]
    assert len(set(staying)) == len(staying) == writers * each // 2
    assert taken + len(left) == writers * each
    assert taken > 0
    assert not list(folder.glob(".*"))


def _is_taken(kept: KeptLetter) -> bool:
    return kept.letter is not None and kept.letter.raw.startswith(b"take")


class _Crash(BaseException):
    """The process ends here: nothing catches it."""


class _CrashingDisk(Disk):
    """Ends the process at the nth call that changes the disk; counts them."""

    def __init__(self, last: int = 1_000) -> None:
        self.calls = 0
        self._last = last

    def _step(self) -> None:
        self.calls += 1
        if self.calls > self._last:
            raise _Crash

    def create(self, path: Path) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._step()
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        self._step()
        super().rename(path, target)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


@pytest.mark.parametrize("all_of_them", [False, True], ids=["some", "all"])
def test_a_crash_at_any_step_loses_nothing(folder: Path, all_of_them: bool) -> None:
    """The file is the old one or the new one; the next removal sweeps up what was half made."""
    raws = [b"a"] if all_of_them else [b"a", b"b"]
    steps = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        keep(letters_in(folder), [DeadLetter("refused", "m", raw) for raw in raws])
        disk = _CrashingDisk(last=steps)
        try:
            removed(DeadLetters(folder, disk=disk), b"a")
        except _Crash:
            assert raws_in(letters_in(folder)) in (raws, raws[1:])
            removed(letters_in(folder), b"a")
            steps += 1
        else:
            break
        finally:
            assert raws_in(letters_in(folder)) == raws[1:]
            keep(letters_in(folder), [DeadLetter("refused", "m", b"c")])
            removed(letters_in(folder), b"c")
            assert not list(folder.glob(".*")), "what a crash left behind is swept up"
    assert steps >= 3


class _Watching(Disk):
    """Notes what is locked when the folder is synced."""

    def __init__(self) -> None:
        self.locked: list[bool] = []

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        for file in path.glob("*.jsonl"):
            with file.open("rb") as opened:
                try:
                    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self.locked.append(True)
                else:
                    self.locked.append(False)


def test_nobody_appends_to_a_file_whose_name_is_not_synced_yet(folder: Path) -> None:
    """What was appended to it would go with its name if the power went."""
    keep(letters_in(folder), [DeadLetter("refused", "m", raw) for raw in (b"a", b"b")])
    disk = _Watching()
    removed(DeadLetters(folder, disk=disk), b"a")
    assert disk.locked == [True]


def test_a_copy_that_cannot_be_written_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the letters are all there, and nothing is left of the copy."""
    dead = letters_in(folder)
    keep(dead, [DeadLetter("refused", "m", raw * 3_000) for raw in (b"a", b"b")])
    before = (folder / "2026-03-01.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        _full_after(patched, 100)
        with pytest.raises(OSError, match="No space left"):
            removed(dead, b"a" * 3_000)
    assert (folder / "2026-03-01.jsonl").read_bytes() == before
    assert [file.name for file in folder.iterdir()] == ["2026-03-01.jsonl"]
