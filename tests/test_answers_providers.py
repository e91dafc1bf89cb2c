"""What is read of every provider's answers, whole and streamed."""

import json
from collections.abc import Iterator

import pytest

from spoolway.producer.answers import Answer, StreamReader
from tests.answer_bodies import STREAMS, WHOLES, Stream, Whole, chat_chunk, compact, gemini, sse

MAX_BYTES = 64 * 1024


def read(body: bytes) -> Answer:
    """A whole answer, read."""
    answer = Answer()
    answer.read(body)
    return answer


def pieces(stream: Stream) -> Iterator[Answer]:
    """One answer, as it is after each payload of the stream."""
    answer = Answer()
    reader = StreamReader(stream.form, MAX_BYTES)
    for payload in [*reader.feed(stream.body), *reader.close()]:
        answer.read_piece(payload)
        yield answer


def usage_columns(usage: object) -> dict[str, object]:
    """The token columns of an answer that says nothing but this usage."""
    columns = read(compact({"model": "m", "usage": usage})).columns()
    return {name: count for name, count in columns.items() if name.endswith("_tokens")}


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_a_whole_answer_fills_the_columns(whole: Whole) -> None:
    """Model, stop reason, tokens and the provider's own usage are read of every provider's answer."""
    answer = read(whole.body)

    assert whole.columns == answer.columns()
    assert whole.has_token == answer.has_token
    assert whole.problem == answer.problem
    assert answer.ended


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_stream_fills_the_columns(stream: Stream) -> None:
    """The same of a stream: the first token is seen where it is, the end not before the last."""
    answers = [(answer.has_token, answer.ended) for answer in pieces(stream)]
    *_, answer = pieces(stream)

    assert stream.columns == answer.columns()
    assert stream.token_at == [has_token for has_token, _ in answers].index(True)
    assert stream.problem == answer.problem
    assert answers[-1][1]
    assert not any(ended for _, ended in answers[:-1])


def test_what_is_read_is_json_and_has_the_provider_s_own_numbers() -> None:
    """usage_stats is the provider's object as it came, whatever the columns make of it."""
    for whole in WHOLES.values():
        stats = read(whole.body).columns()["usage_stats"]
        sent = json.loads(whole.body)
        last = sent[-1] if isinstance(sent, list) else sent
        assert stats == last.get("usage", last.get("usageMetadata", stats))


def test_of_several_choices_the_first_one_s_reason_counts() -> None:
    """With n > 1 the stop reason is that of choice 0, whichever ends first."""
    second = chat_chunk({}, "length")
    second["choices"][0]["index"] = 1
    answer = Answer()
    reader = StreamReader("sse", MAX_BYTES)
    for payload in reader.feed(sse(second, chat_chunk({}, "stop"), second, done=True)):
        answer.read_piece(payload)

    assert answer.columns()["stop_reason"] == "stop"


def test_a_stream_that_breaks_off_has_not_ended() -> None:
    """Without [DONE] and its like, an answer is not taken for complete."""
    for name, stream in STREAMS.items():
        reader = StreamReader(stream.form, MAX_BYTES)
        answer = Answer()
        for payload in reader.feed(stream.body)[:-1]:
            answer.read_piece(payload)
        assert not answer.ended, name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (2**64, None),
        (1e300, None),
        (-1, None),
        (1.5, None),
        (True, None),
        ("12", None),
        ([12], None),
        ({"n": 12}, None),
        (None, None),
    ],
)
def test_a_count_of_tokens_is_a_whole_number_that_the_column_holds(
    sent: object, kept: object
) -> None:
    """Anything else is unknown."""
    assert usage_columns({"prompt_tokens": sent}).get("prompt_tokens") == kept
    assert usage_columns({"input_tokens": sent}).get("prompt_tokens") == kept


def test_sums_that_no_column_holds_are_unknown() -> None:
    """Two counts that fit may have a sum that does not."""
    most = 2**63 - 1

    assert usage_columns({"input_tokens": most, "output_tokens": most}) == {
        "prompt_tokens": most,
        "completion_tokens": most,
    }
    assert usage_columns(
        {"input_tokens": most, "cache_read_input_tokens": 1, "output_tokens": 1}
    ) == {"completion_tokens": 1, "cached_tokens": 1}


def test_cached_tokens_are_added_only_where_they_are_left_out() -> None:
    """Anthropic's input_tokens are without the cached ones; who sends a total, has them in it."""
    cached = {"cache_read_input_tokens": 100, "cache_creation_input_tokens": 10}
    anthropic = {"input_tokens": 5, "output_tokens": 1, **cached}
    relayed = {"input_tokens": 115, "output_tokens": 1, "total_tokens": 116, **cached}

    for usage in (anthropic, relayed):
        assert usage_columns(usage) == {
            "prompt_tokens": 115,
            "completion_tokens": 1,
            "total_tokens": 116,
            "cached_tokens": 100,
        }


@pytest.mark.parametrize(
    ("usage", "prompt", "completion"),
    [
        ({"candidatesTokenCount": 25, "thoughtsTokenCount": 6, "totalTokenCount": 50}, 19, 31),
        ({"candidatesTokenCount": 25, "thoughtsTokenCount": 6, "totalTokenCount": 44}, 19, 25),
        ({"thoughtsTokenCount": 6, "totalTokenCount": 25}, 19, 6),
        ({"candidatesTokenCount": 2, "toolUsePromptTokenCount": 9, "totalTokenCount": 30}, 28, 2),
    ],
)
def test_gemini_s_thoughts_are_completion_once_and_its_tools_prompt(
    usage: dict[str, int], prompt: int, completion: int
) -> None:
    """Prompt and completion are the total, whether candidatesTokenCount has the thoughts in it or not."""
    columns = read(compact(gemini("Hi", "STOP", **usage))).columns()

    assert (columns["prompt_tokens"], columns["completion_tokens"]) == (prompt, completion)
    assert columns["total_tokens"] == prompt + completion


def test_usage_by_other_names_is_read() -> None:
    """Moonshot's cached_tokens and Cohere's billed units stand where others have details."""
    counted = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    assert usage_columns({**counted, "cached_tokens": 4})["cached_tokens"] == 4
    assert usage_columns({**counted, "reasoning_tokens": 1})["reasoning_tokens"] == 1
    assert usage_columns({"billed_units": {"input_tokens": 5, "output_tokens": 6}}) == {
        "prompt_tokens": 5,
        "completion_tokens": 6,
        "total_tokens": 11,
    }
    assert usage_columns({"total_tokens": 7}) == {"total_tokens": 7}
