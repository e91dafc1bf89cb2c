"""`spoolway dead`: what could not be stored is looked at, brought back, or deleted for good."""

import base64
import os
import pty
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.schema import FrameEncoder, new_id
from spoolway.spool import DeadLetter, DeadLetters
from tests.commands import (
    SPOOLWAY,
    Ended,
    contents,
    ended,
    environment,
    refusal,
    requests,
    run,
    segments,
    spool,
    start,
)
from tests.servers import ValkeyServer, eventually
from tests.servers.ports import ReservedPort
from tests.workers import WorkerProcess, count, ending, ids, push, request_line, rows

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202etxt\r\nsecond line\x00"


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """A SQLite database, where the kind does not matter."""
    return f"sqlite:///{tmp_path / 'logs.db'}"


def dead(folder: Path, *arguments: str, database: str = "", **settings: str) -> Ended:
    """Run `spoolway dead` on a folder, in this process."""
    return run(
        "dead", *arguments, **{"SPOOLWAY_DIR": str(folder), "DATABASE_URL": database, **settings}
    )


def keep(folder: Path, *letters: DeadLetter, at: datetime | None = None) -> None:
    """Put letters into a state folder."""
    now = at or datetime.now(UTC)
    DeadLetters(folder / "dead", now=lambda: now).keep(letters)


