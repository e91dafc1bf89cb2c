"""What LiteLLM's `standard_logging_object` says of a request, as columns. Pure, without LiteLLM.

What may not be logged LiteLLM has taken out of it already, so content comes from here alone. Nothing
relies on a shape: what is not as expected is left out, and is NULL in the row.
"""

from collections.abc import Mapping
from typing import Any, Final

from spoolway.producer.litellm_requests.shapes import (
    Columns,
    Json,
    address,
    first_integer,
    integer,
    known,
    mapping,
    milliseconds,
    moment,
    number,
    text,
)

HUNG_UP: Final = 499
"""The status that LiteLLM gives to what a client did not wait for."""
DISCONNECTED: Final = "client_disconnected"
"""In a request's metadata: LiteLLM has noticed that the client hung up."""


def hung_up(payload: Json, metadata: Json) -> bool:
    """Tell whether the client hung up before it had the whole answer."""
    code = mapping(payload.get("error_information")).get("error_code")
    return metadata.get(DISCONNECTED) is True or integer(code) == HUNG_UP


def body_of(payload: Json) -> Columns | None:
    """Return what was asked, as LiteLLM passed it on: messages, or input, and parameters."""
    asked = payload.get("messages")
    if not asked:
        return None
    name = "messages" if isinstance(asked, list) and _are_messages(asked) else "input"
    return {name: asked, **mapping(payload.get("model_parameters"))}


def seen(payload: Json) -> Columns:
    """Return what holds however the request ended: its content, and the way it took."""
    return known(
        route=route_of(payload) or None,
        body=body_of(payload),
        response=payload.get("response") or None,
        usage_stats=_usage(payload) or None,
        litellm=known(
            call_type=text(payload.get("call_type")),
            trace_id=text(payload.get("trace_id")),
            session_id=text(payload.get("session_id")),
            cache_hit=True if payload.get("cache_hit") is True else None,
            tags=payload.get("request_tags") or None,
            guardrails=payload.get("guardrail_information") or None,
        )
        or None,
    )


def times(payload: Json, began: float | None) -> Columns:
    """Return when the request began, how long it took, and when its first token came.

    `began`, in seconds since 1970, is the request's own; that of a payload may be an attempt's.
    """
    start = began if began is not None else start_time(payload)
    return known(
        request_time=moment(start),
        duration_ms=milliseconds(start, number(payload.get("endTime"))),
        ttft_ms=milliseconds(start, first_token_time(payload)),
    )


def answered(payload: Json, *, whole: bool) -> Columns:
    """Return what a backend has answered: who, how many tokens, at which cost, and why it ended.

    What is not `whole` has no reason to end of its own: LiteLLM writes "stop" there.
    """
    usage = _usage(payload)
    reported = bool(usage) or any(integer(payload.get(f"{kind}_tokens")) for kind in _KINDS)
    tokens = {f"{kind}_tokens": integer(payload.get(f"{kind}_tokens")) for kind in _KINDS}
    prompt = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    output = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    return known(
        **(tokens if reported else {}),
        provider=text(payload.get("custom_llm_provider")),
        provider_model=_model(payload),
        cached_tokens=first_integer(
            prompt.get("cached_tokens"), usage.get("cache_read_input_tokens")
        ),
        reasoning_tokens=integer(output.get("reasoning_tokens")),
        cost=_cost(payload),
        stop_reason=_stop_reason(mapping(payload.get("response"))) if whole else None,
    )


_KINDS: Final = ("prompt", "completion", "total")


def first_token_time(payload: Json) -> float | None:
    """Return when a stream's first token came, in seconds since 1970; None if none came."""
    first, ended = number(payload.get("completionStartTime")), number(payload.get("endTime"))
    # Where none came, LiteLLM says that the first came when the call ended.
    if first is None or ended is None or first >= ended:
        return None
    return first


def start_time(payload: Json) -> float | None:
    """Return when the call, or the last attempt, began, in seconds since 1970."""
    return number(payload.get("startTime"))


def route_of(payload: Json) -> Columns:
    """Return which way LiteLLM chose."""
    return known(
        model_group=text(payload.get("model_group")),
        deployment=text(payload.get("model_id")),
        api_base=address(payload.get("api_base")),
    )


def tried(payload: Json, began: float | None = None) -> Columns:
    """Return the attempt that a payload is about, for `backend_attempts`."""
    start = began if began is not None else start_time(payload)
    return known(
        backend=text(payload.get("model")),
        provider=text(payload.get("custom_llm_provider")),
        **route_of(payload),
        duration_ms=milliseconds(start, number(payload.get("endTime"))),
    )


def _model(payload: Json) -> str | None:
    model = text(payload.get("model"))
    provider = text(payload.get("custom_llm_provider"))
    return model.removeprefix(f"{provider}/") if model and provider else model


def _usage(payload: Json) -> Json:
    usage = mapping(mapping(payload.get("metadata")).get("usage_object"))
    return usage or mapping(mapping(payload.get("response")).get("usage"))


def _cost(payload: Json) -> float | None:
    """LiteLLM's cost of a model without a price is 0: that is not known."""
    cost = number(payload.get("response_cost"))
    if cost == 0 and payload.get("cache_hit") is not True and not _is_priced(payload):
        return None
    return cost


def _is_priced(payload: Json) -> bool:
    prices = mapping(mapping(payload.get("model_map_information")).get("model_map_value"))
    return any(number(price) for name, price in prices.items() if "cost" in str(name))


def _stop_reason(response: Json) -> str | None:
    choices = response.get("choices")
    if isinstance(choices, list) and choices:
        return text(mapping(choices[0]).get("finish_reason"))
    reason = mapping(response.get("incomplete_details")).get("reason")
    return text(response.get("stop_reason")) or text(reason) or text(response.get("status"))


def _are_messages(messages: list[Any]) -> bool:
    return all(isinstance(message, Mapping) and "role" in message for message in messages)
