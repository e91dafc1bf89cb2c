"""Gemini's generateContent, of Google AI and of Vertex AI; a stream's chunks have the same shape.

There is no end mark: the chunk with the finish reason is the last one.
"""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, sequence, text

_NO_CONTENT: Final = frozenset({"thought", "thoughtSignature"})
"""Of a part: marks of thinking. Every other field is what the model has made."""


def said(answer: dict[str, Any]) -> Said | None:
    """Read an answer or a chunk; None if it is neither."""
    if not ("candidates" in answer or "usageMetadata" in answer or "promptFeedback" in answer):
        return None
    stop_reason = None
    has_token = False
    for candidate in map(mapping, sequence(answer.get("candidates"))):
        stop_reason = stop_reason or text(candidate.get("finishReason"))
        has_token = has_token or _has_token(mapping(candidate.get("content")))
    if "promptFeedback" in answer:
        stop_reason = stop_reason or text(mapping(answer["promptFeedback"]).get("blockReason"))
    return Said(
        text(answer.get("modelVersion")),
        stop_reason,
        mapping(answer.get("usageMetadata")) or None,
        has_token,
        ended=stop_reason is not None,
    )


def _has_token(content: dict[str, Any]) -> bool:
    for part in map(mapping, sequence(content.get("parts"))):
        for name, value in part.items():
            if value and name not in _NO_CONTENT:
                return True
    return False
