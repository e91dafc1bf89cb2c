"""What clients ask and what the upstream answers: the same bytes in every run.

Half of the requests ask for a stream. An answer is the same whichever request it is for: all that
is random is the order, and that is from a seed.
"""

import random
from collections.abc import Iterator
from typing import Any, Final

import orjson

from benchmarks.events import KIB, Events, raw_headers

PATH: Final = "/v1/chat/completions"
ANSWER_CHARS: Final = 1_700
"""Of text, in an answer of about 2 KB."""
CHUNKS: Final = 40
"""Of a stream, with text in them; before and behind them are those that every stream has."""
REQUEST_BYTES: Final = 4 * KIB
_BODIES: Final = 32
"""Different requests. One alone would be packed to nothing."""
_STREAMS: Final = b'"stream":true'

_USAGE: Final = {"prompt_tokens": 812, "completion_tokens": 40, "total_tokens": 852}
_HEAD: Final = {"id": "chatcmpl-9f3c", "created": 1_769_900_000, "model": "gpt-4o-2024-11-20"}


def asks_for_stream(body: bytes) -> bool:
    """Tell whether this is a request for a stream."""
    return body.startswith(_STREAMS, 1)


def requests(*, is_stream: bool, host: str) -> list[bytes]:
    """Return requests as they go over the wire, headers and all; about 4 KB of body each."""
    return [_on_the_wire(body, host) for body in _bodies(is_stream)]


def kinds(seed: int) -> Iterator[bool]:
    """Yield, without an end, whether the next request is for a stream: half of any ten are."""
    chance = random.Random(seed)
    ten = [True, False] * 5
    while True:
        chance.shuffle(ten)
        yield from ten


def whole_answer() -> bytes:
    """Return a chat completion in one piece: JSON."""
    message = {"role": "assistant", "content": _text(ANSWER_CHARS)}
    return orjson.dumps(
        {
            **_HEAD,
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )


def stream_events() -> list[bytes]:
    """Return a chat completion as server-sent events, one text each."""
    text = _text(ANSWER_CHARS)
    size = -(-len(text) // CHUNKS)
    texts = [text[start : start + size] for start in range(0, len(text), size)]
    chunks = [
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": text}) for text in texts),
        _chunk({}, "stop"),
        {**_chunk({}), "choices": [], "usage": _USAGE},
    ]
    return [b"data: %s\n\n" % orjson.dumps(chunk) for chunk in chunks] + [b"data: [DONE]\n\n"]


def _bodies(is_stream: bool) -> Iterator[bytes]:
    events = iter(Events(8 * KIB))
    for _ in range(_BODIES):
        event = next(events)
        text = event["body"]["messages"][-1]["content"]
        stream: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        prompt = {"role": "system", "content": "Answer as briefly as you can."}
        fields: dict[str, Any] = {
            **(stream if is_stream else {}),
            "model": event["model_name"],
            "temperature": 0.2,
            "user": event["user_id"],
            "messages": [prompt, {"role": "user", "content": ""}],
        }
        room = REQUEST_BYTES - len(orjson.dumps(fields))
        fields["messages"][-1]["content"] = text[:room]
        yield orjson.dumps(fields)


def _on_the_wire(body: bytes, host: str) -> bytes:
    headers = raw_headers(next(iter(Events(4 * KIB))))["headers"]
    named = {**headers, "host": host, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body


def _text(length: int) -> str:
    event = next(iter(Events(8 * KIB)))
    text: str = event["body"]["messages"][-1]["content"]
    return text[:length]


def _chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {**_HEAD, "object": "chat.completion.chunk", "choices": [choice]}
