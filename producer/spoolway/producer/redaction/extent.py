r"""Where a value ends, in JSON, in JSON that is text in JSON, and in plain text.

A quotation mark that is quoted once has a backslash before it, one that is quoted twice has three,
then seven: its level is the number of ones that the binary count of its backslashes ends with.
Whatever the level, a string ends at the first mark of its own level, or of a lower one where it was
cut off.
"""

import json
import re
from collections.abc import Callable
from typing import Final

_MARKS: Final = re.compile(rb'[\[\]{}"]')
_SINGLE: Final = re.compile(rb"""['"]|\\n""")
_STRING: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_skip: Final = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_LONGEST_BARE: Final = 4096
# A comma and its like end a value only where something else follows them: passwords hold them.
_BARE: Final = re.compile(
    rb"""(?:[^\s"'\\,;&)\]}<>`|]{1,%d}|[,;&](?![\s"'\\,]|[\w.%%-]{1,64}[=:]|$)"""
    rb"""|[)\]}](?=[\w$])|\\\\(?![\\nrt"'])){1,%d}""" % (_LONGEST_BARE, _LONGEST_BARE)
)
_BACKTICKED: Final = re.compile(rb"[^`\"\\]*")
_LINE: Final = re.compile(rb"""[^"'\\]*(?:\\\\(?![\\nrt"'])[^"'\\]*)*""")

Spend = Callable[[int], None]
"""Told how much work was done; it may raise, so that there is an end to it."""
_MARKS_PER_STEP: Final = 16


def backslashes(line: bytes, at: int) -> int:
    """Return how many backslashes there are directly before this place."""
    window = 64
    while True:
        before = line[max(at - window, 0) : at]
        count = len(before) - len(before.rstrip(b"\\"))
        if count < len(before) or window >= at:
            return count
        window *= 8


def level(line: bytes, at: int) -> int:
    """Return how many times the quotation mark at this place is quoted; 0: it is JSON's own."""
    count = backslashes(line, at)
    return ((count + 1) & ~count).bit_length() - 1  # adding one turns the last ones into zeros


def quoted(line: bytes, start: int, own: int, spend: Spend) -> int:
    """Return where the content of a string of this level ends that begins at `start`."""
    if own == 0:
        return end_of_string(line, start)
    marks = 0
    at = line.find(b'"', start)
    while at >= 0:
        marks += 1
        if marks % _MARKS_PER_STEP == 0:
            spend(1)
        found = level(line, at)
        if found <= own:
            return max(at - (1 << found) + 1, start)
        at = line.find(b'"', at + 1)
    return len(line)


def end_of_string(line: bytes, start: int) -> int:
    """Return where the JSON string ends that this place is in."""
    found = _STRING.match(line, start)
    return found.end() if found else start


def single_quoted(line: bytes, start: int, spend: Spend) -> int:
    """Return where the content of a string in single quotes ends, as Python writes it."""
    for marks, mark in enumerate(_SINGLE.finditer(line, start), 1):
        if marks % _MARKS_PER_STEP == 0:
            spend(1)
        at = mark.start()
        if mark[0] == b"'":
            if line[at - 1] != ord("\\"):
                return at
        elif mark[0] == b'"':
            if level(line, at) == 0:
                return at
        elif (at - start) and line[at - 1] != ord("\\"):
            return at
    return len(line)


def json_container(text: str, start: int) -> int:
    """Return where the object or array of JSON itself ends; `text` is the line as Latin-1."""
    return _skip(text, start)[1]


def container(line: bytes, start: int, own: int | None, spend: Spend) -> int:
    """Return where the object or array that begins at `start` ends, in text.

    `own` is the level of its strings, None where they are not JSON's.
    """
    depth = 0
    inside = False
    for marks, mark in enumerate(_MARKS.finditer(line, start), 1):
        if marks % _MARKS_PER_STEP == 0:
            spend(1)
        at, sign = mark.start(), mark[0]
        if sign == b'"':
            found = level(line, at)
            if found < (own or 0) or (own is None and not found):
                return at - (1 << found) + 1
            inside ^= found == own
        elif not inside:
            depth += 1 if sign in b"[{" else -1
            if not depth:
                return at + 1
    return len(line)


def backticked(line: bytes, start: int) -> int:
    """Return where the content of a string in backticks ends."""
    found = _BACKTICKED.match(line, start)
    return found.end() if found else start


def bare(line: bytes, start: int) -> int:
    """Return where a value without quotation marks ends."""
    found = _BARE.match(line, start)
    return found.end() if found else start


def rest_of_line(line: bytes, start: int) -> int:
    """Return where the line of text ends that `start` is in."""
    found = _LINE.match(line, start)
    return found.end() if found else start
