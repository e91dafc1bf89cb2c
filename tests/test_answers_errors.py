"""Errors: of which type they are and what they say, and that nothing that is sent raises one."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.producer.answers import Answer, Ends, StreamReader, asked_of, problem_of
from tests.answer_bodies import STREAMS, WHOLES, compact

OBJECTS: dict[str, tuple[object, str | None, str]] = {
    "OpenAI": (
        {
            "error": {
                "message": "Incorrect API key provided: sk-1f0c.",
                "type": "invalid_request_error",
                "param": None,
                "code": "invalid_api_key",
            }
        },
        "invalid_request_error",
        "Incorrect API key provided: sk-1f0c.",
    ),
    "OpenAI without type": (
        {"error": {"message": "Too fast", "type": None, "code": "429"}},
        "429",
        "Too fast",
    ),
    "OpenRouter": (
        {"error": {"code": 402, "message": "Insufficient credits"}, "user_id": "u"},
        "402",
        "Insufficient credits",
    ),
    "Responses event": (
        {
            "type": "error",
            "code": "rate_limit_exceeded",
            "message": "Slow down",
            "param": None,
            "sequence_number": 1,
        },
        "rate_limit_exceeded",
        "Slow down",
    ),
    "Anthropic": (
        {
            "type": "error",
            "error": {"type": "not_found_error", "message": "model: claude-9"},
            "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
        },
        "not_found_error",
        "model: claude-9",
    ),
    "Gemini": (
        {
            "error": {
                "code": 429,
                "message": "Resource has been exhausted (e.g. check quota).",
                "status": "RESOURCE_EXHAUSTED",
                "details": [{"@type": "type.googleapis.com/google.rpc.QuotaFailure"}],
            }
        },
        "RESOURCE_EXHAUSTED",
        "Resource has been exhausted (e.g. check quota).",
    ),
    "Gemini in a list": (
        [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}],
        "INVALID_ARGUMENT",
        "API key not valid.",
    ),
    "Ollama": (
        {"error": "model 'llama9' not found"},
        None,
        "model 'llama9' not found",
    ),
    "text-generation-inference": (
        {"error": "Input validation error", "error_type": "validation"},
        "validation",
        "Input validation error",
    ),
    "vLLM": (
        {
            "object": "error",
            "message": "The model `x` does not exist.",
            "type": "NotFoundError",
            "param": None,
            "code": 404,
        },
        "NotFoundError",
        "The model `x` does not exist.",
    ),
    "without a message": ({"error": {"code": "E7"}}, "E7", '{"code":"E7"}'),
}


DETAILS: dict[str, tuple[object, str | None, str]] = {
    "FastAPI": ({"detail": "Not Found"}, None, "Not Found"),
    "FastAPI's validation": (
        {"detail": [{"loc": ["body"], "msg": "field required"}]},
        None,
        '[{"loc":["body"],"msg":"field required"}]',
    ),
    "FastAPI with an error": (
        {"detail": {"error": {"type": "auth_error", "message": "No key"}}},
        "auth_error",
        "No key",
    ),
}


@pytest.mark.parametrize(("error", "kind", "message"), DETAILS.values(), ids=DETAILS)
def test_a_detail_is_a_problem_of_a_failure_s_status(
    error: object, kind: str | None, message: str
) -> None:
    """As FastAPI has it. Without such a status, it is an answer like another."""
    answer = Answer()
    answer.read(compact(error))
    assert answer.problem is None
    assert problem_of(compact(error)) == {"error_type": kind, "error_message": message}


@pytest.mark.parametrize(("error", "kind", "message"), OBJECTS.values(), ids=OBJECTS)
def test_a_provider_s_error_is_a_problem(error: object, kind: str | None, message: str) -> None:
    """Whole or as a piece of a stream, which it ends; and for an answer with a failure's status."""
    problem = {"error_type": kind, "error_message": message}
    whole, streamed = Answer(), Answer()
    whole.read(json.dumps(error, indent=1).encode())
    streamed.read_piece(compact(error))

    assert [problem] * 3 == [whole.problem, streamed.problem, problem_of(compact(error))]
    assert streamed.ended


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [], "error": None},
        {"error": {}},
        {"error": ""},
        {"error": False},
        {"detail": "beside others", "id": 1},
        {"detail": "stored"},
        {"message": "Hello"},
        {"response": "text", "done": False},
        "plain text",
        ["error"],
        [],
        7,
    ],
)
def test_what_says_of_no_error_is_no_problem(answer: object) -> None:
    """An empty error field is none; a text may be what was asked for."""
    whole, streamed = Answer(), Answer()
    whole.read(compact(answer))
    streamed.read_piece(compact(answer))

    assert whole.problem is None
    assert streamed.problem is None


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (b"upstream connect error\n", None, "upstream connect error"),
        (b"<html>502 Bad Gateway</html>", None, "<html>502 Bad Gateway</html>"),
        (b'{"message": "invalid api token"}', None, "invalid api token"),
        (b'{"message": "no", "code": 7}', "7", "no"),
        (b'{"unknown": 1}', None, '{"unknown": 1}'),
        (b"\xff\xfe", None, "\ufffd\ufffd"),
        (b"x" * 10**7, None, "x" * 2_000),
        (b"", None, None),
    ],
)
def test_a_failed_answer_always_has_a_problem(
    body: bytes, kind: str | None, message: str | None
) -> None:
    """Its status has said that it failed: what is no known error object gives its text, not all."""
    assert problem_of(body) == {"error_type": kind, "error_message": message}


