"""JSON without its middle: what can be read of a long answer from its first and last bytes.

The beginning of a document is a document again when it is cut at a comma and closed; its end, when
what must have been open there is put before it. Where that gives no JSON, the comma was not one of
this level, or stood in a text. So keys and levels are the real ones, which a search for `"usage"`
would not know.
"""

import re
from typing import Any, Final

from spoolway.producer.answers.shapes import mapping, parsed

_TRIES: Final = 32
"""Commas that are tried, from the outside in: a bound for documents that are made to be slow."""
_MEMBER: Final = re.compile(rb',\s*"[^"\\]{1,40}"\s*:')
_LAST_MEMBER: Final = re.compile(
    rb',\s*"(finish_reason|finishReason|stop_reason|done_reason|status|incomplete_details|error|done'
    rb"|model|modelVersion|usage|usageMetadata|x_groq|total_duration|prompt_eval_count|eval_count)"
    rb'"\s*:'
)
"""What stands behind the content, in any provider's answer."""
_LEVELS: Final = {
    b"finish_reason": (b"{", b'{"choices":[{'),
    b"finishReason": (b'{"candidates":[{',),
}
"""What may be open around a key; for all others, the answer itself."""
_IN_RESPONSE: Final = re.compile(rb'\{.{,200}?"response"\s*:\s*\{', re.DOTALL)
"""An event of the Responses API."""


def joined(head: bytes, tail: bytes) -> object:
    """Return the JSON value that begins and ends so, without members that were cut.

    None where nothing can be recognised. Takes time for a few dozen documents of this size.
    """
    # Often only a long text is cut, and both ends together are JSON.
    whole = parsed(head + tail)
    if whole is not None:
        return whole
    if _IN_RESPONSE.match(head):
        outside = b'{"response":', b"}"
    elif head.lstrip().startswith(b"["):
        outside = b"[", b"]"
    else:
        outside = b"", b""
    return _merged(_beginning(head, b"}" + outside[1]), _end(outside[0], tail))


def _beginning(head: bytes, closer: bytes) -> object:
    """Return the longest beginning that is JSON when it is closed at a comma."""
    best: object = None
    for member, _ in zip(_MEMBER.finditer(head), range(_TRIES), strict=False):
        value = parsed(head[: member.start()] + closer)
        best = best if value is None else value
    return best


def _end(outside: bytes, tail: bytes) -> object:
    """Return the longest end that is JSON when it is opened at a comma."""
    best: object = None
    for member in reversed(list(_LAST_MEMBER.finditer(tail))[-_TRIES:]):
        for opener in _LEVELS.get(member[1], (b"{",)):
            value = parsed(outside + opener + tail[member.start() + 1 :])
            best = best if value is None else value
    return best


def _merged(beginning: object, end: object) -> object:
    if isinstance(beginning, dict) and isinstance(end, dict):
        merged: dict[str, Any] = beginning | end
        responses = mapping(beginning.get("response")), mapping(end.get("response"))
        if all(responses):
            merged["response"] = responses[0] | responses[1]
        return merged
    if isinstance(beginning, list) and isinstance(end, list):
        return beginning + end
    return beginning if end is None else end
