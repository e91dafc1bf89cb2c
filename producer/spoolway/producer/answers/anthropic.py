"""Anthropic's messages, whole and as events.

`message_start` says what the prompt took, `message_delta` how much the answer took so far, and of
the prompt only what has changed: together they are the usage.
"""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, text

_DELTA_FIELDS: Final = ("text", "thinking", "partial_json")
_EMPTY_AT_FIRST: Final = frozenset({"text", "thinking"})
"""Blocks that begin empty; all others (tool_use, redacted_thinking, …) begin with content."""
_SILENT: Final = frozenset({"content_block_stop", "ping"})


def said(answer: dict[str, Any]) -> Said | None:
    """Read a message or an event of one; None if it is neither."""
    kind = answer.get("type")
    if not isinstance(kind, str):
        return None
    if kind == "message":
        return _message(answer)
    if kind == "content_block_delta":
        return Said(has_token=any(map(mapping(answer.get("delta")).get, _DELTA_FIELDS)))
    if kind == "content_block_start":
        block = mapping(answer.get("content_block"))
        is_content = text(block.get("type")) not in _EMPTY_AT_FIRST
        return Said(has_token=is_content or any(map(block.get, _DELTA_FIELDS)))
    if kind == "message_start":
        return _message(mapping(answer.get("message")))._replace(adds_usage=True)
    if kind == "message_delta":
        return Said(
            stop_reason=text(mapping(answer.get("delta")).get("stop_reason")),
            usage=mapping(answer.get("usage")) or None,
            adds_usage=True,
        )
    if kind == "message_stop":
        return Said(ended=True)
    return Said() if kind in _SILENT else None


def _message(message: dict[str, Any]) -> Said:
    return Said(
        model=text(message.get("model")),
        stop_reason=text(message.get("stop_reason")),
        usage=mapping(message.get("usage")) or None,
        has_token=bool(message.get("content")),
    )