def test_the_first_error_of_a_stream_counts() -> None:
    """What comes after it is its consequence."""
    answer = Answer()
    for message in ("first", "second"):
        answer.read_piece(compact({"error": {"type": "t", "message": message}}))

    assert answer.problem == {"error_type": "t", "error_message": "first"}


# --- Nothing raises ---------------------------------------------------------------

NAMES = sorted(
    {
        name
        for body in [
            *(whole.body for whole in WHOLES.values()),
            *(s.body for s in STREAMS.values()),
        ]
        for name in set(body.replace(b"\\", b"").decode().split('"'))
        if name.isidentifier()
    }
    | {"detail", "stream", "metadata", "user_id", "safety_identifier", "error_type", "item", "part"}
)
"""All keys and types that bodies have, as keys and as values."""
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(NAMES)
    | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(NAMES), values, max_size=6)
    ),
    max_leaves=30,
)
DEEP = 1_000
NESTED = [
    b"[" * DEEP + b"]" * DEEP,
    b'{"error":' * DEEP + b"{}" + b"}" * DEEP,
    b'{"detail":' * DEEP + b"{}" + b"}" * DEEP,
    b'{"response":' * DEEP + b"{}" + b"}" * DEEP,
    b'{"detail":{"error":{"message":' + b"[" * DEEP + b"]" * DEEP + b"}}}",
    b'{"type":' + b"[" * DEEP + b"]" * DEEP + b"}",
    b'{"item":{"type":' + b"[" * DEEP + b"]" * DEEP + b'},"type":"response.output_item.added"}',
    b'{"usage":' + b'{"usage":' * DEEP + b"{}" + b"}" * DEEP + b"}",
    b"[" * 10**5,
]


def read_every_way(body: bytes) -> None:
    """Give the bytes to everything that reads some."""
    half = len(body) // 2
    readings: list[Callable[[Answer], object]] = [
        lambda answer: answer.read(body),
        lambda answer: answer.read_piece(body),
        lambda answer: answer.read_ends(body, body),
        lambda answer: answer.read_ends(body[:half], body[half + 1 :]),
        lambda answer: answer.read_piece(Ends(body[:half], body[half + 9 :], len(body))),
    ]
    for first in readings:
        answer = Answer()
        for reading in (first, *readings):
            reading(answer)
            check(answer)
    problem = problem_of(body)
    assert problem.keys() == {"error_type", "error_message"}
    for content_type in ("", "application/json", "multipart/form-data; boundary=b"):
        asked = asked_of(body, content_type, "/api/chat")
        assert isinstance(asked.model_name, str | None)
        assert isinstance(asked.user, str | None)


def check(answer: Answer) -> None:
    """Each column is of its type, whatever was read."""
    for name, value in answer.columns().items():
        if name.endswith("_tokens"):
            assert type(value) is int
            assert 0 <= value < 2**63
        else:
            assert isinstance(value, dict if name == "usage_stats" else str)
    for text in (answer.problem or {}).values():
        assert isinstance(text, str | None)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_without_an_error(body: bytes) -> None:
    """Whatever a client or a provider sends, the request goes on."""
    read_every_way(body)


@given(JSON)
def test_any_json_is_read_without_an_error(value: Any) -> None:
    """Also where every known key holds what it never should."""
    read_every_way(json.dumps(value).encode())


@given(st.sampled_from([*WHOLES.values()]), st.data())
def test_a_damaged_answer_is_read_without_an_error(whole: Any, data: st.DataObject) -> None:
    """A few bytes of a real one are other bytes."""
    body = bytearray(whole.body)
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), max_size=5)):
        body[at] = data.draw(st.integers(0, 255) | st.sampled_from(list(b'{}[]",:\\01')))
    read_every_way(bytes(body))


@pytest.mark.parametrize("body", NESTED, ids=range(len(NESTED)))
def test_deeply_nested_answers_are_read_without_an_error(body: bytes) -> None:
    """Deeper than Python's stack: nothing here recurses."""
    read_every_way(body)


@given(st.lists(st.binary(max_size=30)), st.integers(1, 50), st.sampled_from(["sse", "ndjson"]))
def test_any_bytes_are_split_without_an_error(parts: list[bytes], most: int, form: Any) -> None:
    """A stream may be no text at all."""
    reader = StreamReader(form, most)
    payloads = [payload for part in parts for payload in reader.feed(part)] + reader.close()

    for payload in payloads:
        if isinstance(payload, Ends):
            assert len(payload.head) + len(payload.tail) == most < payload.size
        else:
            assert 0 < len(payload) <= most
