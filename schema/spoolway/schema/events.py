"""Events: the two structs that a proxy sends, one field for each column it fills.

A JSON column is `msgspec.Raw`: its bytes go from the stream to the database as they are and are
parsed once, there. Everything else is typed, and `null` or absent means SQL NULL. Only `type` and
`id` are required; a missing `request_time` or `timestamp` is the time in the id.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, get_args
from uuid import UUID

import msgspec
from msgspec import Meta, Raw

ABSENT: Final = Raw(b"")
"""A JSON column that the event does not have."""
JSON_NULL: Final = Raw(b"null")

Outcome = Literal["success", "error", "cancelled"]

Text = str | None
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
Real = float | None
Time = Annotated[datetime, Meta(tz=True, description="RFC 3339 time with a UTC offset")] | None
Milliseconds = Annotated[float, Meta(description="milliseconds")] | None
Tokens = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="tokens")] | None
Id = Annotated[UUID, Meta(description="UUIDv7, minted when the request or the error starts")]


class RequestEvent(
    msgspec.Struct,
    tag_field="type",
    tag="request",
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """One request through the proxy, sent when it has ended: a row of `request_logs`."""

    id: Id
    request_time: Time = None
    model_name: Annotated[str, Meta(description="model asked for by the client")] | None = None
    is_stream: bool | None = None
    path: Text = None
    method: Text = None
    query: Annotated[str, Meta(description="query string, without the question mark")] | None = None
    headers: Raw = ABSENT
    body: Raw = ABSENT
    route: Raw = ABSENT
    backend_attempts: Raw = ABSENT
    stream_chunks: Raw = ABSENT
    errors: Raw = ABSENT
    usage_stats: Raw = ABSENT
    outcome: Outcome | None = None
    duration_ms: Milliseconds = None
    request_id: (
        Annotated[str, Meta(description="the proxy's or the client's own id of the request")] | None
    ) = None
    http_status: Whole = None
    provider: Text = None
    provider_model: Annotated[str, Meta(description="model that answered")] | None = None
    response: Raw = ABSENT
    stop_reason: Text = None
    ttft_ms: Annotated[float, Meta(description="time to first token, in milliseconds")] | None = (
        None
    )
    prompt_tokens: Tokens = None
    completion_tokens: Tokens = None
    total_tokens: Tokens = None
    cached_tokens: Tokens = None
    reasoning_tokens: Tokens = None
    cost: Annotated[float, Meta(description="in the currency of the proxy's price list")] | None = (
        None
    )
    kwh_min: Real = None
    kwh_max: Real = None
    kgco2eq_min: Real = None
    kgco2eq_max: Real = None
    user_id: Text = None
    api_key_id: Annotated[str, Meta(description="name or keyed hash, never the key")] | None = None
    organization_id: Text = None
    project_id: Text = None
    client_ip: Text = None
    truncated: Raw = ABSENT
    extra: Raw = ABSENT


class ErrorEvent(
    msgspec.Struct,
    tag_field="type",
    tag="error",
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """One error on the way of a request, sent at once: a row of `error_logs`."""

    id: Id
    timestamp: Time = None
    model_name: Text = None
    error_type: Text = None
    error_message: Text = None
    backend_name: Text = None
    http_status: Whole = None
    request_path: Text = None
    request_id: (
        Annotated[UUID, Meta(description="id of the request this error belongs to")] | None
    ) = None
    extra_context: Raw = ABSENT


Event = RequestEvent | ErrorEvent

EVENT_TYPES: Final[dict[str, type[RequestEvent | ErrorEvent]]] = {
    "request": RequestEvent,
    "error": ErrorEvent,
}
OVERFLOW_COLUMN: Final = {"request": "extra", "error": "extra_context"}
"""The JSON column that takes what fits no other column."""
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)

encode_event = msgspec.json.Encoder().encode
"""Encode an event struct to one JSON line (bytes, without the newline)."""
