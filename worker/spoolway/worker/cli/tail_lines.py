"""A request, or an error, as one line: when, which, what came of it, how long, how much, who, why."""

from collections.abc import Sequence
from typing import Any, Final

from spoolway.worker.cli.amounts import duration, money, whole
from spoolway.worker.cli.shown import cut, padded, printable
from spoolway.worker.reading.lookup import SHORT
from spoolway.worker.reading.reasons import reason

_LONGEST: Final = 300
"""Cells of a line that goes to no terminal: a message may be a megabyte."""
_LEAST: Final = 30
"""Cells that the last column, why it failed, has at least, as long as others can be left out for it."""
_LEFT_OUT: Final = ("cost", "tokens", "user", "duration", "model", "backend", "http")
"""Columns that a narrow terminal is without, the first of them first."""
_TIME: Final = slice(11, 19)
"""Of 2026-01-31T23:59:59.123456Z, hours to seconds."""

_REQUEST: Final = (
    ("time", 8, False),
    ("id", SHORT, False),
    ("outcome", 9, False),
    ("http", 4, True),
    ("model", 24, False),
    ("duration", 11, True),
    ("tokens", 7, True),
    ("cost", 9, True),
    ("user", 14, False),
    ("why", 0, False),
)
"""Columns of a request: name, cells (the last one has what is left), and whether to the right."""
_ERROR: Final = (
    ("time", 8, False),
    ("request", SHORT, False),
    ("type", 24, False),
    ("http", 4, True),
    ("model", 24, False),
    ("backend", 14, False),
    ("message", 0, False),
)


def head(width: int | None, *, of_errors: bool) -> str:
    """Return the names above the columns."""
    columns = _ERROR if of_errors else _REQUEST
    return _line(columns, [name for name, _, _ in columns], width)


def request_line(row: dict[str, Any], why: str | None, width: int | None) -> str:
    """Return a request as a line of at most `width` cells; None is no terminal."""
    values = (
        str(row["request_time"])[_TIME],
        str(row["id"])[:SHORT],
        row["outcome"] or "unknown",
        row["http_status"],
        row["model_name"],
        duration(row["duration_ms"]),
        whole(row["total_tokens"]),
        money(row["cost"]),
        row["user_id"],
        why or "",
    )
    return _line(_REQUEST, values, width)


def error_line(row: dict[str, Any], width: int | None) -> str:
    """Return an error event as a line of at most `width` cells; None is no terminal."""
    request = row["request_log_id"] or row["request_id"]
    values = (
        str(row["timestamp"])[_TIME],
        None if request is None else str(request)[:SHORT],
        row["error_type"],
        row["http_status"],
        row["model_name"],
        row["backend_name"],
        reason(None, row["error_message"]),
    )
    return _line(_ERROR, values, width)


def _line(
    columns: Sequence[tuple[str, int, bool]], values: Sequence[object], width: int | None
) -> str:
    names = _names(columns, width)
    cut_off = [
        padded(cut(_text(value), room), room, to_the_right=right)
        for (name, room, right), value in zip(columns[:-1], values[:-1], strict=True)
        if name in names
    ]
    line = "  ".join([*cut_off, _text(values[-1])]).rstrip()
    return cut(line, _LONGEST if width is None else width)


def _names(columns: Sequence[tuple[str, int, bool]], width: int | None) -> set[str]:
    """Return which columns a terminal has room for, beside what the last one needs."""
    rooms = {name: room + 2 for name, room, _ in columns}
    for name in _LEFT_OUT:
        if width is not None and sum(rooms.values()) - 2 + _LEAST > width:
            rooms.pop(name, None)
    return set(rooms)


def _text(value: object) -> str:
    """Return a value on one line, a dash for none."""
    return "-" if value is None else printable(" ".join(str(value)[:1_000].split()))
