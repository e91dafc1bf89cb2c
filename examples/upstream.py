"""A built-in OpenAI-compatible upstream: the same question always gets the same answer.

    python -m examples.upstream --port 9000

No model, no network. The name of the model decides what happens; `GET /v1/models` lists them. What
stands below /backup/v1 is a second backend, which answers where the first is busy.
"""

import argparse
import asyncio
import json
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

SENTENCES: Final = (
    "A stream keeps what nobody has read yet, in the order in which it was written.",
    "Acknowledge after the commit, and a crash costs time but no event.",
    "One copy of a thousand rows is cheaper than a thousand inserts of one row.",
    "What cannot be stored is kept beside the database, with the reason why.",
)
BRANCH: Final = "backup"
PAUSE_S: Final = 0.01
"""Between two words of a stream."""
LONG_WORDS: Final = 300

FAILURES: Final = {
    "fail-400": (400, "invalid_request_error", "This model takes no such messages."),
    "fail-401": (401, "invalid_request_error", "Incorrect API key provided."),
    "fail-429": (429, "rate_limit_error", "Rate limit reached: try again in 1 s."),
    "fail-500": (500, "server_error", "The server had an error while processing your request."),
    "busy": (503, "overloaded_error", "The engine is overloaded."),
}
MODELS: Final = {
    "small": "answers in one sentence",
    "large": "answers in three sentences, and thinks before",
    "story": "answers at length: hang up in the middle of it",
    "slow": "says nothing until the client has lost its patience",
    "fail-midstream": "breaks off in the middle of a stream",
    **{name: f"answers {status}, {kind}" for name, (status, kind, _) in FAILURES.items()},
    "busy": "answers 503; the backup has time",
}


async def models(_request: Request) -> Response:
    """Return what models there are."""
    entries = [
        {"id": name, "object": "model", "created": 0, "owned_by": "examples", "description": what}
        for name, what in MODELS.items()
    ]
    return JSONResponse({"object": "list", "data": entries})


async def chat_completions(request: Request) -> Response:
    """Answer as the model's name says."""
    asked = await request.json()
    model = asked.get("model")
    if model not in MODELS:
        return _failed(404, "invalid_request_error", f"The model {model!r} does not exist.")
    if model == "slow":
        while (await request.receive())["type"] != "http.disconnect":
            pass
    if model in FAILURES and not (model == "busy" and BRANCH in request.url.path):
        return _failed(*FAILURES[model])
    answer = _Answer(model, asked.get("messages") or [])
    if not asked.get("stream"):
        return JSONResponse(answer.whole())
    with_usage = (asked.get("stream_options") or {}).get("include_usage") is True
    return StreamingResponse(answer.events(with_usage), media_type="text/event-stream")


class _Answer:
    """One answer, as a function of the model and the messages."""

    def __init__(self, model: str, messages: list[dict[str, Any]]) -> None:
        question = json.dumps(messages, sort_keys=True)
        number = zlib.crc32(question.encode())
        sentences = {"large": 3, "story": LONG_WORDS}.get(model, 1)
        text = " ".join(SENTENCES[(number + i) % len(SENTENCES)] for i in range(sentences))
        self._words = text.split()[:LONG_WORDS]
        self._model = model
        self._head = {
            "id": f"chatcmpl-{number:08x}",
            "created": int(time.time()),
            "model": f"{model}-2026-01-01",
        }
        prompt = len(question.split())
        reasoning = 8 if model == "large" else 0
        completion = len(self._words) + reasoning
        self._usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }

    def whole(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": " ".join(self._words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._head | {
            "object": "chat.completion",
            "choices": [choice],
            "usage": self._usage,
        }

    async def events(self, with_usage: bool) -> AsyncIterator[bytes]:
        yield self._event({"role": "assistant", "content": ""})
        for number, word in enumerate(self._words):
            await asyncio.sleep(PAUSE_S)
            yield self._event({"content": f" {word}" if number else word})
            if self._model == "fail-midstream" and number == len(self._words) // 2:
                problem = {"type": "server_error", "message": "The engine has crashed."}
                yield _sse({"error": problem})
                return
        yield self._event({}, "stop")
        if with_usage:
            yield _sse(self._chunk([]) | {"usage": self._usage})
        yield b"data: [DONE]\n\n"

    def _event(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        return _sse(self._chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}]))

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self._head | {"object": "chat.completion.chunk", "choices": choices}


def _sse(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _failed(status: int, kind: str, message: str) -> Response:
    headers = {"retry-after": "1"} if status == 429 else None
    problem = {"type": kind, "message": message, "param": None, "code": None}
    return JSONResponse({"error": problem}, status, headers)


ROUTES: Final = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
]
app = Starlette(routes=[*ROUTES, Mount(f"/{BRANCH}", routes=ROUTES)])


def main() -> None:
    """Run the upstream until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.upstream",
        description="An OpenAI-compatible upstream with fixed answers: no model, no network.",
    )
    parser.add_argument("--port", type=int, default=9000, help="on 127.0.0.1; 0 takes a free one")
    arguments = parser.parse_args()
    uvicorn.run(app, port=arguments.port, access_log=False, timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
