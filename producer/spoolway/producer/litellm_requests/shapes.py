"""Taking values from what nobody guarantees the shape of: what is not as expected is None."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

Columns = dict[str, object]
Json = Mapping[str, Any]

_EMPTY: Final[Json] = {}


def mapping(value: object) -> Json:
    """Return it if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else _EMPTY


def known(**columns: object) -> Columns:
    """Return those that have a value."""
    return {name: value for name, value in columns.items() if value is not None}


def address(value: object) -> str | None:
    """Return a URL without user, password and query: they may be secrets."""
    url = parts(value)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", "")) or None


def parts(value: object) -> SplitResult:
    """Return the parts of a URL, which are empty if it is none."""
    try:
        return urlsplit(text(value) or "")
    except ValueError:
        return urlsplit("")


def text(value: object) -> str | None:
    """Return it if it is a text with something in it."""
    return value if isinstance(value, str) and value else None


def number(value: object) -> float | None:
    """Return it if it is a finite number; a time is seconds since 1970."""
    if isinstance(value, bool):
        return None
    try:
        match value:
            case datetime():
                return value.timestamp()
            case int() | float() if math.isfinite(value):
                return float(value)
    except (OverflowError, OSError, ValueError):  # too large, or a time before there were any
        pass
    return None


def moment(seconds: float | None) -> datetime | None:
    """Return the time that is so many seconds after 1970 began."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def integer(value: object) -> int | None:
    """Return it if it is a whole number, as a number or in digits."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def first_integer(*values: object) -> int | None:
    """Return the first that is a whole number."""
    return next((found for value in values if (found := integer(value)) is not None), None)


def milliseconds(start: float | None, end: float | None) -> float | None:
    """Return the time between two that are in seconds; never less than none."""
    if start is None or end is None:
        return None
    return round(max(end - start, 0) * 1e3, 3)
