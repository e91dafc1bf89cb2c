"""The middle of a stream: chunks that differ from an earlier one in their text alone.

Nearly all chunks of a stream are of this kind. When one was parsed and said nothing but more text,
then another one that has the same bytes before and behind its text says nothing else either, and
need not be parsed. This is exact, and faster than any search for keys.
"""

import re
from typing import Final, Self

_INSIDE: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
"""What stands between a JSON string's quotation marks."""
_TEXT: Final = re.compile(
    rb'("(?:content|reasoning_content|reasoning|thinking|text|arguments)": ?")' + _INSIDE.pattern,
    re.DOTALL,
)
"""In JSON such bytes are always a key and the beginning of its value: within a text, quotation
marks have a backslash before them."""
_PADDING: Final = b'"obfuscation":"'
"""OpenAI's characters at random, by which all chunks get about the same length."""
_DELTAS: Final = tuple(
    b'{"type":"%s"' % kind
    for kind in (
        b"content_block_delta",
        b"response.output_text.delta",
        b"response.reasoning_text.delta",
        b"response.reasoning_summary_text.delta",
        b"response.function_call_arguments.delta",
    )
)


def is_delta(payload: bytes) -> bool:
    """Tell whether it is an event that can bring no more than content, by its type."""
    return payload.startswith(_DELTAS)


class Middle:
    """The bytes around the text of one chunk."""

    __slots__ = ("_before", "_behind", "_behind_bytes", "_is_padded", "_start")

    def __init__(self, before: bytes, behind: bytes, *, is_padded: bool) -> None:
        self._before = before
        self._start = len(before)
        self._behind = behind
        self._behind_bytes = len(behind)
        self._is_padded = is_padded

    @classmethod
    def of(cls, payload: bytes) -> Self | None:
        """Learn from a chunk, which must be JSON; None if there is no text in it."""
        text = _TEXT.search(payload)
        if text is None:
            return None
        end = text.end()
        padding = payload.find(_PADDING, end)
        behind = payload[end:] if padding < 0 else payload[end : padding + len(_PADDING)]
        return cls(payload[: text.end(1)], behind, is_padded=padding >= 0)

    def has(self, payload: bytes) -> bool:
        """Tell whether it differs in its text alone."""
        if not payload.startswith(self._before):
            return False
        # The padding has no quotation marks; behind it are its own and the object's end.
        stop = payload.rfind(b'"', 0, -2) + 1 if self._is_padded else len(payload)
        end = stop - self._behind_bytes
        if end < self._start or not payload.startswith(self._behind, end):
            return False
        if payload.find(b'"', self._start) == end:
            return True
        return _INSIDE.fullmatch(payload, self._start, end) is not None
