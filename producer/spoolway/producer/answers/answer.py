"""What an answer says of itself, gathered from its pieces."""

from typing import Any, Final

from spoolway.producer.answers import anthropic, cohere, gemini, ollama, openai, responses
from spoolway.producer.answers.ends import joined
from spoolway.producer.answers.middle import Middle, is_delta
from spoolway.producer.answers.problems import problem_in
from spoolway.producer.answers.shapes import Said, parsed
from spoolway.producer.answers.stream import Ends, Payload
from spoolway.producer.answers.usage import token_columns

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 16 * 1024
"""Of a whole answer that is no JSON, what is looked at for what it says nevertheless."""
_DONE: Final = b"[DONE]"
_ANNOUNCEMENTS: Final = frozenset(
    {"response.created", "response.queued", "response.in_progress", "message_start"}
)
"""Events that can be long without any content: they repeat what was asked."""
_LESSONS: Final = 8
"""Chunks that are learned from. Where none is like another (Ollama's carry their time), all are
parsed."""


class Answer:
    """One answer of any provider. Nothing that is read raises; what is not known stays unknown."""

    __slots__ = (
        "_lessons",
        "_middle",
        "_model",
        "_stop_reason",
        "_usage",
        "ended",
        "has_token",
        "problem",
    )

    def __init__(self) -> None:
        self.has_token = False
        """Content was seen: text, reasoning, a tool call, audio, an image."""
        self.ended = False
        """The answer is complete by its own rules: `[DONE]`, `message_stop`, `response.completed`,
        Gemini's finish reason, Ollama's `done`, an error in its place, or a whole JSON value."""
        self.problem: dict[str, object] | None = None
        """`error_type` and `error_message`, if it is or contains an error; the first one counts."""
        self._model: str | None = None
        self._stop_reason: str | None = None
        self._usage: dict[str, Any] | None = None
        self._middle: Middle | None = None
        self._lessons = _LESSONS

    def read(self, body: bytes) -> Any:
        """Read a whole answer; a list of answers (Gemini's stream without `alt=sse`) as one.

        Returns its JSON value, or None where it is no JSON.
        """
        value = parsed(body)
        if value is None:
            self.read_ends(body[:HEAD_BYTES], body[-TAIL_BYTES:])
            return None
        self._take(value)
        self.ended = True
        return value

    def read_ends(self, head: bytes, tail: bytes) -> None:
        """Read what a whole answer says in its first and its last bytes.

        Whether it was complete stays unknown, and so does `has_token` where the content is what
        was cut. Takes up to some ms.
        """
        self._take(joined(head, tail))

    def read_piece(self, payload: Payload) -> None:
        """Read one payload of a stream, in order. `Ends` stand for a long one."""
        if isinstance(payload, Ends):
            self._read_long_piece(payload)
            return
        # Exact shortcuts: whatever they recognise would change nothing.
        if self._middle is not None and self._middle.has(payload):
            return
        if self.has_token and is_delta(payload):
            return
        if payload.startswith(b"[") and payload.strip() == _DONE:
            self.ended = True
            return
        had_token = self.has_token
        says_more = self._take(parsed(payload))
        if had_token and not says_more and self._lessons:
            middle = Middle.of(payload)
            if middle is not None:
                self._lessons -= 1
                self._middle = middle

    def columns(self) -> dict[str, object]:
        """Return the columns of `request_logs` that are known so far.

        `provider_model`, `stop_reason` (the provider's own word), `prompt_tokens`,
        `completion_tokens`, `total_tokens`, `cached_tokens`, `reasoning_tokens` (as `usage.py`
        says), and `usage_stats`, the provider's own object.
        """
        columns: dict[str, object] = {
            "provider_model": self._model,
            "stop_reason": self._stop_reason,
            "usage_stats": self._usage,
            **token_columns(self._usage or {}),
        }
        return {name: value for name, value in columns.items() if value is not None}

    def _read_long_piece(self, ends: Ends) -> None:
        value = joined(ends.head, ends.tail)
        self._take(value)
        kind = value.get("type") if isinstance(value, dict) else None
        if not (isinstance(kind, str) and kind in _ANNOUNCEMENTS):
            self.has_token = True  # nothing but content is that long

    def _take(self, value: object) -> bool:
        """Take one JSON value; tell whether it said more than that there is content."""
        if isinstance(value, dict):
            return self._take_object(value)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    self._take_object(item)
        return True

    def _take_object(self, value: dict[str, Any]) -> bool:
        problem = problem_in(value)
        if problem is not None:
            self.ended = True
            self.problem = self.problem or problem
        said = _said(value)
        self.has_token = self.has_token or said.has_token
        self.ended = self.ended or said.ended
        self._model = self._model or said.model
        self._stop_reason = said.stop_reason or self._stop_reason
        if said.usage is not None:
            if said.adds_usage and self._usage is not None:
                news = {name: count for name, count in said.usage.items() if count is not None}
                self._usage = self._usage | news
            else:
                self._usage = said.usage
        return bool(problem or said.stop_reason or said.usage or said.ended)


def _said(value: dict[str, Any]) -> Said:
    if "choices" in value:
        return openai.said(value)
    return (
        responses.said(value)
        or anthropic.said(value)
        or gemini.said(value)
        or ollama.said(value)
        or cohere.said(value)
        or openai.said(value)
    )
