"""Events as a proxy sends them: a chat request of a given size, with its answer and its numbers.

Made from a seed, so that every run measures the same events but for their ids and times. What
makes up their size is text: words of a natural distribution, system prompts that come again, ids,
numbers and code. It compresses about as well as real logs do; the report says how well.
"""

import random
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, Final

from spoolway.producer import REDACTED
from spoolway.schema import encode_line, new_id

Fields = dict[str, Any]

SEED: Final = 20_260_131
KIB: Final = 1024
RICH_FROM: Final = 2 * KIB
"""Smaller events have fewer headers and no answer: their columns alone would fill them."""
_RESERVOIR_CHARS: Final = 8 * KIB * KIB
"""Text to cut from: so much that events of one frame hardly ever share a passage."""

_COMMON: Final = """
the of and to in a is that for it as was with be by on not he i this are or his from at which but
have an had they you were their one all we can her has there been if more when will would who so
no out up into than them time only some could these two may then do first any my now such like our
over man me even most made after also did many before must through back years where much your way
well down should because each just those people how too little state good very make world still own
see men work long get here between both life being under never day same another know while last
might us great old year off come since against go came right used take three request response model
function return value error server data table column index query token stream message user system
please write explain list example python code class test file line number string object result
""".split()  # noqa: SIM905 - a paragraph reads better than 200 quoted words
_SYLLABLES: Final = [
    "ta",
    "re",
    "mi",
    "lo",
    "con",
    "ver",
    "der",
    "sti",
    "pro",
    "ma",
    "ni",
    "ra",
    "tor",
    "ple",
    "ex",
    "in",
    "un",
    "al",
    "ment",
    "ing",
    "tion",
    "er",
    "is",
    "or",
    "an",
    "el",
    "ca",
    "de",
    "po",
    "si",
    "ur",
    "qua",
    "ber",
    "fo",
    "gen",
    "ki",
    "lum",
    "na",
    "os",
    "pe",
]
_MODELS: Final = (
    ("gpt-4o", "openai", "gpt-4o-2024-11-20"),
    ("gpt-4o-mini", "openai", "gpt-4o-mini-2024-07-18"),
    ("claude-sonnet", "anthropic", "claude-sonnet-4-20250514"),
    ("llama-3.3-70b", "vllm", "meta-llama/Llama-3.3-70B-Instruct"),
    ("mistral-large", "mistral", "mistral-large-2411"),
)
_AGENTS: Final = ("OpenAI/Python 2.7.1", "OpenAI/JS 6.3.0", "langchain/0.3.27", "curl/8.14.1")


