"""What a call into LiteLLM says of who asks, what for, and how it failed, as columns.

Pure, and without LiteLLM.
"""

import hashlib
import re
from datetime import datetime
from typing import Final

from spoolway.producer.litellm_requests.shapes import (
    Columns,
    Json,
    address,
    integer,
    known,
    mapping,
    milliseconds,
    number,
    parts,
    text,
)

_HASH: Final = re.compile(r"[0-9a-f]{64}|litellm_proxy_master_key")
"""What LiteLLM puts in a key's place."""
_KEY_ATTRIBUTES: Final = {
    "user_api_key_hash": "api_key",
    "user_api_key_alias": "key_alias",
    "user_api_key_user_id": "user_id",
    "user_api_key_end_user_id": "end_user_id",
    "user_api_key_team_id": "team_id",
    "user_api_key_team_alias": "team_alias",
    "user_api_key_org_id": "org_id",
    "user_api_key_project_id": "project_id",
    "user_api_key_request_route": "request_route",
}


def metadata_of(holder: Json) -> Json:
    """Return LiteLLM's own metadata; on some paths `metadata` is what the client has sent."""
    own, other = mapping(holder.get("metadata")), mapping(holder.get("litellm_metadata"))
    for metadata in (own, other):
        if isinstance(metadata.get("litellm_received_at"), datetime):  # no JSON can hold one
            return metadata
    return own or other


def is_proxied(metadata: Json) -> bool:
    """Tell whether the call came in through LiteLLM's proxy, not by its SDK."""
    return "litellm_received_at" in metadata or "user_api_key_request_route" in metadata


def is_routed(metadata: Json) -> bool:
    """Tell whether LiteLLM's router has chosen the deployment, and may choose another one."""
    return bool(metadata.get("model_group"))


def asked(holder: Json, metadata: Json) -> Columns:
    """Return what the client asked, from `proxy_server_request` and LiteLLM's metadata."""
    request = mapping(holder.get("proxy_server_request"))
    body = mapping(request.get("body"))
    url = parts(request.get("url"))
    return known(
        request_id=text(holder.get("litellm_call_id")),
        model_name=text(body.get("model"))
        or text(metadata.get("original_model_group"))
        or text(metadata.get("model_group"))
        or text(holder.get("model")),
        is_stream=bool(body.get("stream") or holder.get("stream")),
        path=url.path or text(metadata.get("user_api_key_request_route")),
        method=text(request.get("method")),
        query=url.query or None,
        headers=mapping(request.get("headers")) or mapping(metadata.get("headers")) or None,
        client_ip=text(metadata.get("requester_ip_address")),
    )


def received(metadata: Json) -> float | None:
    """Return when the proxy has received the request, in seconds since 1970."""
    return number(metadata.get("litellm_received_at"))


def key_metadata(key: object) -> Json:
    """Return what the proxy knows of the caller, named as in LiteLLM's metadata."""
    return {name: getattr(key, attribute, None) for name, attribute in _KEY_ATTRIBUTES.items()}


def identity(metadata: Json) -> Columns:
    """Return who asked. A team is a project, unless the key belongs to a project."""
    return known(
        api_key_id=_key_id(metadata.get("user_api_key_hash")),
        user_id=text(metadata.get("user_api_key_end_user_id"))
        or text(metadata.get("user_api_key_user_id")),
        organization_id=text(metadata.get("user_api_key_org_id")),
        project_id=text(metadata.get("user_api_key_project_id"))
        or text(metadata.get("user_api_key_team_id")),
        litellm_key=known(
            alias=text(metadata.get("user_api_key_alias")),
            user_id=text(metadata.get("user_api_key_user_id")),
            team_id=text(metadata.get("user_api_key_team_id")),
            team_alias=text(metadata.get("user_api_key_team_alias")),
        )
        or None,
    )


def tried_call(request: Json, metadata: Json, began: float | None, ended: float) -> Columns:
    """Return the attempt that a call's own arguments are about; not each one has a payload."""
    return known(
        backend=text(request.get("model")),
        model_group=text(metadata.get("model_group")),
        deployment=text(mapping(request.get("model_info")).get("id")),
        api_base=address(request.get("api_base")),
        duration_ms=milliseconds(began, ended),
    )


def problem(exception: object) -> Columns:
    """Return an exception's type, message and HTTP status, as columns of an error."""
    status = getattr(exception, "status_code", None)
    if status is None:
        status = getattr(exception, "code", None)
    return known(
        error_type=type(exception).__name__,
        error_message=text(getattr(exception, "message", None)) or _said(exception),
        http_status=integer(status),
    )


def is_same(error: Columns, attempt: Columns) -> bool:
    """Tell whether a request's error is that of an attempt; LiteLLM adds to the message."""
    message = str(attempt.get("error_message", ""))
    return error.get("error_type") == attempt.get("error_type") and str(
        error.get("error_message", "")
    ).startswith(message)


def provider_of(exception: object) -> str | None:
    """Return whose error it is; None if it is the proxy's own."""
    return text(getattr(exception, "llm_provider", None))


def _said(exception: object) -> str:
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - a class of somebody else's; what cannot be said is left out
        return ""


def _key_id(key: object) -> str | None:
    """Never the key itself, which a custom authentication may have left in the hash's place."""
    given = text(key)
    if given is None or _HASH.fullmatch(given):
        return given
    return hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()
