"""`spoolway clean`: what was chosen, and nothing that somebody uses; never the database."""

import fcntl
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from spoolway.spool import DeadLetter, DeadLetters, Limits, SpoolFolder, SpoolWriter
from tests.commands import contents, refusal, requests, run, segments, spool

TODAY = datetime.now(UTC).date()


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A state folder with two segments, dead letters and an archive of two days, and a database."""
    spool(tmp_path, requests(150))
    for day in (TODAY - timedelta(days=9), TODAY):
        DeadLetters(tmp_path / "dead", now=partial(at_start_of, day)).keep(
            [DeadLetter("undecodable", "no JSON", b"raw")]
        )
        archive_of(tmp_path, day).parent.mkdir(exist_ok=True)
        archive_of(tmp_path, day).write_bytes(b"zstd")
    (tmp_path / "archive" / "notes.txt").write_text("the operator's")
    (tmp_path / "spoolway.db").write_bytes(b"a database")
    return tmp_path


def at_start_of(day: date) -> datetime:
    """When a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def archive_of(folder: Path, day: date) -> Path:
    """The archive's file of a day."""
    return folder / "archive" / f"{day:%Y-%m-%d}.jsonl.zst"


def names(folder: Path) -> set[str]:
    """Which kinds of file are left."""
    return {Path(name).parts[0] for name in contents(folder)}


def test_each_kind_must_be_chosen(filled: Path) -> None:
    """Nothing chosen is wrong use; what is chosen goes, counted, and all else stays."""
    assert "--spool" in refusal(run("clean", "--yes", SPOOLWAY_DIR=str(filled)))

    size = sum(path.stat().st_size for path in segments(filled))
    done = run("clean", "--spool", "--yes", "--json", SPOOLWAY_DIR=str(filled))
    assert done.code == 0, done.err
    assert done.json == {
        "dry_run": False,
        "spool": {"files": 2, "events": 150, "bytes": size, "in_use": 0},
    }
    assert names(filled) == {"archive", "dead", "spoolway.db"}

    done = run("clean", "--dead", "--archive", "--yes", SPOOLWAY_DIR=str(filled))
    assert done.code == 0
    assert "2 dead letters" in done.out
    assert set(contents(filled)) == {"archive/notes.txt", "spoolway.db"}


def test_older_than_goes_by_utc_days(filled: Path) -> None:
    """Files of the days before go; those of the last days, today's among them, stay."""
    chosen = ("--spool", "--dead", "--archive", "--older-than", "7", "--yes", "--json")
    done = run("clean", *chosen, SPOOLWAY_DIR=str(filled)).json
    assert [done[kind]["files"] for kind in ("spool", "dead", "archive")] == [0, 1, 1]
    assert archive_of(filled, TODAY).exists()
    assert len(DeadLetters(filled / "dead").files()) == 1
    assert len(segments(filled)) == 2


def test_dry_run_and_an_unanswered_question_change_nothing(filled: Path) -> None:
    """It says what would be lost, and what to do instead; without a terminal it needs --yes."""
    before = contents(filled)
    chosen = ("clean", "--spool", "--dead", "--archive")
    done = run(*chosen, "--dry-run", SPOOLWAY_DIR=str(filled))
    assert done.code == 0
    assert "would delete 2 files of the spool" in done.out
    said = refusal(run(*chosen, SPOOLWAY_DIR=str(filled)))
    for word in ("150 events", "not in the database", "spoolway replay", "--yes"):
        assert word in said
    assert contents(filled) == before


def test_what_is_open_or_locked_or_has_grown_stays(filled: Path) -> None:
    """A writer's segment, a replay's, and a file of letters that is written just now; exit code 1."""
    writer = SpoolWriter(filled / "spool", Limits())
    writer.append(requests(3))
    folder = SpoolFolder(filled / "spool")
    taken = folder.take(folder.segments()[0])
    assert taken is not None
    chosen = ("clean", "--spool", "--dead", "--archive", "--yes", "--json")
    with archive_of(filled, TODAY).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = run(*chosen, SPOOLWAY_DIR=str(filled))
    assert done.code == 1
    assert done.json["spool"] == {**done.json["spool"], "files": 1, "events": 50, "in_use": 2}
    assert done.json["archive"]["in_use"] == 1
    assert len(segments(filled)) == 2
    taken.release()
    writer.append(requests(1))  # it was not taken from under it
    writer.close()
    assert run(*chosen, SPOOLWAY_DIR=str(filled)).json["spool"]["events"] == 104


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    """A misspelt folder must not look like one that is clean."""
    assert "nowhere" in refusal(run("clean", "--spool", SPOOLWAY_DIR=str(tmp_path / "nowhere")))
