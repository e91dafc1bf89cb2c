"""What is recorded of each kind of request through LiteLLM's proxy."""

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from spoolway.schema import ErrorEvent, RequestEvent
from tests.litellm.conftest import KEY, Asked
from tests.litellm.servers import Upstream
from tests.pushed import events, json_of
from tests.servers import ValkeyServer, eventually
from tests.workers import WorkerProcess, count, drained, ending, rows

pytestmark = pytest.mark.litellm

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Why in batches?"}]


def attempts_of(request: RequestEvent) -> list[dict[str, Any]]:
    """Its `backend_attempts`, without what differs from run to run."""
    return [
        {name: attempt.get(name) for name in ("backend", "model_group", "outcome", "http_status")}
        for attempt in json_of(request.backend_attempts)
    ]


def failed(backend: str, group: str, status: int) -> dict[str, Any]:
    """An attempt that failed."""
    return {
        "backend": backend, "model_group": group, "outcome": "error", "http_status": status
    }  # fmt: skip


def test_a_request_is_recorded_as_the_upstream_answered_it(
    asked: Asked, upstream: Upstream
) -> None:
    """Usage, cost, ids and content are those that upstream, price list and key say."""
    answer = asked.client().chat.completions.create(
        model="small", messages=QUESTION, user="dora", temperature=0.5
    )
    assert answer.usage is not None

    request = asked.request()
    assert (request.outcome, request.http_status) == ("success", 200)
    assert (request.model_name, request.provider) == ("small", "openai")
    assert (request.provider_model, request.stop_reason) == ("small", "stop")
    assert request.prompt_tokens == answer.usage.prompt_tokens
    assert request.completion_tokens == answer.usage.completion_tokens
    assert request.total_tokens == answer.usage.total_tokens
    assert answer.usage.prompt_tokens_details is not None
    assert request.cached_tokens == answer.usage.prompt_tokens_details.cached_tokens
    assert request.cost == pytest.approx(
        0.001 * answer.usage.prompt_tokens + 0.002 * answer.usage.completion_tokens
    )
    assert (request.is_stream, request.ttft_ms) == (False, None)
    assert request.duration_ms is not None
    assert request.duration_ms > 0
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.client_ip == "127.0.0.1"
    assert (request.user_id, request.organization_id) == ("dora", "org-1")
    assert request.project_id == "team-1"
    assert request.api_key_id == hashlib.sha256(KEY.encode()).hexdigest()
    assert json_of(request.extra)["litellm_key"]["alias"] == "tests"
    assert json_of(request.headers)["x-litellm-call-id"] == asked.id
    body = json_of(request.body)
    assert body["messages"] == QUESTION
    assert body["temperature"] == 0.5
    assert json_of(request.response)["choices"][0]["message"]["content"] == (
        answer.choices[0].message.content
    )
    assert json_of(request.route)["api_base"] == f"{upstream.url}/v1"
    [attempt] = json_of(request.backend_attempts)
    assert (attempt["backend"], attempt["outcome"]) == ("openai/small", "success")
    assert asked.errors(request) == []


