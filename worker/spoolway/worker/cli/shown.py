"""How commands say things: numbers for a person, JSON for a program, and nothing a terminal obeys."""

import sys
from collections.abc import Iterable
from typing import Final

import orjson
import typer

_UNITS: Final = ("KB", "MB", "GB", "TB")
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


def print_json(value: object) -> None:
    """Print one JSON value on one line, flushed."""
    typer.echo(json_line(value))


def json_line(value: object) -> str:
    r"""Return JSON on one line, in which nothing is for a terminal to obey: it has \u escapes."""
    text = orjson.dumps(value).decode()
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _in_json(char) for char in text)


def _in_json(char: str) -> str:
    # JSON as a database had it may have white space between its values. All else is in a text.
    if char in "\n\r\t":
        return " "
    code = char.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))


def say(line: str) -> None:
    """Print a line on stderr, as all that is not a command's result."""
    typer.echo(f"spoolway: {printable(line)}", err=True)


def printable(text: str) -> str:
    r"""Return text with what a terminal would obey written as an escape: \x1b, \u202e.

    What is in a log came from a client, and may want the operator's screen.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def count(number: int, what: str) -> str:
    """Return a number and its noun: `1 event`, `2,000 events`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def size(number: float) -> str:
    """Return bytes in the largest unit that fits, by thousands as disks are sold."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in _UNITS[:-1]:
        number /= 1000
        if number < 999.5:
            return f"{number:.3g} {unit}"
    return f"{number / 1000:,.1f} {_UNITS[-1]}"


def age(seconds: float) -> str:
    """Return a time span in one unit."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} days"


def table(rows: Iterable[tuple[str, ...]], right: Iterable[int] = ()) -> list[str]:
    """Return rows as lines with columns of equal width; those in `right` end where they end."""
    rows = list(rows)
    if not rows:
        return []
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    to_the_right = set(right)
    return [
        "  ".join(
            padded(text, width, to_the_right=at in to_the_right)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """Return text with spaces after it, or before it, to fill so many cells of a terminal."""
    spaces = " " * (width - cells(text))
    return spaces + text if to_the_right else text + spaces


def cut(text: str, width: int) -> str:
    """Return what fits into so many cells of a terminal; what was cut ends with three dots."""
    if cells(text) <= width:
        return text
    dots = "..."[:width]
    room = width - len(dots)
    kept = []
    for char in text:
        room -= cells(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + dots


def cells(text: str) -> int:
    """Return how many columns of a terminal text takes: two for a letter of Chinese."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # 20 ms, for what is seldom there

    return cell_len(text)


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty()