class Events:
    """An endless supply of request events, all of about the same size in bytes of JSON."""

    def __init__(self, size: int, seed: int = SEED) -> None:
        self._size = size
        self._random = random.Random(seed)
        self._text = _reservoir()
        self._prompts = [self._cut(self._random.randint(150, 500)) for _ in range(12)]
        # Everything but the text, measured: the text is what is left of the size.
        self._plain = {
            is_rich: len(encode_line(self._filled(0, is_rich=is_rich))) for is_rich in (False, True)
        }

    def __iter__(self) -> Iterator[Fields]:
        """Yield events, each with an id of its own, as dicts of Python values."""
        while True:
            yield self.request(self._size)

    def request(self, size: int) -> Fields:
        """Return one of about this size."""
        is_rich = size >= RICH_FROM
        return self._filled(max(size - self._plain[is_rich], 0), is_rich=is_rich)

    def _filled(self, text: int, *, is_rich: bool) -> Fields:
        """Return an event with this many characters of text, divided as in a chat."""
        event = self._columns()
        if not is_rich:
            event["body"] = self._body("", text)
            return event
        prompt = self._random.choice(self._prompts) if text else ""
        question = max(text - len(prompt), 0) * 6 // 10
        answer = max(text - len(prompt) - question, 0)
        event["body"] = self._body(prompt, question)
        event["headers"] |= self._more_headers()
        self._answer(event, answer)
        event["route"] = {
            "rule": f"{event['provider']}-eu",
            "candidates": [event["provider"], "fallback"],
            "sticky": False,
        }
        event["backend_attempts"] = [
            {
                "backend": f"{event['provider']}-{self._random.randint(1, 4)}",
                "status": 200,
                "ms": event["duration_ms"],
            }
        ]
        event["usage_stats"] = {
            "prompt_tokens": event["prompt_tokens"],
            "completion_tokens": event["completion_tokens"],
            "total_tokens": event["total_tokens"],
        }
        return event

    def _columns(self) -> Fields:
        rng = self._random
        model, provider, provider_model = rng.choice(_MODELS)
        prompt_tokens, completion_tokens = rng.randint(20, 3_000), rng.randint(5, 1_200)
        duration = round(rng.lognormvariate(7, 0.7), 3)
        return {
            "type": "request",
            "id": new_id(),
            "request_time": datetime.now(UTC) - timedelta(milliseconds=duration),
            "model_name": model,
            "is_stream": rng.random() < 0.5,
            "path": "/v1/chat/completions",
            "method": "POST",
            "headers": {
                "content-type": "application/json",
                "user-agent": rng.choice(_AGENTS),
                "authorization": REDACTED,
            },
            "outcome": "success",
            "duration_ms": duration,
            "request_id": f"req_{self._token(24)}",
            "http_status": 200,
            "provider": provider,
            "provider_model": provider_model,
            "stop_reason": "stop",
            "ttft_ms": round(duration / 5, 3),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "cost": round(prompt_tokens * 2.5e-6 + completion_tokens * 1e-5, 8),
            "user_id": f"user-{rng.randint(1, 5_000)}",
            "api_key_id": f"key_{rng.randint(1, 200):04d}",
            "client_ip": f"10.{rng.randint(0, 31)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
        }

    def _body(self, prompt: str, question: int) -> Fields:
        messages = [{"role": "user", "content": self._cut(question)}]
        if prompt:
            messages.insert(0, {"role": "system", "content": prompt})
        return {"messages": messages, "temperature": self._random.choice((0, 0.2, 0.7, 1))}

    def _more_headers(self) -> Fields:
        return {
            "accept": "application/json",
            "accept-encoding": "gzip, deflate, br, zstd",
            "host": "llm-proxy.internal.example",
            "x-request-id": self._token(32),
            "x-stainless-retry-count": "0",
        }

    def _answer(self, event: Fields, size: int) -> None:
        """Give it an answer of this many characters."""
        event["response"] = {
            "id": f"chatcmpl-{self._token(29)}",
            "object": "chat.completion",
            "model": event["provider_model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": self._cut(size)},
                    "finish_reason": "stop",
                }
            ],
        }

    def _token(self, length: int) -> str:
        return "".join(self._random.choices(string.ascii_letters + string.digits, k=length))

    def _cut(self, length: int) -> str:
        start = self._random.randrange(len(self._text) - length)
        return self._text[start : start + length]


def raw_headers(event: Fields) -> Fields:
    """Return the event as the proxy holds it: with the secret still in its headers."""
    secret = {"authorization": f"Bearer sk-proj-{event['request_id']}"}
    return {**event, "headers": {**event["headers"], **secret}}


@cache
def _reservoir() -> str:
    """Return text: Zipf's words, sentences, paragraphs, now and then a number or a line of code."""
    rng = random.Random(SEED)
    rare = ["".join(rng.choices(_SYLLABLES, k=rng.randint(2, 5))) for _ in range(8_000)]
    words = [*_COMMON, *rare]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))
    chosen = rng.choices(words, cum_weights=weights, k=_RESERVOIR_CHARS // 5)
    ends = [0]
    while ends[-1] < len(chosen):
        ends.append(ends[-1] + rng.randint(5, 18))
    sentences = (" ".join(chosen[start:end]) for start, end in pairwise(ends))
    return "".join(f"{sentence}{_end(rng)}" for sentence in sentences)


def _end(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.75:
        return ". "
    if kind < 0.85:
        return ".\n\n"
    if kind < 0.92:
        return f" ({rng.randint(1, 99_999)}). "
    if kind < 0.97:
        return f'?\n- "{rng.randint(1, 9)}": '
    return f"\n    return self.{rng.choice(_COMMON)}[{rng.randint(0, 64)}]\n"
