"""Requests as a proxy records them, over a day: for the page, its numbers and its pictures."""

import asyncio
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from spoolway.worker.stores import Item
from tests.stores import Database, error, id_at, request

MODELS: Final = {
    # name: backend, ms, tokens in and out, cost of a million tokens, g CO2e of a thousand out
    "gpt-4o-mini": ("openai", 900, 640, 210, 0.4, 0.25),
    "claude-sonnet-4-5": ("anthropic", 2_600, 2_900, 480, 7.5, 0.9),
    "mistral-large-latest": ("mistral", 1_700, 1_100, 320, 3.4, 0.7),
    "llama-3.3-70b": ("vllm-paris", 1_250, 800, 260, None, None),
}
USERS: Final = ("amelie", "bao", "chidi", "dora", None)
FAULTS: Final = (
    ("rate_limit_error", "Rate limit reached for requests: try again in 7 s.", 429),
    ("overloaded_error", "The engine is overloaded.", 529),
    ("ReadTimeout", "no answer from the backend in 60 s", 504),
    ("context_length_exceeded", "This model's maximum context length is 128000 tokens.", 400),
)
QUESTION: Final = "How many of last week's orders came too late, and why?"
ANSWER: Final = (
    "31 of 412 orders came too late. 24 of them waited for one supplier, whose deliveries of "
    "the 14th were held at customs; the other 7 were sent to an address that had changed."
)


def traffic(now: datetime, count: int, *, seed: int = 7) -> Iterator[Item]:
    """Yield requests and errors of the last 22 hours, oldest first; the last failed a minute ago."""
    dice = random.Random(seed)
    names = list(MODELS)
    for number in range(count):
        share = (number + dice.random()) / count
        # More by day than by night.
        share += math.sin(share * 2 * math.pi) * 0.09
        moment = now - timedelta(hours=22) * (1 - share) - timedelta(minutes=2)
        model = dice.choices(names, (6, 3, 2, 1))[0]
        yield from _one(dice, moment, model, dice.random())
    # Its second attempt has failed 61 s after it came in: by now, and not in a moment.
    yield from failed(now - timedelta(seconds=65))


def _one(dice: random.Random, moment: datetime, model: str, luck: float) -> Iterator[Item]:
    backend, ms, tokens_in, tokens_out, price, carbon = MODELS[model]
    took = dice.lognormvariate(math.log(ms), 0.45)
    who = dice.choices(USERS, (5, 4, 2, 1, 1))[0]
    known: dict[str, Any] = {
        "request_time": moment,
        "model_name": model,
        "provider": backend,
        "path": "/v1/chat/completions",
        "method": "POST",
        "user_id": who,
        "api_key_id": f"key-{(who or 'none')[:1]}{len(who or ''):02}",
        "organization_id": "logistics" if who in ("amelie", "bao") else "research",
        "is_stream": dice.random() < 0.6,
        "duration_ms": round(took, 3),
    }
    if luck < 0.03:
        kind, message, status = dice.choice(FAULTS)
        item = request(
            id_at(moment), **known | {"outcome": "error", "http_status": status, "is_stream": False}
        )
        yield item
        yield error(
            item, timestamp=moment, model_name=model, error_type=kind, error_message=message,
            backend_name=backend, http_status=status,
        )  # fmt: skip
        return
    prompt, completion = (int(dice.gauss(n, n / 5)) for n in (tokens_in, tokens_out))
    known |= {
        "http_status": 200,
        "provider_model": f"{model}-2026-08-01",
        "stop_reason": "stop",
        "ttft_ms": round(took * dice.uniform(0.1, 0.3), 3),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "cached_tokens": prompt // 3,
        "outcome": "cancelled" if luck > 0.99 else None if luck > 0.985 else "success",
    }
    if price is not None and carbon is not None:
        known |= {
            "cost": (prompt + 4 * completion) * price / 1e6,
            "kwh_min": completion * carbon * 1e-6,
            "kwh_max": completion * carbon * 3e-6,
            "kgco2eq_min": completion * carbon * 4e-7,
            "kgco2eq_max": completion * carbon * 9e-7,
        }
    yield request(id_at(moment), **known)


