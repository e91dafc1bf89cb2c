"""The ends of what was cut off: where a secret may have lost what it is recognised by.

What is capped keeps its beginning, as the preview of a marker or as a text with a note behind it.
Its last word may be the first half of a key, and the value of a header whose name is at its end
may come no more: the one is taken off, and the headers are, from their beginning on.
"""

import re
from typing import Final

from spoolway.producer.redaction import extent
from spoolway.producer.redaction.patterns import REDACTED, TRUNCATED

_MARKER: Final = re.compile(
    rb'("_truncated":true,"bytes":\d+,"sha256":"[0-9a-f]{64}","preview":")([^"\\]*(?:\\.[^"\\]*)*)'
)
_NOTE: Final = re.compile(re.escape(TRUNCATED) + rb'\d+ bytes, sha256 [0-9a-f]{64}\]"')
_KEY: Final = b"headers"
_OF_WORDS: Final = bytes(set(range(256)) - set(b" \t\r\n\f\v\"'\\"))


def without_ends(line: bytes) -> bytes:
    """Return the line with what was cut off in it ending before its headers, and its last word."""
    if b'"_truncated":true' in line:
        line = _MARKER.sub(_shortened, line)
    if TRUNCATED not in line:
        return line
    kept: list[bytes] = []
    done = 0
    for note in _NOTE.finditer(line):
        kept += without_last_word(line[done : note.start()]), note[0]
        done = note.end()
    return b"".join((*kept, line[done:]))


def before_headers(line: bytes) -> bytes:
    """Return the line with the previews in it ending before their headers."""
    return _MARKER.sub(lambda marker: marker[1] + _headless(marker[2]), line)


def without_last_word(text: bytes) -> bytes:
    r"""Return encoded text without the word it ends with, unless that has been replaced."""
    if text.endswith(REDACTED):
        return text
    end = len(text.rstrip(_OF_WORDS))
    if extent.backslashes(text, end) % 2:  # the word begins with the rest of an escape
        end += 5 if text[end : end + 1] == b"u" else 1
    return text[:end]


def _shortened(marker: re.Match[bytes]) -> bytes:
    return marker[1] + without_last_word(_headless(marker[2]))


def _headless(preview: bytes) -> bytes:
    at = preview.lower().find(_KEY)
    return preview if at < 0 else preview[:at]
