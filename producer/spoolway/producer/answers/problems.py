"""Errors that providers answer with, as columns of `error_logs`: their type and their message.

`error_type` is the provider's own word (`rate_limit_error`, `RESOURCE_EXHAUSTED`), or else its code
as text; None where it has neither.
"""

from typing import Any, Final

import orjson

from spoolway.producer.answers.shapes import mapping, parsed, text

_MESSAGE_CHARS: Final = 2_000
"""Of a message; some are a whole HTML page."""

Problem = dict[str, object]


def problem_in(answer: object) -> Problem | None:
    """Return the problem that an answer, or a piece of one, says it is; None if it says none.

    Known are OpenAI's and Anthropic's `{"error": {…}}`, Gemini's, also in a list, Ollama's
    `{"error": "text"}`, vLLM's and Mistral's `{"object": "error", …}`, and the Responses API's
    events.
    """
    if isinstance(answer, list):
        return problem_in(answer[0]) if answer and isinstance(answer[0], dict) else None
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    if error and isinstance(error, (dict, str)):
        return _problem(error, text(answer.get("error_type")))
    if answer.get("type") == "error" or answer.get("object") == "error":
        return _problem(answer)
    if "response" in answer:
        failed = mapping(answer["response"]).get("error")
        return _problem(failed) if failed and isinstance(failed, dict) else None
    return None


def problem_of(body: bytes) -> Problem:
    """Return the problem of an answer whose HTTP status says that it is one.

    Whatever it looks like: what is no known error object gives its `detail` (FastAPI), its
    `message`, or its text.
    """
    answer = parsed(body)
    detail = mapping(answer).get("detail")
    problem = problem_in(answer)
    if problem is None and detail:
        problem = _problem(mapping(detail).get("error") or detail)
    if problem is None and text(mapping(answer).get("message")):
        problem = _problem(answer)
    if problem is None:
        # A character has at most 4 bytes.
        problem = _problem(body[: 4 * _MESSAGE_CHARS].decode(errors="replace").strip())
    return problem


def _problem(error: object, kind: str | None = None) -> Problem:
    fields = mapping(error)
    message = error if isinstance(error, str) else text(fields.get("message"))
    return {
        "error_type": kind or _kind(fields),
        "error_message": (message or _shown(error))[:_MESSAGE_CHARS] or None,
    }


def _kind(error: dict[str, Any]) -> str | None:
    for name in ("type", "status", "code"):
        kind = error.get(name)
        if name == "code" and isinstance(kind, int):
            return str(kind)
        if text(kind) and kind != "error":
            return text(kind)
    return None


def _shown(error: object) -> str:
    try:
        return orjson.dumps(error).decode() if error else ""
    except TypeError:  # nested too deeply to be written
        return ""
