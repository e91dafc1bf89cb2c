"""Who asks: ids for the columns of a request, without the keys that prove them."""

import hmac
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from spoolway.producer.redaction.headers import REDACTED

Identify = Callable[[Mapping[str, Any]], Mapping[str, object] | None]
"""Given the ASGI scope (WSGI: the environ) when the request has ended, returns columns: `user_id`,
`api_key_id`, `organization_id`, `project_id`, or any other."""

_KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_HASH_CHARS: Final = 16


def key_id(key: str, secret: bytes) -> str:
    """Return an id that tells API keys apart without holding one: 64 bits of HMAC-SHA256.

    `secret` is yours to keep: who has it can tell whether a key they know is behind an id. It must
    stay the same for ids to stay the same.
    """
    return hmac.digest(secret, key.encode(errors="surrogatepass"), "sha256").hex()[:_HASH_CHARS]


def by_api_key(secret: bytes | str) -> Identify:
    """Return a hook that fills `api_key_id` with the hash of the key that the client has sent.

    Raises:
        ValueError: the secret is shorter than 16 bytes, and could be guessed.
    """
    key = secret.encode() if isinstance(secret, str) else secret
    if len(key) < 16:
        raise ValueError("the secret that API keys are hashed with is 16 bytes or longer")

    def identify(scope: Mapping[str, Any]) -> Mapping[str, object]:
        for presented in keys_in(scope.get("headers") or environ_headers(scope)):
            return {"api_key_id": key_id(presented, key)}
        return {}

    return identify


def environ_headers(environ: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the headers in a WSGI environ, as ASGI has them."""
    named = {
        name.removeprefix("HTTP_"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    }
    return [
        (name.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in named.items()
    ]


def keys_in(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    """Return the API keys in these headers, as the client has sent them."""
    found = {name.lower(): value.decode("latin-1") for name, value in headers}
    keys = (found.get(name, "") for name in _KEY_HEADERS)
    return [key for one in keys if (key := one.removeprefix("Bearer ").strip())]


def without_keys(columns: Mapping[str, object], keys: Iterable[str]) -> dict[str, object]:
    """Return the columns; in the place of a key itself, given by mistake, is REDACTED."""
    secrets = set(keys)
    return {
        name: REDACTED
        if isinstance(value, str) and value.removeprefix("Bearer ") in secrets
        else value
        for name, value in columns.items()
    }