def test_a_stream_is_recorded_when_it_has_ended(asked: Asked) -> None:
    """With the time of its first token, and the usage that its last chunk told."""
    stream = asked.client().chat.completions.create(
        model="large", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    [usage] = [chunk.usage for chunk in stream if chunk.usage]
    assert usage.prompt_tokens_details is not None

    request = asked.request()
    assert (request.outcome, request.is_stream, request.stop_reason) == ("success", True, "stop")
    assert request.ttft_ms is not None
    assert request.duration_ms is not None
    assert 0 < request.ttft_ms < request.duration_ms
    assert request.total_tokens == usage.total_tokens
    assert request.cached_tokens == usage.prompt_tokens_details.cached_tokens
    assert request.reasoning_tokens == 8
    assert request.cost is None


@pytest.mark.parametrize("stream", [False, True])
def test_retries_and_a_fallback_are_attempts_of_one_request(asked: Asked, stream: bool) -> None:
    """What a backend answers in the end is a success; each that failed before is an error."""
    answer = asked.client().chat.completions.create(model="busy", messages=QUESTION, stream=stream)
    if stream:
        assert list(answer)

    request = asked.request()
    assert (request.outcome, request.model_name) == ("success", "busy")
    assert json_of(request.route)["model_group"] == "backup"
    assert attempts_of(request) == [
        failed("openai/busy", "busy", 503),
        failed("openai/busy", "busy", 503),
        {"backend": "openai/busy", "model_group": "backup", "outcome": "success",
         "http_status": None},
    ]  # fmt: skip
    durations = [attempt["duration_ms"] for attempt in json_of(request.backend_attempts)]
    assert request.duration_ms is not None
    assert 0 < sum(durations) < request.duration_ms
    errors = asked.errors(request)
    assert [(e.error_type, e.http_status) for e in errors] == [("ServiceUnavailableError", 503)] * 2
    assert errors[0].request_path == "/v1/chat/completions"
    assert "overloaded" in (errors[0].error_message or "")


def test_a_request_that_no_backend_answered_is_an_error(asked: Asked) -> None:
    """With an error for each attempt, and none more for what the client was told."""
    with pytest.raises(openai.InternalServerError):
        asked.client().chat.completions.create(model="fail-500", messages=QUESTION)

    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", 500)
    assert attempts_of(request) == [failed("openai/fail-500", "fail-500", 500)] * 2
    assert len(asked.errors(request)) == 2
    assert (request.total_tokens, request.cost, request.provider_model) == (None, None, None)
    assert json_of(request.body)["messages"] == QUESTION
    assert request.duration_ms is not None
    assert request.duration_ms >= sum(a["duration_ms"] for a in json_of(request.backend_attempts))


def test_a_backend_that_refuses_the_request_is_asked_once(asked: Asked) -> None:
    """An error of the client's is one attempt, and one error."""
    with pytest.raises(openai.BadRequestError):
        asked.client().chat.completions.create(model="fail-400", messages=QUESTION)

    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", 400)
    assert attempts_of(request) == [failed("openai/fail-400", "fail-400", 400)]
    [error] = asked.errors(request)
    assert (error.error_type, error.backend_name) == ("BadRequestError", "openai/fail-400")


def test_calls_inside_of_calls_are_one_attempt(asked: Asked) -> None:
    """LiteLLM answers Anthropic's clients by a call inside of a call, which both fail."""
    answer = httpx.post(
        f"{asked.url}/messages",
        headers={"x-api-key": KEY, "x-litellm-call-id": asked.id},
        json={"model": "fail-500", "max_tokens": 9, "messages": QUESTION},
        timeout=30,
    )
    assert answer.status_code >= 400

    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", answer.status_code)
    assert request.path == "/v1/messages"
    assert attempts_of(request) == [failed("openai/fail-500", "fail-500", 500)] * 2
    assert len(asked.errors(request)) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "model", "question"),
    [
        ("/chat/completions", "bridged", {"messages": QUESTION}),
        ("/completions", "gpt-4o", {"prompt": "Why in batches?"}),
        ("/responses", "bridged", {"input": "Why in batches?"}),
        ("/messages", "bridged", {"max_tokens": 99, "messages": QUESTION}),
        ("/embeddings", "text-embedding-3-small", {"input": ["Why in batches?"]}),
    ],
)
def test_a_request_to_any_endpoint_is_recorded_once(
    asked: Asked, path: str, model: str, question: dict[str, Any], stream: bool
) -> None:
    """Whatever LiteLLM makes of it inside, with the tokens that it counts and what they cost."""
    if stream and path == "/embeddings":
        return
    answer = httpx.post(
        f"{asked.url}{path}",
        headers={"authorization": f"Bearer {KEY}", "x-litellm-call-id": asked.id},
        json={"model": model, "stream": stream, **question},
        timeout=30,
    )
    assert answer.is_success, answer.text

    request = asked.request()
    assert (request.outcome, request.http_status) == ("success", 200)
    assert (request.path, request.model_name) == (f"/v1{path}", model)
    assert request.is_stream is stream
    assert request.prompt_tokens
    assert request.cost
    assert "Why in batches?" in str(json_of(request.body))
    assert len(json_of(request.backend_attempts)) == 1


def test_a_model_that_does_not_exist_is_recorded(asked: Asked) -> None:
    """What the proxy refuses itself is a request and an error, without an attempt."""
    with pytest.raises(openai.BadRequestError):
        asked.client().chat.completions.create(model="nonesuch", messages=QUESTION)

    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", 400)
    assert (request.model_name, request.project_id) == ("nonesuch", "team-1")
    assert bytes(request.backend_attempts) == b""
    [error] = asked.errors(request)
    assert (error.http_status, error.backend_name) == (400, None)
    assert "nonesuch" in (error.error_message or "")


def test_a_key_above_its_rate_is_recorded(asked: Asked) -> None:
    """A limit of the proxy's own is an error of the request that it refuses."""
    client = asked.client("sk-once-a-minute-0c4f11ab")
    client.chat.completions.create(model="small", messages=QUESTION)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="small", messages=QUESTION)

    first, second = sorted(asked.requests(2), key=lambda request: request.http_status or 0)
    assert (first.outcome, first.http_status) == ("success", 200)
    assert (second.outcome, second.http_status) == ("error", 429)
    assert second.model_name == "small"
    assert bytes(second.backend_attempts) == b""
    assert [error.http_status for error in asked.errors(second)] == [429]


def test_a_wrong_key_is_recorded(asked: Asked, valkey: ValkeyServer) -> None:
    """Without the key. LiteLLM has not read the client's id yet: it mints one of its own."""
    with pytest.raises(openai.AuthenticationError):
        asked.client("sk-of-nobody").chat.completions.create(model="small", messages=QUESTION)

    asked.id = _only_request_id(valkey)
    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", 401)
    assert (request.model_name, request.path) == ("small", "/v1/chat/completions")
    assert [error.http_status for error in asked.errors(request)] == [401]


