"""OpenAI's Responses API, whole and as events; audio and image events are made alike.

Lifecycle events (`response.created` … `response.completed`) carry the response as far as it is;
all others are about a part of it.
"""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, text

_FAMILIES: Final = ("response.", "transcript.", "speech.", "image_")
_ENDS: Final = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.cancelled",
        "transcript.text.done",
        "speech.audio.done",
        "image_generation.completed",
        "image_edit.completed",
    }
)
_NOT_YET: Final = frozenset({"queued", "in_progress"})


def said(answer: dict[str, Any]) -> Said | None:
    """Read a response or an event of one; None if it is neither."""
    if answer.get("object") == "response":
        return _response(answer)
    kind = answer.get("type")
    if not isinstance(kind, str) or not kind.startswith(_FAMILIES):
        return None
    if isinstance(answer.get("response"), dict):
        return _response(answer["response"])._replace(ended=kind in _ENDS)
    ended = kind in _ENDS
    return Said(
        usage=mapping(answer.get("usage")) or None,
        has_token=ended or _has_token(kind, answer),
        ended=ended,
    )


def _has_token(kind: str, event: dict[str, Any]) -> bool:
    if kind == "response.output_item.added":
        # A call's name is here, before its arguments; a text begins with its first delta.
        item_type = text(mapping(event.get("item")).get("type")) or ""
        return item_type.endswith("_call")
    return kind.endswith((".delta", ".partial_image")) and event.get("delta") != ""


def _response(response: dict[str, Any]) -> Said:
    status = text(response.get("status"))
    reason = text(mapping(response.get("incomplete_details")).get("reason"))
    return Said(
        model=text(response.get("model")),
        stop_reason=reason or (None if status in _NOT_YET else status),
        usage=mapping(response.get("usage")) or None,
        has_token=bool(response.get("output")),
    )
