"""What LiteLLM says of a request, as columns. The real thing is in tests/litellm."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoolway.producer.litellm_requests.call import (
    asked,
    identity,
    is_same,
    key_metadata,
    metadata_of,
    problem,
    tried_call,
)
from spoolway.producer.litellm_requests.payload import answered, hung_up, seen, times, tried
from spoolway.schema import decode_line, encode_line, new_id

BEGAN = 1_795_278_932.0
USAGE = {
    "prompt_tokens": 4,
    "completion_tokens": 16,
    "total_tokens": 20,
    "completion_tokens_details": {"reasoning_tokens": 8},
    "prompt_tokens_details": {"cached_tokens": 2},
}
PAYLOAD: dict[str, Any] = {
    "id": "chatcmpl-1",
    "litellm_call_id": "call-1",
    "trace_id": "trace-1",
    "call_type": "acompletion",
    "status": "success",
    "custom_llm_provider": "openai",
    "startTime": BEGAN + 1,
    "completionStartTime": BEGAN + 1.5,
    "endTime": BEGAN + 3,
    "model": "openai/small",
    "model_group": "group",
    "model_id": "deployment-1",
    "api_base": "https://me:secret@upstream.example/v1?key=secret",
    "metadata": {"usage_object": USAGE},
    "response_cost": 0.036,
    "prompt_tokens": 4,
    "completion_tokens": 16,
    "total_tokens": 20,
    "messages": [{"role": "user", "content": "Why?"}],
    "model_parameters": {"temperature": 0.5},
    "response": {"choices": [{"finish_reason": "stop"}], "usage": USAGE},
}


def test_an_answer_says_tokens_cost_and_why_it_ended() -> None:
    """Cached and reasoning tokens are in the details of the usage."""
    assert answered(PAYLOAD, whole=True) == {
        "provider": "openai",
        "provider_model": "small",
        "prompt_tokens": 4,
        "completion_tokens": 16,
        "total_tokens": 20,
        "cached_tokens": 2,
        "reasoning_tokens": 8,
        "cost": 0.036,
        "stop_reason": "stop",
    }


def test_a_part_of_an_answer_has_no_reason_to_end() -> None:
    """LiteLLM writes "stop" where the client hung up."""
    assert "stop_reason" not in answered(PAYLOAD, whole=False)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"stop_reason": "end_turn"}, "end_turn"),
        ({"status": "incomplete", "incomplete_details": {"reason": "length"}}, "length"),
        ({"status": "completed"}, "completed"),
        ({"choices": []}, None),
        ("redacted-by-litellm", None),
    ],
)
def test_each_api_says_why_it_ended_in_its_own_way(response: object, reason: str | None) -> None:
    """Anthropic's, the Responses API, and what is none of them."""
    assert answered({"response": response}, whole=True).get("stop_reason") == reason


def test_tokens_that_nobody_counted_are_not_known() -> None:
    """LiteLLM writes 0 for them; 0 of a kind is one of a usage that was told."""
    nothing = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

    assert answered(nothing, whole=True) == {}
    assert answered({**nothing, "prompt_tokens": 3}, whole=True)["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("more", "cost"),
    [
        ({}, None),
        ({"cache_hit": True}, 0.0),
        ({"model_map_information": {"model_map_value": {"input_cost_per_token": 0}}}, None),
        ({"model_map_information": {"model_map_value": {"input_cost_per_token": 0.1}}}, 0.0),
    ],
)
def test_the_cost_of_a_model_without_a_price_is_not_known(
    more: dict[str, object], cost: float | None
) -> None:
    """LiteLLM's is 0; one from its cache costs nothing indeed."""
    assert answered({"response_cost": 0.0, **more}, whole=True).get("cost") == cost


def test_times_are_the_requests_not_the_last_attempts() -> None:
    """The client waits from when the proxy received its request."""
    assert times(PAYLOAD, BEGAN) == {
        "request_time": datetime.fromtimestamp(BEGAN, UTC),
        "duration_ms": 3000.0,
        "ttft_ms": 1500.0,
    }
    assert times(PAYLOAD, None)["duration_ms"] == 2000.0


def test_an_answer_that_is_no_stream_has_no_first_token() -> None:
    """LiteLLM says that it came when the call ended."""
    assert "ttft_ms" not in times({**PAYLOAD, "completionStartTime": PAYLOAD["endTime"]}, BEGAN)


def test_the_way_is_recorded_without_secrets_in_addresses() -> None:
    """Neither user and password of a backend's URL nor its query."""
    route = {
        "model_group": "group",
        "deployment": "deployment-1",
        "api_base": "https://upstream.example/v1",
    }

    assert seen(PAYLOAD)["route"] == route
    assert tried(PAYLOAD) == {
        "backend": "openai/small", "provider": "openai", **route, "duration_ms": 2000.0
    }  # fmt: skip
    call = {"model": "openai/small", "api_base": PAYLOAD["api_base"], "api_key": "secret"}
    assert "secret" not in str(tried_call(call, {}, None, BEGAN))


@pytest.mark.parametrize(
    ("messages", "name"),
    [
        ([{"role": "user", "content": "Why?"}], "messages"),
        (["Why?"], "input"),
        ("Why?", "input"),
        ([{"text": "Why?"}], "input"),
    ],
)
def test_what_was_asked_is_messages_or_input(messages: object, name: str) -> None:
    """With its parameters, as LiteLLM passed it on."""
    assert seen({**PAYLOAD, "messages": messages})["body"] == {name: messages, "temperature": 0.5}


def test_content_comes_from_the_payload_alone() -> None:
    """What may not be logged is out of that one, but not out of the request that it came with."""
    request = {"body": {"model": "m", "messages": ["private"]}, "headers": {"a": "b"}}

    assert "private" not in str(asked({"proxy_server_request": request}, {}))
    assert "body" not in seen({})