def _only_request_id(valkey: ValkeyServer) -> str:
    [request] = eventually(
        lambda: [event for event in events(valkey) if isinstance(event, RequestEvent)]
    )
    assert request.request_id is not None
    return request.request_id


def test_a_key_that_litellm_does_not_hash_is_hashed(asked: Asked) -> None:
    """Authentication of one's own may give LiteLLM a key where it expects a hash."""
    key = "not-hashed-by-litellm-91d2"
    asked.client(key).chat.completions.create(model="small", messages=QUESTION)

    assert asked.request().api_key_id == hashlib.sha256(key.encode()).hexdigest()


def test_a_stream_that_breaks_off_is_an_error(asked: Asked) -> None:
    """Its status is the one that the client saw; its error has the backend's."""
    with pytest.raises(openai.APIError, match="crashed"):
        list(
            asked.client().chat.completions.create(
                model="fail-midstream", messages=QUESTION, stream=True
            )
        )

    request = asked.request()
    assert (request.outcome, request.http_status) == ("error", 200)
    assert request.ttft_ms is not None
    [attempt] = json_of(request.backend_attempts)
    assert (attempt["backend"], attempt["outcome"]) == ("openai/fail-midstream", "error")
    [error] = asked.errors(request)
    assert error.http_status == 500


def test_a_client_that_hangs_up_in_a_stream_cancels_it(asked: Asked) -> None:
    """What had been answered until then is recorded, without a reason to stop."""
    with asked.client().chat.completions.create(
        model="story", messages=QUESTION, stream=True
    ) as stream:
        text = [chunk.choices[0].delta.content for _, chunk in zip(range(20), stream, strict=False)]

    request = asked.request()
    assert (request.outcome, request.stop_reason) == ("cancelled", None)
    answer = json_of(request.response)["choices"][0]["message"]["content"]
    assert answer.startswith("".join(part or "" for part in text[:10]))
    assert [attempt["outcome"] for attempt in json_of(request.backend_attempts)] == ["cancelled"]
    assert asked.errors(request) == []


@pytest.mark.parametrize(("model", "stream"), [("slow", False), ("slow", True), ("silent", True)])
def test_a_client_that_hangs_up_before_the_first_token_is_recorded(
    asked: Asked, model: str, stream: bool
) -> None:
    """Before a stream's first token LiteLLM calls nobody: it notes that the client is gone.

    Before the backend's headers it does nothing at all, unless cancel_on_disconnect is set.
    """
    with pytest.raises(openai.APITimeoutError):
        asked.client().with_options(timeout=1).chat.completions.create(
            model=model, messages=QUESTION, stream=stream
        )

    request = asked.request()
    assert (request.outcome, request.model_name, request.http_status) == ("cancelled", model, None)
    assert (request.ttft_ms, request.total_tokens) == (None, None)
    assert (request.is_stream, request.project_id) == (stream, "team-1")
    assert asked.errors(request) == []


@pytest.mark.parametrize("model", ["busy", "fail-400"])
def test_what_litellm_is_told_not_to_log_is_not_recorded(
    asked: Asked, valkey: ValkeyServer, model: str
) -> None:
    """Neither a success nor an error, nor what failed before. The next request is."""
    unlogged = {"no-log": True}
    client = asked.client()
    with contextlib.suppress(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=QUESTION, extra_body=unlogged)
    client.chat.completions.create(model="small", messages=QUESTION)

    assert asked.request().model_name == "small"
    assert [event for event in events(valkey) if isinstance(event, ErrorEvent)] == []


def test_one_id_used_twice_at_a_time_is_two_requests(asked: Asked) -> None:
    """A client chooses the id of its call: attempts of one request are not another one's."""
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(asked.client().chat.completions.create, model="busy", messages=QUESTION)
        quick = pool.submit(
            asked.client().chat.completions.create, model="small", messages=QUESTION
        )
        assert slow.result().choices
        assert quick.result().choices

    found = {request.model_name: attempts_of(request) for request in asked.requests(2)}
    assert {model: len(attempts) for model, attempts in found.items()} == {"small": 1, "busy": 3}


def test_a_request_and_its_errors_become_rows(
    asked: Asked, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """From the client to the database, with everything real."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    asked.client().chat.completions.create(model="busy", messages=QUESTION)
    asked.request()
    worker = WorkerProcess(database, valkey.url, tmp_path / "var")
    with ending(worker):
        drained(valkey, worker.started())

        assert rows(
            database,
            "SELECT model_name, outcome, http_status, provider, total_tokens > 0,"
            f" json_array_length(backend_attempts) FROM request_logs WHERE request_id='{asked.id}'",
        ) == [("busy", "success", 200, "openai", 1, 3)]
        assert (
            rows(
                database,
                "SELECT error_type, http_status, request_log_id IS NOT NULL FROM error_logs",
            )
            == [("ServiceUnavailableError", 503, 1)] * 2
        )
        assert count(database) == 1
