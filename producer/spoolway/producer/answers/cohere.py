"""Cohere's chat API, version 2: whole, and as events whose types are written with hyphens."""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, text

_TOKENS: Final = frozenset(
    {"content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"}
)
_SILENT: Final = frozenset(
    {
        "message-start",
        "content-start",
        "content-end",
        "tool-call-end",
        "citation-start",
        "citation-end",
    }
)
_CONTENT: Final = ("content", "tool_calls", "tool_plan")


def said(answer: dict[str, Any]) -> Said | None:
    """Read an answer or an event of one; None if it is neither."""
    kind = answer.get("type")
    if isinstance(kind, str):
        if kind == "message-end":
            return _finished(mapping(answer.get("delta")))._replace(ended=True)
        if kind in _TOKENS:
            return Said(has_token=True)
        if kind in _SILENT:
            return Said()
    if "finish_reason" in answer:
        message = mapping(answer.get("message"))
        return _finished(answer)._replace(
            model=text(answer.get("model")), has_token=any(map(message.get, _CONTENT))
        )
    return None


def _finished(fields: dict[str, Any]) -> Said:
    return Said(
        stop_reason=text(fields.get("finish_reason")),
        usage=mapping(fields.get("usage")) or None,
    )
