"""The state folder that a command is about: a worker's or a proxy's."""

import os
from pathlib import Path

from spoolway.worker.config import Settings, UsageError


def state_folder(settings: Settings) -> Path:
    """Return the folder. Raises UsageError: a misspelt one must not look like an empty spool."""
    if not settings.dir.is_dir():
        raise UsageError(
            f"there is no folder {settings.dir.absolute()}: give the state folder of a worker or of "
            "a proxy with --dir or SPOOLWAY_DIR"
        )
    return settings.dir


def require_owner(folder: Path) -> None:
    """Raise UsageError for root in another user's folder: its owner could not use what root makes."""
    for path in (folder / "spool", folder / "dead"):
        try:
            owner = path.stat().st_uid
        except OSError:
            continue  # not there, or closed to us: what comes next says so
        if os.geteuid() == 0 and owner != 0:
            raise UsageError(
                f"{path.absolute()} belongs to user {owner}, who could not use what root writes "
                f"there: run this as that user (sudo -u '#{owner}' spoolway ...)"
            )
