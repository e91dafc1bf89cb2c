"""Names of segments: they sort in the order of replay, and say how much is in a sealed one.

`20261121T132200.123Z-1a2b3c4d-1000.jsonl` holds 1,000 events, the first spooled at that time (UTC).
`20261121T132200.123Z-1a2b3c4d.jsonl.open` is being written, or its writer was killed.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

OPEN: Final = ".jsonl.open"
SEALED: Final = ".jsonl"
TEMPORARY: Final = ".jsonl.tmp"
"""Being made from another segment; left behind by a crash, it is worth nothing."""
_TIME: Final = "%Y%m%dT%H%M%S"
_STEM: Final = r"(?P<began>\d{8}T\d{6}\.\d{3})Z-[0-9a-f]{8}"
_NAME: Final = re.compile(rf"{_STEM}(?:-(?P<events>\d{{1,18}})\.jsonl|\.jsonl\.open)", re.ASCII)
_TEMPORARY_NAME: Final = re.compile(rf"{_STEM}\.jsonl\.tmp", re.ASCII)


class Name(NamedTuple):
    """What a segment's name says."""

    began: datetime
    events: int | None
    """None for an open one."""


def parse(name: str) -> Name | None:
    """Return what a file's name says; None if it is not a segment's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        began = datetime.strptime(f"{match['began']}000+0000", f"{_TIME}.%f%z")
    except ValueError:
        return None
    events = match["events"]
    return Name(began, None if events is None else int(events))


def is_temporary(name: str) -> bool:
    """Tell whether a file is, or was to become, what is left of a segment."""
    return _TEMPORARY_NAME.fullmatch(name) is not None


def new_stem(began: datetime, entropy: Callable[[int], bytes] = os.urandom) -> str:
    """Return what a segment's name begins with: its time, and what makes it the only one."""
    began = began.astimezone(UTC)
    return f"{began:{_TIME}}.{began.microsecond // 1000:03d}Z-{entropy(4).hex()}"


def sealed(stem: str, events: int) -> str:
    """Return the name of a segment that is complete."""
    return f"{stem}-{events}{SEALED}"
