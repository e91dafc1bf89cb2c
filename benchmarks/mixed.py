"""Traffic as it is: events of every size, half of the requests streams, and errors among them.

What a stream's chunks and an error are is what the producer records (docs/columns.md).
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import heappop, heappush
from itertools import count
from math import log
from typing import Final

from benchmarks.events import KIB, RICH_FROM, SEED, Events, Fields
from spoolway.schema import new_id

_MEDIAN: Final = 4 * KIB
_SIGMA: Final = 1.2
"""Of the logarithm: one event in eight is under 1 KB, one in 25 over 32 KB; the mean is 8 KB."""
_LEAST: Final = KIB // 2
_MOST: Final = 256 * KIB
_LEAN_BELOW: Final = KIB
"""Smaller ones have fewer columns: those of a proxy that knows less of its users."""
_UNKNOWN: Final = ("request_id", "user_id", "api_key_id", "client_ip", "cost", "ttft_ms")

_ERRORS: Final = 0.05
"""Share of errors in all events."""
_OF_NOTHING: Final = 0.1
"""Share of errors that name no request: a proxy's log handler has them."""
_EARLY: Final = 0.2
"""Share of the others that are sent at once, long before their request ends. The rest leave
together with it, behind it."""
_HELD: Final = 2_000
"""Most events between an early error and its request: more than a batch has."""
_FATAL: Final = 0.5
"""Share of the requests with an error that fail; the others were answered by a second backend."""
_TOKEN_CHARS: Final = 5
_CHUNK_BYTES: Final = 215
"""JSON of a chunk with one token."""
_SUMMARY: Final = ("id", "timestamp", "error_type", "error_message", "backend_name", "http_status")
_FAILURES: Final = (
    ("rate_limit_error", 429, "Rate limit reached for requests: try again in 1.2 s."),
    ("overloaded_error", 529, "The engine is overloaded, please try again later."),
    ("ConnectTimeout", None, "no connection to the backend within 5.0 s"),
    ("server_error", 500, "The server had an error while processing your request."),
)


class Mixed(Events):
    """An endless supply of events in the order in which they reach the stream."""

    def __init__(self, seed: int = SEED) -> None:
        super().__init__(_MEDIAN, seed)

    def __iter__(self) -> Iterator[Fields]:
        """Yield requests and errors, each with an id of its own, as dicts of Python values."""
        rng = self._random
        held: list[tuple[int, int, Fields]] = []
        for number in count():
            while held and held[0][0] <= number:
                yield heappop(held)[-1]
            request = self.request(self._next_size())
            if rng.random() >= _ERRORS / (1 - _ERRORS):
                yield request
            elif rng.random() < _OF_NOTHING:
                error = self._error(request)
                del error["request_id"]
                yield error
                yield request
            elif rng.random() < _EARLY:
                yield self._failed(request)  # minted after its request, and there before it
                heappush(held, (number + rng.randint(1, _HELD), number, request))
            else:
                error = self._failed(request)
                yield request
                yield error

    def request(self, size: int) -> Fields:
        """Return one of about this size. Half of them are streams, whose answer is in chunks."""
        is_small = size < RICH_FROM  # without an answer, but for the chunk that ends a stream
        event = super().request(size)
        if size < _LEAN_BELOW:
            for name in _UNKNOWN:
                del event[name]
            event["headers"] = {"content-type": "application/json"}
        if is_small and event["is_stream"]:
            self._answer(event, 0)
        return event

    def _answer(self, event: Fields, size: int) -> None:
        if not event["is_stream"]:
            super()._answer(event, size)
            return
        event["body"]["stream"] = True
        head = {
            "id": f"chatcmpl-{self._token(29)}",
            "object": "chat.completion.chunk",
            "created": int(event["request_time"].timestamp()),
            "model": event["provider_model"],
        }
        tokens = size // _CHUNK_BYTES
        text = self._cut(tokens * _TOKEN_CHARS)
        deltas: list[tuple[Fields, str | None]] = [
            ({"content": text[at * _TOKEN_CHARS : (at + 1) * _TOKEN_CHARS]}, None)
            for at in range(tokens)
        ]
        event["stream_chunks"] = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            for delta, reason in [*deltas, ({}, "stop")]
        ]

    def _next_size(self) -> int:
        return min(max(int(self._random.lognormvariate(log(_MEDIAN), _SIGMA)), _LEAST), _MOST)

    def _failed(self, request: Fields) -> Fields:
        """Let a first attempt at this request fail, or all of it; return the error."""
        error = self._error(request)
        failure = {
            "backend": error["backend_name"],
            "http_status": error["http_status"],
            "error_type": error["error_type"],
            "error_message": error["error_message"],
        }
        request["backend_attempts"] = [failure, *request.get("backend_attempts", ())]
        request["errors"] = [{name: error[name] for name in _SUMMARY}]
        if self._random.random() < _FATAL:
            request |= {"outcome": "error", "http_status": 502}
            del request["stop_reason"]
        return error

    def _error(self, request: Fields) -> Fields:
        kind, status, message = self._random.choice(_FAILURES)
        return {
            "type": "error",
            "id": new_id(),
            "timestamp": datetime.now(UTC),
            "model_name": request["model_name"],
            "error_type": kind,
            "error_message": message,
            "backend_name": f"{request['provider']}-{self._random.randint(1, 4)}",
            "http_status": status,
            "request_path": request["path"],
            "request_id": request["id"],
            "extra_context": {"attempt": 1, "trace": self._cut(self._random.randint(50, 1_500))},
        }
