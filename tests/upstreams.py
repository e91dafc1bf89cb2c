"""An upstream that speaks as OpenAI and as Anthropic do, and knows what it has really sent.

The request's own `x-request-id` names it, here and in the proxy's record.
"""

import asyncio
import hashlib
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

WORDS = ["Überaus", "gern", "🎈", "lies", "the", "log", "日本", '\\u0041 "quoted"', "\n"]
FAILURES = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "server_error",
}


@dataclass(slots=True)
class Sent:
    """What one request was answered."""

    text: str = ""
    prompt: int = 0
    completion: int = 0
    cached: int = 0
    chunks: list[Any] = field(default_factory=list)
    size: int = 0
    sha256: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)


class Upstream:
    """The application, and what it sent by request id."""

    def __init__(self) -> None:
        self.sent: dict[str, Sent] = {}
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._openai, methods=["POST"]),
                Route("/v1/messages", self._anthropic, methods=["POST"]),
            ]
        )

    def _begin(self, request: Request, model: str) -> tuple[Sent, random.Random, int]:
        key = request.headers.get("x-request-id", "")
        chance = random.Random(key)
        sent = Sent(prompt=chance.randint(20, 5_000), cached=chance.randint(0, 20), completion=0)
        self.sent[key] = sent
        words = int(model.rpartition("-")[2]) if model[-1].isdigit() else 20
        return sent, chance, words

    async def _openai(self, request: Request) -> Response:
        asked = await request.json()
        model = asked["model"]
        sent, chance, words = self._begin(request, model)
        if model.startswith("fail-"):
            status = int(model.removeprefix("fail-"))
            error = {"type": FAILURES[status], "message": f"as asked: {status}", "code": None}
            return JSONResponse({"error": error}, status)
        texts = [chance.choice(WORDS) for _ in range(words)]
        if model.startswith("large"):
            texts = ["x" * 20_000] * words
        sent.text, sent.completion = "".join(texts), words
        usage = {
            "prompt_tokens": sent.prompt,
            "completion_tokens": words,
            "total_tokens": sent.prompt + words,
            "prompt_tokens_details": {"cached_tokens": sent.cached},
        }
        head = {"id": "chatcmpl-1", "created": 1, "model": f"{model}-served"}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": sent.text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return JSONResponse(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )

        def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> Any:
            choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
            return {**head, "object": "chat.completion.chunk", "choices": choices, **more}

        chunks = [chunk({"role": "assistant", "content": ""})]
        chunks += [chunk({"content": text}) for text in texts]
        chunks += [chunk({}, "stop"), {**chunk({}), "choices": [], "usage": usage}]
        events = [b"data: %s\n\n" % _json(one) for one in chunks]
        return self._stream(model, sent, chance, chunks, [*events, b"data: [DONE]\n\n"])

    async def _anthropic(self, request: Request) -> Response:
        asked = await request.json()
        model = asked["model"]
        sent, chance, words = self._begin(request, model)
        texts = [chance.choice(WORDS) for _ in range(words)]
        sent.text, sent.completion = "".join(texts), words
        usage = {
            "input_tokens": sent.prompt - sent.cached,
            "cache_read_input_tokens": sent.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": words,
        }
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": f"{model}-served",
            "content": [{"type": "text", "text": sent.text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        if not asked.get("stream"):
            return JSONResponse(message)
        start = {
            **message,
            "content": [],
            "stop_reason": None,
            "usage": {**usage, "output_tokens": 1},
        }
        chunks: list[Any] = [
            {"type": "message_start", "message": start},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {"type": "ping"},
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": text},
                }
                for text in texts
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": words},
            },
            {"type": "message_stop"},
        ]
        events = [b"event: %s\ndata: %s\n\n" % (c["type"].encode(), _json(c)) for c in chunks]
        return self._stream(model, sent, chance, chunks, events)

    def _stream(
        self, model: str, sent: Sent, chance: random.Random, chunks: list[Any], events: list[bytes]
    ) -> Response:
        whole = b"".join(events)
        sent.chunks, sent.size = chunks, len(whole)
        sent.sha256 = hashlib.sha256(whole).hexdigest()
        parts = _cut(whole, chance) if model.startswith("cut") else iter(events)

        async def sending() -> AsyncIterator[bytes]:
            try:
                for number, part in enumerate(parts):
                    yield part
                    if model.startswith("endless") and number == 3:
                        await asyncio.Event().wait()
                    if model.startswith("cut"):
                        await asyncio.sleep(0)
            finally:
                sent.cancelled.set()

        return StreamingResponse(sending(), media_type="text/event-stream")


def _cut(whole: bytes, chance: random.Random) -> Iterator[bytes]:
    """Cut anywhere: in a line, in a character, between CR and LF."""
    cuts = sorted(chance.sample(range(1, len(whole)), min(60, len(whole) - 1)))
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        yield whole[start:end]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
