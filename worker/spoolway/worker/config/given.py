"""One value that somebody gave to a setting: where, under which name, and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Given:
    """A value for a field of Settings, not read yet: what loses need not be readable."""

    setting: str
    where: str
    """As whoever gave it would call it, at the start of a message."""
    source: str
    """The same beside a value: `env DATABASE_URL`, `config.yaml: database.url`."""
    read: Callable[[], Any] = field(repr=False)
    """Return the value; None for none. Raises UsageError."""
    is_weak: bool = False
    """It gives way to any other name of the field in the same place."""


class Unused(NamedTuple):
    """What stands there and does nothing."""

    what: str
    why: str


DRIVER = "driver"
"""Not a setting, but what the database must turn out to be: sqlite or postgresql."""
