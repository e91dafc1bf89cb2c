"""The folder: which segments there are, in the order of replay, and how much they hold."""

import os
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from spoolway.spool import names
from spoolway.spool.disk import Disk
from spoolway.spool.segment import Segment

_BLOCK: Final = 1 << 20


@dataclass(slots=True, frozen=True)
class SegmentFile:
    """A segment as its folder lists it, not opened."""

    path: Path
    size: int
    """Bytes."""
    began: datetime
    """When its first event was spooled, in UTC."""
    named_events: int | None
    """Events by its name; None for an open one."""

    @property
    def is_open(self) -> bool:
        """Whether somebody writes to it, or was killed while they did."""
        return self.named_events is None

    def count_events(self) -> int:
        """Return its events: by its name, else by counting the lines. Raises OSError."""
        if self.named_events is not None:
            return self.named_events
        with self.path.open("rb", buffering=0) as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b""))


class SpoolFolder:
    """Reads a spool; any number may at once, in any number of processes."""

    def __init__(self, path: Path, *, disk: Disk | None = None) -> None:
        self.path: Final = path
        self._disk: Final = disk or Disk()

    def segments(self) -> list[SegmentFile]:
        """Return the segments in the order of replay; none if there is no folder.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            with os.scandir(self.path) as entries:
                found = [file for entry in entries if (file := _segment_file(entry))]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda file: file.path.name)

    def take(self, file: SegmentFile) -> Segment | None:
        """Lock a segment, to replay it; None if it is being written, replayed, or gone.

        Raises:
            OSError: it cannot be opened.
        """
        return Segment.take(file.path, self._disk)


def _segment_file(entry: "os.DirEntry[str]") -> SegmentFile | None:
    name = names.parse(entry.name)
    if name is None:
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # replayed just now
    if not stat.S_ISREG(status.st_mode):
        return None
    return SegmentFile(Path(entry.path), status.st_size, name.began, name.events)
