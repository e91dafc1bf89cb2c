"""What is sent: JSON, and errors that say what is wrong and what to do."""

from typing import Any, Final

import orjson
from starlette.responses import Response

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer. What is in a log came from a client: were it ever taken for a page, it could do
nothing there."""
JSON: Final = "application/json"
_OPTIONS: Final = orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC | orjson.OPT_NON_STR_KEYS


class ApiError(Exception):
    """Asked wrongly, or not to be answered now."""

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status: Final = status
        self.code: Final = code
        self.headers: Final = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """What the client gets."""
        return {"error": {"code": self.code, "message": str(self)}}

    def response(self) -> Response:
        """Return it as an answer."""
        return json_response(self.body, self.status, self.headers)


def encoded(value: Any) -> bytes:
    """Return a value as JSON; times are UTC, with a Z."""
    return orjson.dumps(value, _text, _OPTIONS)


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return JSON that no cache keeps."""
    return Response(
        encoded(value), status, {"cache-control": "no-store", **(headers or {})}, media_type=JSON
    )


def _text(value: Any) -> str:
    """Return what is no JSON value, a decimal say, as text; of text that is no Unicode, escapes."""
    return str(value)