def listed(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Return what `dead ls --json` lists."""
    found: list[dict[str, Any]] = dead(folder, "ls", "--json", *arguments).json["letters"]
    return found


def id_of(line: bytes) -> str:
    """Return an event's id."""
    return str(orjson.loads(line)["id"])


# --- Looking at them ----------------------------------------------------------


def test_none_is_said(folder: Path) -> None:
    """Nothing was refused."""
    folder.mkdir()
    assert dead(folder, "ls").out == f"no dead letters in {folder / 'dead'}\n"
    assert dead(folder, "ls", "--json").json == {"letters": [], "reasons": [], "total": 0}


def test_they_are_listed_with_what_is_known_and_counted(folder: Path) -> None:
    """Id, time, reason, SQLSTATE, size, message; then how many of each kind. Exit 0."""
    at = datetime(2026, 3, 1, 12, 30, 45, tzinfo=UTC)
    keep(
        folder,
        DeadLetter("refused", "no poison", b"{}", "1-0", "23514"),
        DeadLetter("refused", "no poison", b"[]", "1-1", "23514"),
        DeadLetter("undecodable", "not JSON", b"x" * 2_000, "1-2"),
        at=at,
    )
    done = dead(folder, "ls")
    letters = listed(folder)

    assert done.code == 0
    head, first, _, third, empty, *counts = done.out.splitlines()
    assert head.split() == ["id", "first", "seen", "reason", "sqlstate", "size", "message"]
    assert first.split() == [
        letters[0]["id"], "2026-03-01T12:30:45", "refused", "23514", "2", "B", "no", "poison",
    ]  # fmt: skip
    assert third.split()[2:] == ["undecodable", "2", "KB", "not", "JSON"]
    assert empty == ""
    assert [line.split() for line in counts] == [["2", "refused", "23514"], ["1", "undecodable"]]
    assert letters[2] == {
        "id": letters[2]["id"],
        "first_seen": at.isoformat(),
        "reason": "undecodable",
        "sqlstate": None,
        "message": "not JSON",
        "entry_id": "1-2",
        "bytes": 2_000,
    }
    assert [one["id"] for one in listed(folder, "--reason", "undecodable")] == [letters[2]["id"]]
    assert dead(folder, "ls", "--json").json["reasons"] == [
        {"reason": "refused", "sqlstate": "23514", "count": 2},
        {"reason": "undecodable", "sqlstate": None, "count": 1},
    ]


def test_show_prints_everything(folder: Path) -> None:
    """All that is known, and the raw bytes; by an id or its beginning."""
    raw = b'{"type":"request","id":"7"}'
    keep(folder, DeadLetter("not-uuid7", "id '7' is not a UUIDv7", raw, "17-3"))
    [letter] = listed(folder)

    done = dead(folder, "show", letter["id"][:6])

    assert done.code == 0
    for part in (letter["id"], "not-uuid7", "is not a UUIDv7", "17-3", ".jsonl", raw.decode()):
        assert part in done.out
    shown = dead(folder, "show", letter["id"], "--json").json
    assert shown["raw"] == raw.decode()
    assert letter.items() <= shown.items()


def test_show_raw_writes_the_bytes_alone(folder: Path) -> None:
    """To the byte, for jq or a hex dump: what is no text, too."""
    keep(folder, DeadLetter("bad-frame", "m", b"\xff\x00\n\x1b", fields={b"v": b"\xfe"}))
    [letter] = listed(folder)
    assert dead(folder, "show", letter["id"], "--raw").raw == b"\xff\x00\n\x1b"
    shown = dead(folder, "show", letter["id"], "--json").json
    assert base64.b64decode(shown["raw_base64"]) == b"\xff\x00\n\x1b"
    assert shown["fields"] == {"v_base64": base64.b64encode(b"\xfe").decode()}
    assert "--json" in refusal(dead(folder, "show", letter["id"], "--raw", "--json"))


def test_an_id_that_is_none_or_two_is_said(folder: Path) -> None:
    """Exit 2, with what to do."""
    keep(folder, *(DeadLetter("refused", "m", b"%d" % number) for number in range(40)))
    assert "spoolway dead ls" in refusal(dead(folder, "show", "zzz"))
    beginnings = [one["id"][0] for one in listed(folder)]
    twice = next(one for one in beginnings if beginnings.count(one) > 1)
    assert "give more of the id" in refusal(dead(folder, "show", twice))
    assert "no dead letter ''" in refusal(dead(folder, "replay", ""))


def test_hostile_content_is_shown_as_escapes(folder: Path) -> None:
    """Whoever sent it must not move the operator's cursor, title or reading direction."""
    letter = DeadLetter(HOSTILE, HOSTILE, HOSTILE.encode() + b"\xff", HOSTILE, HOSTILE)
    keep(folder, letter, DeadLetter("bad-frame", "m", b"\x9b31m", fields={b"\x1b[1m": b"\x1bc"}))
    hostile, frame = listed(folder)
    shown = [
        dead(folder, "ls").out,
        dead(folder, "show", hostile["id"]).out,
        dead(folder, "show", frame["id"]).out,
    ]
    for out in shown:
        assert all(char == "\n" or char.isprintable() for char in out), out
    assert "\\x1b[2J\\u202etxt\\x0d\\x0asecond line\\x00" in shown[0]
    assert "\\xff" in shown[1]
    assert hostile["message"] == HOSTILE, "JSON has it as it is"


def test_raw_bytes_do_not_go_to_a_terminal(folder: Path) -> None:
    """They may be commands to it: exit 2 says what to do instead."""
    keep(folder, DeadLetter("refused", "m", b"\x1b[2J"))
    [letter] = listed(folder)
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [SPOOLWAY, "dead", "show", letter["id"], "--raw"],
        env=environment(SPOOLWAY_DIR=str(folder)),
        stdout=theirs,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


def test_a_torn_line_is_listed_and_shown(folder: Path) -> None:
    """As unreadable, with its bytes."""
    keep(folder, DeadLetter("refused", "m", b"{}"))
    [path] = (folder / "dead").iterdir()
    with path.open("ab") as file:
        file.write(b'{"first_seen":"20')
    [torn] = listed(folder, "--reason", "unreadable")
    assert dead(folder, "show", torn["id"], "--raw").raw == b'{"first_seen":"20'
    assert "unreadable" in dead(folder, "ls").out


# --- Bringing them back -------------------------------------------------------


def test_what_goes_in_is_removed_and_the_rest_stays(database: str, folder: Path) -> None:
    """The installed command: a row each, exit 1 for what is left; again: nothing to do for them."""
    good = requests(3)
    keep(folder, *(DeadLetter("refused", "m", line) for line in good))
    keep(folder, DeadLetter("undecodable", "m", b"no event"))

    done = ended(start("dead", "replay", SPOOLWAY_DIR=str(folder), DATABASE_URL=database))
    assert done.code == 1, done
    assert done.out.splitlines()[0] == "3 inserted, 0 duplicate, 1 left"
    assert "spoolway dead ls" in done.out
    assert sorted(map(str, ids(database))) == sorted(map(id_of, good))
    assert [one["reason"] for one in listed(folder)] == ["undecodable"]

    keep(folder, DeadLetter("refused", "m", good[0]))
    again = dead(folder, "replay", "--reason", "refused", "--json", database=database)
    assert again.code == 0
    assert again.json == {
        "inserted": 0,
        "duplicate": 1,
        "left": 0,
        "unreadable": 0,
        "stopped": None,
    }


def test_none_to_replay_asks_no_database(folder: Path) -> None:
    """Also when none has the reason asked for."""
    keep(folder, DeadLetter("refused", "m", b"{}"))
    away = f"postgresql://me@127.0.0.1:{ReservedPort().number}/logs"
    done = dead(folder, "replay", "--reason", "conflict", database=away)
    assert (done.code, done.out) == (0, f"no dead letters to replay in {folder / 'dead'}\n")


def test_only_the_ids_that_were_given(folder: Path, sqlite: str) -> None:
    """By their beginnings; the others stay, and that is no exit 1."""
    keep(folder, *(DeadLetter("refused", "m", line) for line in requests(3)))
    first, _, third = listed(folder)
    done = dead(folder, "replay", first["id"], third["id"][:8], database=sqlite)
    assert (done.code, done.out) == (0, "2 inserted, 0 duplicate, 0 left\n")
    assert len(listed(folder)) == 1


def test_every_letter_of_many_files_is_tried(folder: Path, sqlite: str) -> None:
    """More than a batch, over days."""
    lines = requests(2_300)
    for day in range(3):
        at = datetime(2026, 3, 1 + day, tzinfo=UTC)
        keep(folder, *(DeadLetter("refused", "m", line) for line in lines[day::3]), at=at)
    done = dead(folder, "replay", "--json", database=sqlite)
    assert (done.code, done.json["inserted"], count(sqlite)) == (0, 2_300, 2_300)
    assert list((folder / "dead").iterdir()) == []


def test_a_constraint_that_is_dropped_lets_the_refused_in(
    newest_postgres_url: str, valkey: ValkeyServer, folder: Path
) -> None:
    """From the worker's refusal, with its SQLSTATE, over the mended table, to the row."""
    assert run("db", "upgrade", DATABASE_URL=newest_postgres_url).code == 0
    poison = "ALTER TABLE request_logs ADD CONSTRAINT poison CHECK (model_name <> 'poison')"
    rows(newest_postgres_url, poison)
    push(valkey, [*requests(50, model_name="good"), request_line(model_name="poison")])
    worker = WorkerProcess(newest_postgres_url, valkey.url, folder).start()
    with ending(worker):
        eventually(lambda: count(newest_postgres_url) == 50, timeout=30)
        eventually(lambda: list((folder / "dead").glob("*")), timeout=10)
        [letter] = eventually(lambda: listed(folder), timeout=10)
        assert (letter["reason"], letter["sqlstate"]) == ("refused", "23514")

        left = dead(folder, "replay", database=newest_postgres_url)
        assert (left.code, left.out.splitlines()[0]) == (1, "0 inserted, 0 duplicate, 1 left")
        rows(newest_postgres_url, "ALTER TABLE request_logs DROP CONSTRAINT poison")
        done = dead(folder, "replay", database=newest_postgres_url)
        assert (done.code, done.out) == (0, "1 inserted, 0 duplicate, 0 left\n")
        assert worker.terminate() == 0
    assert count(newest_postgres_url) == 51
    assert listed(folder) == []


def test_a_wider_window_lets_old_ids_in(folder: Path, sqlite: str) -> None:
    """outside-window: the settings decide anew."""
    then = datetime.now(UTC) - timedelta(days=800)
    spool(folder, [request_line(id=new_id(lambda: int(then.timestamp() * 1e9)))])
    settings = {"SPOOLWAY_DIR": str(folder), "DATABASE_URL": sqlite}
    run("replay", **settings)
    assert [one["reason"] for one in listed(folder)] == ["outside-window"]

    assert dead(folder, "replay", database=sqlite).code == 1
    done = dead(folder, "replay", database=sqlite, SPOOLWAY_ID_PAST_DAYS="1000")
    assert (done.code, count(sqlite)) == (0, 1)


def test_a_conflict_comes_in_when_the_first_one_is_gone(folder: Path, sqlite: str) -> None:
    """The same id with other content stays as long as the other row does."""
    first, second = requests(1, path="/a")[0], b""
    second = first.replace(b"/a", b"/b")
    spool(folder, [first, second])
    run("replay", SPOOLWAY_DIR=str(folder), DATABASE_URL=sqlite)
    assert [one["reason"] for one in listed(folder)] == ["conflict"]

    assert dead(folder, "replay", database=sqlite).code == 1
    rows(sqlite, "DELETE FROM request_logs")
    assert dead(folder, "replay", database=sqlite).code == 0
    assert rows(sqlite, "SELECT path FROM request_logs") == [("/b",)]


@pytest.mark.parametrize("reason", ["undecodable", "not-uuid7", "damaged"])
def test_what_a_newer_version_reads_comes_in(reason: str, folder: Path, sqlite: str) -> None:
    """The bytes are decoded anew, whatever was once said of them."""
    keep(folder, DeadLetter(reason, "of an older version", requests(1)[0]))
    assert dead(folder, "replay", database=sqlite).code == 0
    assert count(sqlite) == 1


def frame(lines: list[bytes], reason: str, codec: str = "zstd") -> DeadLetter:
    """Return a frame as a worker keeps one that it cannot read."""
    packed = FrameEncoder("zstd" if codec == "zstd" else "json").encode(lines, len(lines))
    fields = {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in packed.items()
    }
    return DeadLetter(reason, "of an older version", fields.pop(b"data"), "1-0", fields=fields)


@pytest.mark.parametrize("reason", ["bad-frame", "oversize"])
@pytest.mark.parametrize("codec", ["zstd", "json"])
def test_a_whole_frame_comes_in(reason: str, codec: str, folder: Path, sqlite: str) -> None:
    """Unpacked with the fields that were kept with it."""
    keep(folder, frame(requests(7), reason, codec))
    done = dead(folder, "replay", database=sqlite)
    assert (done.code, done.out) == (0, "7 inserted, 0 duplicate, 0 left\n")
    assert count(sqlite) == 7
    assert listed(folder) == []


def test_what_is_refused_of_a_frame_is_a_letter_of_its_own(folder: Path, sqlite: str) -> None:
    """No event is in the database and in a dead letter: the frame goes, its bad events stay."""
    keep(folder, frame([*requests(2), b"no event"], "bad-frame"))
    keep(folder, DeadLetter("bad-frame", "m", b"junk", fields={b"v": b"1", b"codec": b"zstd"}))
    done = dead(folder, "replay", database=sqlite)
    assert (done.code, done.out.splitlines()[0]) == (1, "2 inserted, 0 duplicate, 2 left")
    assert sorted(one["reason"] for one in listed(folder)) == ["bad-frame", "undecodable"]
    again = dead(folder, "replay", database=sqlite)
    assert again.out.splitlines()[0] == "0 inserted, 0 duplicate, 2 left"


def test_a_bad_one_does_not_keep_its_batch_out(folder: Path, sqlite: str) -> None:
    """Among a thousand, in any order."""
    letters = [DeadLetter("refused", "m", line) for line in requests(200)]
    letters[50] = letters[150] = DeadLetter("undecodable", "m", b"no")
    keep(folder, *letters)
    done = dead(folder, "replay", database=sqlite)
    assert done.out.splitlines()[0] == "198 inserted, 0 duplicate, 2 left"
    assert len(listed(folder)) == 2


def test_lines_that_are_no_letters_stay_and_are_said(folder: Path, sqlite: str) -> None:
    """Exit 1: somebody has to look."""
    keep(folder, DeadLetter("refused", "m", requests(1)[0]))
    [path] = (folder / "dead").iterdir()
    with path.open("ab") as file:
        file.write(b"torn")
    done = dead(folder, "replay", database=sqlite)
    assert done.code == 1
    assert done.out.splitlines() == [
        "1 inserted, 0 duplicate, 1 left",
        "lines that are no letters (unreadable): 1",
    ]
    assert path.read_bytes() == b"torn"


def test_two_at_once_share_the_letters(folder: Path, sqlite: str) -> None:
    """Each event is a row once, and each letter goes once."""
    assert run("db", "upgrade", DATABASE_URL=sqlite).code == 0
    lines = requests(200)
    keep(folder, *(DeadLetter("refused", "m", line) for line in lines))
    settings = {"SPOOLWAY_DIR": str(folder), "DATABASE_URL": sqlite, "SPOOLWAY_BATCH_EVENTS": "20"}
    both = [start("dead", "replay", "--json", **settings) for _ in range(2)]
    done = [ended(process) for process in both]
    assert [one.code for one in done] == [0, 0], done
    assert sum(one.json["inserted"] for one in done) == 200
    assert sorted(map(str, ids(sqlite))) == sorted(map(id_of, lines))
    assert listed(folder) == []


def test_a_database_that_is_away_changes_nothing(folder: Path) -> None:
    """Exit 1, and why."""
    keep(folder, DeadLetter("refused", "m", requests(1)[0]))
    before = contents(folder)
    away = f"postgresql://me@127.0.0.1:{ReservedPort().number}/logs"
    done = dead(folder, "replay", database=away)
    assert done.code == 1
    assert done.out.startswith("0 inserted, 0 duplicate, 1 left\nstopped: ")
    assert contents(folder) == before


def test_a_stop_in_the_middle_and_the_next_run(folder: Path, newest_postgres_url: str) -> None:
    """SIGKILL while letters go in: nothing is lost; what is a row and a letter is a duplicate."""
    assert run("db", "upgrade", DATABASE_URL=newest_postgres_url).code == 0
    lines = requests(3_000)
    keep(folder, *(DeadLetter("refused", "m", line) for line in lines))
    settings = {"DATABASE_URL": newest_postgres_url, "SPOOLWAY_BATCH_EVENTS": "20"}
    process = start("dead", "replay", SPOOLWAY_DIR=str(folder), **settings)
    eventually(lambda: count(newest_postgres_url) > 0, timeout=30, every=0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = count(newest_postgres_url)
    done = dead(folder, "replay", "--json", database=newest_postgres_url)
    assert 0 < before <= 3_000
    assert done.code == 0
    assert done.json["inserted"] == 3_000 - before
    assert sorted(map(str, ids(newest_postgres_url))) == sorted(map(id_of, lines))
    assert listed(folder) == []


# --- Deleting them ------------------------------------------------------------


def test_purge_asks_and_without_a_terminal_needs_yes(folder: Path) -> None:
    """Exit 2 says how many it is about; --yes does it."""
    keep(folder, *(DeadLetter("refused", "m", b"%d" % number) for number in range(3)))
    assert "deletes 3 dead letters" in refusal(dead(folder, "purge"))
    assert len(listed(folder)) == 3
    assert dead(folder, "purge", "--yes").out == "deleted 3 dead letters\n"
    assert dead(folder, "purge").out == "deleted 0 dead letters\n"


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1)])
def test_purge_does_what_is_answered(
    answer: str, left: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, by its owner's word."""
    keep(folder, DeadLetter("refused", "m", b"{}"))
    monkeypatch.setattr("spoolway.worker.cli.dead_back.is_terminal", lambda: True)
    done = run("dead", "purge", stdin=f"{answer}\n", SPOOLWAY_DIR=str(folder))
    assert done.code == (1 if left else 0)
    assert "This deletes 1 dead letter in " in done.out
    assert len(listed(folder)) == left


def test_purge_by_reason_and_by_day(folder: Path) -> None:
    """Both must hold; the day is not included."""
    for day in (1, 2, 3):
        at = datetime(2026, 3, day, tzinfo=UTC)
        keep(folder, DeadLetter("refused", "m", b"r"), DeadLetter("conflict", "m", b"c"), at=at)
    arguments = ["--reason", "refused", "--before", "2026-03-03", "--yes", "--json"]
    assert dead(folder, "purge", *arguments).json == {"purged": 2}
    left = [(one["first_seen"][:10], one["reason"]) for one in listed(folder)]
    assert left == [
        ("2026-03-01", "conflict"),
        ("2026-03-02", "conflict"),
        ("2026-03-03", "refused"),
        ("2026-03-03", "conflict"),
    ]
    assert dead(folder, "purge", "--before", "soon", "--yes").code == 2


def test_purge_leaves_what_is_no_letter_unless_it_is_named(folder: Path) -> None:
    """It may be half of an event that is nowhere else."""
    keep(folder, DeadLetter("refused", "m", b"{}"))
    [path] = (folder / "dead").iterdir()
    with path.open("ab") as file:
        file.write(b"torn")
    assert dead(folder, "purge", "--yes").out == "deleted 1 dead letter\n"
    assert path.read_bytes() == b"torn"
    assert dead(folder, "purge", "--yes", "--reason", "unreadable").code == 0
    assert not path.exists()


# --- Wrong use ----------------------------------------------------------------


@pytest.mark.parametrize("command", [["ls"], ["show", "1"], ["replay"], ["purge", "--yes"]])
def test_a_folder_that_is_not_there_is_a_mistake(command: list[str], folder: Path) -> None:
    """A misspelt --dir must not look as if there were no dead letters."""
    assert str(folder) in refusal(dead(folder, *command))


@pytest.mark.parametrize("command", [["ls"], ["replay"], ["purge", "--yes"]])
def test_a_folder_that_cannot_be_read_is_said(command: list[str], folder: Path) -> None:
    """Exit 2, one line, and that nothing is gone."""
    folder.mkdir()
    (folder / "dead").write_text("in the way")
    said = refusal(dead(folder, *command))
    assert "Not a directory" in said
    assert "still there" in said


def test_a_damaged_record_becomes_a_letter_that_stays(folder: Path, sqlite: str) -> None:
    """What its checksum does not vouch for is never taken for an event."""
    spool(folder, requests(2))
    [path] = segments(folder)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"success", b"SUCCESS", 1))
    run("replay", SPOOLWAY_DIR=str(folder), DATABASE_URL=sqlite)
    [letter] = listed(folder)
    assert letter["reason"] == "damaged"
    assert dead(folder, "replay", database=sqlite).code == 1
    assert count(sqlite) == 1
    assert (
        dead(folder, "show", letter["id"], "--raw").raw.rstrip(b"\n")
        == data.replace(b"success", b"SUCCESS", 1).splitlines()[0]
    )


def test_help_has_examples() -> None:
    """Of each subcommand."""
    for command in ("ls", "show", "replay", "purge"):
        done = run("dead", command, "--help")
        assert done.code == 0
        assert f"spoolway dead {command}" in done.out
