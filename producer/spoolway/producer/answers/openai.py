"""OpenAI's chat and text completions, embeddings, and all that is compatible with them.

Azure, OpenRouter, vLLM, LiteLLM, DeepSeek, Mistral, Groq, xAI and others send the same shape.
Usage is in the last chunk, or in every one; Groq keeps it in `x_groq`.
"""

from typing import Any, Final

from spoolway.producer.answers.shapes import Said, mapping, sequence, text

_TOKEN_FIELDS: Final = (
    "content",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
    "function_call",
    "refusal",
    "audio",
    "images",
)
"""Of a message, or of what a chunk adds to one: what the model has made."""


def said(answer: dict[str, Any]) -> Said:
    """Read an answer, or a chunk of one; also any other object with a model and usage."""
    stop_reason = None
    has_token = False
    for choice in map(mapping, sequence(answer.get("choices"))):
        # Of several choices the first one's counts, whichever ends first in a stream.
        if not choice.get("index"):
            stop_reason = stop_reason or text(choice.get("finish_reason"))
        message = mapping(choice.get("delta") or choice.get("message"))
        has_token = has_token or any(map(message.get, _TOKEN_FIELDS)) or bool(choice.get("text"))
    usage = mapping(answer.get("usage"))
    if not usage and "x_groq" in answer:
        usage = mapping(mapping(answer["x_groq"]).get("usage"))
    return Said(text(answer.get("model")), stop_reason, usage or None, has_token)