def failed(moment: datetime) -> Iterator[Item]:
    """Yield a request that two backends have failed, with its errors."""
    first, second = moment + timedelta(milliseconds=41), moment + timedelta(milliseconds=61_200)
    attempts = [
        {
            "backend": "anthropic", "http_status": 529, "duration_ms": 38.2,
            "response": '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
            "error_type": "overloaded_error", "error_message": "Overloaded",
        },
        {
            "backend": "anthropic-eu", "duration_ms": 60_000.4,
            "error_type": "ReadTimeout", "error_message": "no answer from the backend in 60 s",
        },
    ]  # fmt: skip
    item = request(
        id_at(moment),
        request_time=moment,
        model_name="claude-sonnet-4-5",
        provider="anthropic-eu",
        path="/v1/messages",
        method="POST",
        user_id="amelie",
        api_key_id="key-a06",
        organization_id="logistics",
        is_stream=False,
        outcome="error",
        http_status=504,
        duration_ms=60_245.1,
        client_ip="10.20.4.17",
        headers={"content-type": "application/json", "authorization": "[redacted]"},
        body={"model": "claude-sonnet-4-5", "max_tokens": 800, **_tool_talk()},
        response={"error": {"type": "timeout_error", "message": "No backend answered in time."}},
        backend_attempts=attempts,
    )
    yield item
    for when, attempt in ((first, attempts[0]), (second, attempts[1])):
        yield error(
            item,
            timestamp=when,
            model_name="claude-sonnet-4-5",
            error_type=attempt["error_type"],
            error_message=attempt["error_message"],
            backend_name=attempt["backend"],
            http_status=attempt.get("http_status"),
        )


def answered(moment: datetime) -> Item:
    """Return a streamed request with a tool call, an answer and a cost that the worker filled in."""
    pieces = [ANSWER[at : at + 9] for at in range(0, len(ANSWER), 9)]
    chunk = {
        "id": "chatcmpl-71",
        "object": "chat.completion.chunk",
        "model": "gpt-4o-mini-2026-08-01",
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant"}, *({"content": one} for one in pieces)]
    return request(
        id_at(moment),
        request_time=moment,
        model_name="gpt-4o-mini",
        provider="openai",
        provider_model="gpt-4o-mini-2026-08-01",
        path="/v1/chat/completions",
        method="POST",
        user_id="bao",
        api_key_id="key-b03",
        organization_id="logistics",
        project_id="late-orders",
        is_stream=True,
        outcome="success",
        http_status=200,
        stop_reason="stop",
        duration_ms=2_412.6,
        ttft_ms=388.4,
        prompt_tokens=412,
        completion_tokens=58,
        total_tokens=470,
        cached_tokens=256,
        cost=0.0000966,
        kwh_min=2.1e-5,
        kwh_max=6.4e-5,
        kgco2eq_min=7.9e-6,
        kgco2eq_max=2.4e-5,
        client_ip="10.20.4.31",
        headers={"content-type": "application/json", "authorization": "[redacted]"},
        body={
            "model": "gpt-4o-mini",
            "stream": True,
            "temperature": 0.2,
            **_tool_talk(openai=True),
        },
        stream_chunks=[{**chunk, "choices": [{"index": 0, "delta": one}]} for one in deltas]
        + [{**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}],
        backend_attempts=[{"backend": "openai", "http_status": 200, "duration_ms": 371.0}],
    )


def _tool_talk(*, openai: bool = False) -> dict[str, Any]:
    given = {"week": 46, "late_only": True}
    found = '{"orders": 412, "late": 31, "causes": {"supplier": 24, "address": 7}}'
    if openai:
        call = {
            "id": "call_9",
            "type": "function",
            "function": {"name": "orders", "arguments": '{"week": 46, "late_only": true}'},
        }
        return {
            "messages": [
                {"role": "system", "content": "You answer questions about orders, in few words."},
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_9", "content": found},
            ],
            "tools": [{"type": "function", "function": {"name": "orders", "description": "Orders of a week."}}],
        }  # fmt: skip
    return {
        "system": "You answer questions about orders, in few words.",
        "messages": [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_9", "name": "orders", "input": given}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": found}]},
        ],
    }  # fmt: skip


def put(database: Database, *items: Item) -> None:
    """Write events as the worker does, in a thread that has no loop yet."""

    async def write() -> None:
        async with database.opened() as store:
            await store.write(items)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, write()).result()
