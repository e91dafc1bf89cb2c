"""Which dead letters a command is about: by folder, id and reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from spoolway.spool import DeadLetters
from spoolway.worker.cli.place import state_folder
from spoolway.worker.cli.shown import printable
from spoolway.worker.config import Settings, UsageError

Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason",
        help="Only these, any number of them: bad-frame, oversize, undecodable, not-uuid7, outside-window, refused, "
        "conflict, damaged, unreadable.",
        show_default=False,
    ),
]


def dead_letters(settings: Settings) -> DeadLetters:
    """Return those of the settings' state folder. Raises UsageError."""
    return DeadLetters(state_folder(settings) / "dead")


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the files into a UsageError."""
    try:
        yield
    except BrokenPipeError:
        raise  # of stdout: whoever read it has seen enough
    except OSError as error:
        where = error.filename or folder
        raise UsageError(
            f"{where} cannot be read or written: {error.strerror or error}; every dead letter is "
            "still there"
        ) from None


def digests_of(letters: DeadLetters, ids: list[str]) -> set[bytes]:
    """Return the digests of the letters with these ids. Raises UsageError."""
    wanted = {one.lower(): set[bytes]() for one in ids}
    for kept in letters.letters():
        name = kept.digest.hex()
        for beginning, found in wanted.items():
            if name.startswith(beginning):
                found.add(kept.digest)
    for beginning, found in wanted.items():
        if not found or not beginning:
            raise UsageError(
                f"there is no dead letter {printable(beginning)!r} in {letters.folder}: spoolway "
                "dead ls lists them"
            )
        if len(found) > 1:
            raise UsageError(
                f"{beginning!r} is the beginning of {len(found)} dead letters: give more of the id"
            )
    return set().union(*wanted.values())
