"""Dead letters: on disk before anything is acknowledged, for their owner's eyes, line by line."""

import base64
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

from spoolway.spool import DeadLetter, DeadLetters

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
