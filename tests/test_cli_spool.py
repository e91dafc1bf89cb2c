"""`spoolway spool`: what waits on the disk, and whether it is whole."""

import os
import shutil
from pathlib import Path

import pytest

from spoolway.spool import SpoolFolder, SpoolWriter
from tests.commands import Ended, contents, refusal, requests, run, segments, spool


def ask(folder: Path, *arguments: str) -> Ended:
    """Run `spoolway spool` on a folder, in this process."""
    return run("spool", *arguments, SPOOLWAY_DIR=str(folder))


def killed(folder: Path, number: int) -> Path:
    """Leave behind what a killed writer does: an open segment that nobody has locked."""
    alive = folder.with_name("alive")
    writer = SpoolWriter(alive / "spool")
    writer.append(requests(number))
    shutil.copytree(alive / "spool", folder / "spool", dirs_exist_ok=True)
    writer.close()
    return next(path for path in segments(folder) if path.name.endswith(".open"))


# --- ls -----------------------------------------------------------------------


def test_segments_are_listed_with_their_state(folder: Path) -> None:
    """Name, events, size, age, and whether it is sealed, left open by a kill, or in use."""
    spool(folder, requests(1_500), per_segment=1_000)
    opened = killed(folder, 7)
    writer = SpoolWriter(folder / "spool")
    writer.append(requests(3))

    done = ask(folder, "ls")
    listed = ask(folder, "ls", "--json").json

    assert done.code == 0
    head, *lines, total = done.out.splitlines()
    assert head.split() == ["segment", "events", "size", "age", "state"]
    assert [line.split()[0] for line in lines] == [path.name for path in segments(folder)]
    assert [line.split()[1] for line in lines] == ["1,000", "500", "7", "3"]
    assert [line.rpartition("  ")[2] for line in lines] == ["sealed", "sealed", "open", "in use"]
    assert total.startswith("4 segments, 1,510 events, ")
    assert total.endswith(f" in {folder / 'spool'}")
    assert listed["events"] == 1_510
    assert listed["bytes"] == sum(path.stat().st_size for path in segments(folder))
    assert listed["segments"][2]["name"] == opened.name
    assert all(0 <= one["age"] < 60 for one in listed["segments"])
    writer.close()


def test_looking_locks_nothing(folder: Path) -> None:
    """A replay at that moment finds every segment free."""
    spool(folder, requests(1))
    assert ask(folder, "ls").code == 0
    assert ask(folder, "verify").code == 0
    spooled = SpoolFolder(folder / "spool")
    [file] = spooled.segments()
    segment = spooled.take(file)
    assert segment is not None
    segment.release()


def test_an_empty_spool_has_no_segments(folder: Path) -> None:
    """Nothing waits: exit 0."""
    folder.mkdir()
    assert ask(folder, "ls").out == f"0 segments, 0 events, 0 B in {folder / 'spool'}\n"
    assert ask(folder, "ls", "--json").json == {"segments": [], "events": 0, "bytes": 0}
    assert ask(folder, "verify").out == "0 segments, 0 events: all whole\n"


# --- verify -------------------------------------------------------------------


def test_a_whole_spool_is_exit_0(folder: Path) -> None:
    """Every record of every segment was read."""
    spool(folder, requests(2_500), per_segment=1_000)
    before = contents(folder)
    done = ask(folder, "verify")
    assert (done.code, done.out) == (0, "3 segments, 2,500 events: all whole\n")
    assert contents(folder) == before
    assert ask(folder, "verify", "--json").json == {
        "segments": 3,
        "events": 2_500,
        "torn": [],
        "damaged": [],
        "unreadable": [],
    }


def test_damage_is_named_to_the_byte(folder: Path) -> None:
    """Segment, offset, reason, exit 1; the other records are counted, and nothing is changed."""
    spool(folder, requests(10), per_segment=5)
    path = segments(folder)[1]
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"success", b"SUCCESS")
    path.write_bytes(b"".join(lines))
    before = contents(folder)
    offset = len(lines[0]) + len(lines[1])

    done = ask(folder, "verify")
    found = ask(folder, "verify", "--json").json

    assert done.code == 1
    assert done.out.splitlines() == [
        f"damaged: {path.name}, byte {offset}: its checksum is wrong",
        "2 segments, 9 events: damage found",
    ]
    assert found["damaged"] == [
        {"segment": path.name, "offset": offset, "reason": "its checksum is wrong"}
    ]
    assert contents(folder) == before


def test_a_torn_end_of_an_open_segment_is_no_damage(folder: Path) -> None:
    """It is reported; exit 0."""
    folder.mkdir()
    path = killed(folder, 4)
    with path.open("ab") as file:
        file.write(b'{"crc":"12')

    done = ask(folder, "verify")

    assert done.code == 0
    assert done.out.splitlines() == [
        f"torn: {path.name}: 10 bytes at its end, no damage",
        "1 segment, 4 events: all whole",
    ]
    assert ask(folder, "verify", "--json").json["torn"] == [{"segment": path.name, "bytes": 10}]


def test_a_segment_that_is_being_written_is_verified_too(folder: Path) -> None:
    """Without its lock, and its writer goes on."""
    writer = SpoolWriter(folder / "spool")
    writer.append(requests(3))
    assert ask(folder, "verify").out == "1 segment, 3 events: all whole\n"
    writer.append(requests(2))
    assert ask(folder, "verify").out == "1 segment, 5 events: all whole\n"
    writer.close()


def test_a_disk_that_does_not_give_it_back_is_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO: exit 1, the segment and why; the others are verified."""
    spool(folder, requests(6), per_segment=3)
    bad = segments(folder)[0]
    opened = os.open

    def fails(path: object, *arguments: int) -> int:
        if path == bad:
            raise OSError(5, "Input/output error")
        return opened(path, *arguments)  # type: ignore[arg-type] # whatever os.open takes

    monkeypatch.setattr(os, "open", fails)
    done = ask(folder, "verify")
    found = ask(folder, "verify", "--json").json
    assert done.code == 1
    assert done.out.splitlines() == [
        f"unreadable: {bad.name}: Input/output error",
        "2 segments, 3 events: damage found",
    ]
    assert found["unreadable"] == [{"segment": bad.name, "reason": "Input/output error"}]


# --- Wrong use ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_a_mistake_is_one_line(command: str, folder: Path) -> None:
    """A folder that is not there, or no folder: exit 2; help has examples."""
    assert str(folder) in refusal(ask(folder, command))
    folder.mkdir()
    (folder / "spool").write_text("in the way")
    assert "Not a directory" in refusal(ask(folder, command))
    assert f"spoolway spool {command}" in run("spool", command, "--help").out
