"""Who may use the proxy of the tests. LiteLLM loads it, from beside its configuration."""

from typing import Any

from litellm.proxy._types import ProxyErrorTypes, ProxyException, UserAPIKeyAuth

OWNER = {
    "user_id": "ada",
    "team_id": "team-1",
    "team_alias": "compilers",
    "org_id": "org-1",
}
KEYS: dict[str, dict[str, Any]] = {
    "sk-of-a-test-5a1e77c0": {"key_alias": "tests", **OWNER},
    "not-hashed-by-litellm-91d2": {"key_alias": "plain", **OWNER},
    "sk-once-a-minute-0c4f11ab": {"key_alias": "limited", "rpm_limit": 1, **OWNER},
}


async def user_api_key_auth(request: object, api_key: str) -> object:
    """Return whose key it is, or refuse it."""
    if api_key not in KEYS:
        raise ProxyException("no such key", ProxyErrorTypes.auth_error, "key", 401)
    return UserAPIKeyAuth(api_key=api_key, **KEYS[api_key])
