"""What an OpenAI-compatible answer says about itself: model, stop reason, tokens, errors.

Pure functions over bytes and parsed JSON. Answers come from elsewhere: nothing here may fail on
one that looks different.
"""

import json
from typing import Any, Final

KEPT_BYTES: Final = 256 * 1024
"""Of a stream's chunks, as they came; what comes later is counted only."""


def columns_of(answer: object) -> dict[str, object]:
    """Return the columns of `request_logs` that a whole answer fills."""
    fields = _mapping(answer)
    first = _mapping(next(iter(_list(fields.get("choices"))), None))
    return {
        "provider_model": fields.get("model"),
        "stop_reason": first.get("finish_reason"),
        **_usage(_mapping(fields.get("usage"))),
    }


def problem_of(answer: object) -> dict[str, Any]:
    """Return the columns of `error_logs` that a failed answer fills: `{"error": {"type", ...}}`."""
    error = _mapping(answer).get("error", answer)
    fields = _mapping(error)
    return {
        "error_type": fields.get("type") or fields.get("code") or "upstream_error",
        "error_message": fields.get("message") or (str(error) if error else "no explanation"),
    }


def parsed(content: bytes) -> Any:
    """Return JSON, or else the text."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode(errors="replace")


class StreamedAnswer:
    """The same of a stream of server-sent events, while it passes by."""

    def __init__(self) -> None:
        self.has_token = False
        self.ended = False
        """`[DONE]` was in it, or an error in its place."""
        self.problem: dict[str, Any] | None = None
        self._chunks: list[Any] = []
        self._kept = self._left_out = 0
        self._line = b""
        self._model: object = None
        self._stop_reason: object = None
        self._usage: dict[str, Any] = {}

    def feed(self, data: bytes) -> bool:
        """Take bytes, cut anywhere; return True when the stream's end was in them."""
        already = self.ended
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._take(value.strip())
        return self.ended and not already

    def columns(self) -> dict[str, object]:
        """Return the columns of `request_logs` that the stream fills so far."""
        left_out = [{"_left_out": self._left_out}] if self._left_out else []
        return {
            "stream_chunks": [*self._chunks, *left_out],
            "provider_model": self._model,
            "stop_reason": self._stop_reason,
            **_usage(self._usage),
        }

    def _take(self, value: bytes) -> None:
        if value == b"[DONE]":
            self.ended = True
            return
        chunk = parsed(value)
        self._kept += len(value)
        if self._kept <= KEPT_BYTES:
            self._chunks.append(chunk)
        else:
            self._left_out += 1
        fields = _mapping(chunk)
        if fields.get("error"):
            self.ended, self.problem = True, problem_of(chunk)
        self._model = fields.get("model") or self._model
        self._usage = _mapping(fields.get("usage")) or self._usage
        for choice in _list(fields.get("choices")):
            delta = _mapping(_mapping(choice).get("delta"))
            self.has_token |= any(value for name, value in delta.items() if name != "role")
            self._stop_reason = _mapping(choice).get("finish_reason") or self._stop_reason


def _usage(usage: dict[str, Any]) -> dict[str, object]:
    return {
        "prompt_tokens": usage.get("prompt_tokens"),
        "completion_tokens": usage.get("completion_tokens"),
        "total_tokens": usage.get("total_tokens"),
        "cached_tokens": _mapping(usage.get("prompt_tokens_details")).get("cached_tokens"),
        "reasoning_tokens": _mapping(usage.get("completion_tokens_details")).get(
            "reasoning_tokens"
        ),
        "usage_stats": usage or None,
    }


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