def test_the_model_is_the_one_that_the_client_asked_for() -> None:
    """Not the group that was fallen back to, and not a deployment's."""
    request = {"url": "http://proxy/v1/chat/completions?a=b", "method": "POST"}
    holder = {"model": "openai/small", "proxy_server_request": request, "stream": True}

    assert asked(holder, {"original_model_group": "asked", "model_group": "backup"}) == {
        "model_name": "asked",
        "is_stream": True,
        "path": "/v1/chat/completions",
        "method": "POST",
        "query": "a=b",
    }
    assert asked(holder, {"model_group": "group"})["model_name"] == "group"
    assert asked(holder, {})["model_name"] == "openai/small"


def test_a_team_is_a_project_unless_there_is_one() -> None:
    """And who uses it is the end user, unless there is none."""
    metadata = {
        "user_api_key_hash": "0" * 64,
        "user_api_key_user_id": "ada",
        "user_api_key_team_id": "team",
        "user_api_key_org_id": "org",
    }

    columns = identity(metadata)
    assert (columns["user_id"], columns["project_id"]) == ("ada", "team")
    assert (columns["organization_id"], columns["api_key_id"]) == ("org", "0" * 64)
    columns = identity(
        {**metadata, "user_api_key_end_user_id": "dora", "user_api_key_project_id": "p"}
    )
    assert (columns["user_id"], columns["project_id"]) == ("dora", "p")
    assert columns["litellm_key"] == {"user_id": "ada", "team_id": "team"}


@pytest.mark.parametrize("key", ["sk-secret", "litellm_but_a_key", "0" * 63, "F" * 64])
def test_a_key_is_never_recorded_itself(key: str) -> None:
    """What does not look like LiteLLM's hash is hashed."""
    assert key not in str(identity({"user_api_key_hash": key}))
    assert identity({"user_api_key_hash": key})["api_key_id"]


def test_a_key_object_is_named_as_the_metadata_is() -> None:
    """What the object does not have is not known."""

    class Key:
        api_key = "litellm_proxy_master_key"
        team_id = "team"

    assert identity(key_metadata(Key())) == {
        "api_key_id": "litellm_proxy_master_key",
        "project_id": "team",
        "litellm_key": {"team_id": "team"},
    }
    assert identity(key_metadata(None)) == {}


def test_the_metadata_of_litellm_is_told_from_the_clients() -> None:
    """Either of the two may be the client's: it cannot put a datetime into JSON."""
    ours = {"litellm_received_at": datetime.now(UTC)}
    clients = {"litellm_received_at": "2026-01-01", "user_api_key_request_route": "/"}

    assert metadata_of({"metadata": clients, "litellm_metadata": ours}) is ours
    assert metadata_of({"metadata": ours, "litellm_metadata": clients}) is ours
    assert metadata_of({"metadata": clients}) is clients
    assert metadata_of({"metadata": None, "litellm_metadata": 5}) == {}


class Refused(Exception):
    """As LiteLLM's proxy raises it: its code is a text."""

    code = "429"
    message = "too many"


class Unspeakable(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_error_says_type_message_and_status() -> None:
    """Whatever the exception has, in whichever form."""
    assert problem(Refused()) == {
        "error_type": "Refused", "error_message": "too many", "http_status": 429
    }  # fmt: skip
    assert problem(Unspeakable())["error_type"] == "Unspeakable"
    assert problem(None)["error_type"] == "NoneType"


def test_the_error_that_the_client_sees_is_that_of_an_attempt() -> None:
    """LiteLLM adds to its message what the router did."""
    attempt = {"error_type": "A", "error_message": "busy", "http_status": 503}

    assert is_same({"error_type": "A", "error_message": "busy\n\nno fallback"}, attempt)
    assert not is_same({"error_type": "B", "error_message": "busy"}, attempt)
    assert not is_same({"error_type": "A", "error_message": "gone"}, attempt)


@pytest.mark.parametrize(
    ("payload", "metadata", "expected"),
    [
        ({}, {}, False),
        ({}, {"client_disconnected": True}, True),
        ({"error_information": {"error_code": "499"}}, {}, True),
        ({"error_information": {"error_code": "500"}}, {}, False),
        ({"error_information": "499"}, {"client_disconnected": "yes"}, False),
    ],
)
def test_a_client_that_hung_up(
    payload: dict[str, object], metadata: dict[str, object], expected: bool
) -> None:
    """LiteLLM calls it a success with the status 499."""
    assert hung_up(payload, metadata) is expected


STRANGE: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.datetimes() | st.binary(max_size=3) | st.just(10**400) | st.just("http://["),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["usage_object", "model_map_value", "error_code", "id",
                                       "body", "url", "headers", "finish_reason"]), inner),
    max_leaves=6,
)  # fmt: skip


@given(
    payload=st.fixed_dictionaries({}, optional=dict.fromkeys(PAYLOAD, STRANGE)),
    holder=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["model", "proxy_server_request", "metadata"], STRANGE)
    ),
    began=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_no_shape_of_a_payload_fails(
    payload: dict[str, Any], holder: dict[str, Any], began: float | None
) -> None:
    """What is not as expected is NULL, and the rest is recorded."""
    columns = {
        **asked(holder, metadata_of(holder)),
        **identity(payload),
        **times(payload, began),
        **seen(payload),
        **answered(payload, whole=not hung_up(payload, holder)),
        "backend_attempts": [tried(payload, began), tried_call(holder, payload, began, 0)],
    }

    event = decode_line(encode_line({"type": "request", "id": new_id(), **columns}))
    assert event.model_name is None or isinstance(event.model_name, str)
    assert not math.isnan(getattr(event, "cost", None) or 0)
