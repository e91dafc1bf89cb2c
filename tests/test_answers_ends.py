"""Whole answers of which only the first and the last bytes are there, or that are broken."""

import json
import time
from typing import Any

import pytest

from spoolway.producer.answers import Answer
from tests.answer_bodies import (
    ANTHROPIC,
    CHAT,
    COHERE,
    EMBEDDINGS,
    GEMINI,
    GEMINI_LIST,
    OLLAMA,
    OLLAMA_EMBED,
    RESPONSES,
    WHOLES,
    Whole,
    compact,
)

HEAD, TAIL = 64 * 1024, 16 * 1024
SAYS_MODEL_BEFORE_CONTENT = (CHAT, ANTHROPIC, RESPONSES, OLLAMA)


def read_ends(head: bytes, tail: bytes) -> Answer:
    """An answer of which only these are known."""
    answer = Answer()
    answer.read_ends(head, tail)
    return answer


def longer(whole: Whole, text: str) -> bytes:
    """The answer with a long text, list of numbers or picture as its content."""

    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                name: text
                if name in {"text", "content"} and isinstance(inner, str)
                else grown(inner)
                for name, inner in value.items()
            }
        return [grown(inner) for inner in value] if isinstance(value, list) else value

    return compact(grown(json.loads(whole.body)))


QUOTED = 'She said: {"usage":{"prompt_tokens":1},"model":"liar"},"usage":{"total_tokens":1} \\ '
LONG_TEXTS = {"plain": "Grüße 𝄞 ", "quoted": QUOTED, "numbers": '{"a":[1,2,{"b":"c"}]},'}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize(
    "whole",
    [CHAT, RESPONSES, ANTHROPIC, GEMINI, GEMINI_LIST, OLLAMA, COHERE],
    ids=["chat", "responses", "anthropic", "gemini", "gemini-list", "ollama", "cohere"],
)
def test_the_ends_of_a_long_answer_say_what_the_whole_says(whole: Whole, text: str) -> None:
    """Also where the text itself looks like an answer, and wherever in it the ends are cut."""
    body = longer(whole, text * 2_000)
    for more in range(40):
        answer = read_ends(body[: 4_000 + more], body[-4_000 - more :])
        assert whole.columns == answer.columns()


@pytest.mark.parametrize("indent", [None, 2])
def test_the_ends_of_40_mb_of_embeddings_have_model_and_usage(indent: int | None) -> None:
    """OpenAI's usage comes after all the numbers; neither takes long to find."""
    content = json.loads(EMBEDDINGS.body)
    content["data"] = [
        {"object": "embedding", "index": n, "embedding": [0.0023064255 + n / 1e7] * 1_536}
        for n in range(20)
    ]
    body = json.dumps(content, indent=indent).encode()
    at = body.index(b"]") + 1  # the end of the first list of numbers
    head, tail = body[:at], body[at:]
    middle = b', {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}' * (40 * 2**20 // 62)
    whole = head + b"}" + middle + tail[tail.index(b"}") + 1 :]
    assert len(whole) > 40e6

    started = time.process_time()
    answer = read_ends(whole[:HEAD], whole[-TAIL:])
    took = time.process_time() - started

    assert EMBEDDINGS.columns == answer.columns()
    assert not answer.has_token
    assert took < 0.5


def test_the_ends_of_ollama_s_embeddings_have_model_and_usage() -> None:
    """The model comes first, the counts come last."""
    content = json.loads(OLLAMA_EMBED.body)
    content["embeddings"] = [[0.010071029, -0.0017594862] * 400] * 20
    body = compact(content)

    assert OLLAMA_EMBED.columns == read_ends(body[:5_000], body[-5_000:]).columns()


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_ends_that_are_all_of_an_answer_are_read_as_the_whole(whole: Whole) -> None:
    """Where nothing is missing between them, nothing is unknown."""
    for cut in range(len(whole.body) + 1):
        answer = read_ends(whole.body[:cut], whole.body[cut:])
        assert whole.columns == answer.columns()
        assert whole.has_token == answer.has_token


def test_what_a_tool_is_called_with_is_not_taken_for_usage() -> None:
    """Keys count at their level only: arguments are JSON that may have any."""
    message = json.loads(ANTHROPIC.body)
    arguments = {"x": "y" * 9_000, "usage": {"input_tokens": 1}, "model": "liar", "status": "liar"}
    message["content"] = [{"type": "tool_use", "id": "t", "name": "f", "input": arguments}] * 2
    body = compact(message)

    for more in range(300):
        answer = read_ends(body[:1_000], body[-500 - more :])
        assert ANTHROPIC.columns == answer.columns()


def test_a_broken_answer_says_what_it_said_until_it_broke() -> None:
    """A body that was cut off has its model; that it has not ended is seen."""
    for whole in SAYS_MODEL_BEFORE_CONTENT:
        body = longer(whole, "long " * 100)
        answer = Answer()
        answer.read(body[: len(body) // 2])
        assert whole.columns["provider_model"] == answer.columns()["provider_model"]
        assert not answer.ended


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_no_broken_answer_says_what_the_whole_does_not(whole: Whole) -> None:
    """Cut off at every byte, it says the same or less; and never raises."""
    for end in range(len(whole.body)):
        answer = Answer()
        answer.read(whole.body[:end])
        for name in ("provider_model", "total_tokens", "stop_reason"):
            said = answer.columns().get(name)
            # A list's earlier chunks have earlier counts.
            assert said in {None, whole.columns.get(name)} or whole is GEMINI_LIST


def test_json_with_a_number_that_is_none_says_what_is_beside_it() -> None:
    """Some servers write NaN: the answer is no JSON, and its usage is there all the same."""
    body = CHAT.body.replace(b'"logprobs": null', b'"logprobs": NaN')
    answer = Answer()
    answer.read(body)

    assert body != CHAT.body
    assert CHAT.columns == answer.columns()


def test_ends_made_to_be_slow_are_not() -> None:
    """The number of tries is bounded, whatever a provider sends."""
    hostile = [
        (b'{"a":1' + b',"usage":1' * 8_000, b',"usage":{"model":1' * 1_000),
        (b"[" * HEAD, b"]" * TAIL),
        (b'{"a":' * 10_000, b',"usage":' * 1_800),
        (b'{"' + b"\\" * HEAD, b"\\" * TAIL),
        (b'{"a":1' + b',"' + b" " * HEAD, b"," + b" " * TAIL),
        (b'{"a":1' + b", " * (HEAD // 2), b", " * (TAIL // 2)),
    ]
    for head, tail in hostile:
        started = time.process_time()
        read_ends(head, tail)
        assert time.process_time() - started < 0.5
