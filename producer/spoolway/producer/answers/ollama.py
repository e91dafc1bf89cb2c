"""Ollama's own API: chat, generate and embed, whole and as JSON lines.

Counts and durations stand beside the answer in its last line; they are the usage.
"""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, text

_USAGE: Final = (
    "total_duration",
    "load_duration",
    "prompt_eval_count",
    "prompt_eval_duration",
    "eval_count",
    "eval_duration",
)
_MESSAGE_FIELDS: Final = ("content", "thinking", "tool_calls")
_GENERATED_FIELDS: Final = ("response", "thinking")


def said(answer: dict[str, Any]) -> Said | None:
    """Read an answer or a line of one; None if it is neither."""
    if not ("done" in answer or "prompt_eval_count" in answer or "total_duration" in answer):
        return None
    model = text(answer.get("model"))
    message = mapping(answer.get("message"))
    has_token = any(map(message.get, _MESSAGE_FIELDS)) or any(map(answer.get, _GENERATED_FIELDS))
    if answer.get("done") is False:
        return Said(model, has_token=has_token)
    return Said(
        model,
        stop_reason=text(answer.get("done_reason")),
        usage={name: answer[name] for name in _USAGE if name in answer} or None,
        has_token=has_token,
        ended=answer.get("done") is True,
    )
