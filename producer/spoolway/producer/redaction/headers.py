"""Headers without their secrets, before anything is buffered.

Which header is secret is decided by its name: a set of names, and patterns for the names that
every company invents for itself. A name too many costs a value in a log; a name too few is a leak.
"""

import json
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import orjson

from spoolway.producer.redaction.ends import before_headers
from spoolway.schema.jsonable import encode_any, represent

REDACTED: Final = "[redacted]"

SECRET_NAMES: Final = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "cookie2",
        "set-cookie",
        "set-cookie2",
        "api-key",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-iam-authorization-token",
        "x-amz-security-token",
        "x-amzn-oidc-data",
        "x-amzn-oidc-identity",
        "x-auth",
        "x-auth-token",
        "x-csrf-token",
        "x-ms-client-principal",
        "x-otp",
        "x-wsse",
        "dpop",
        "sid",
        # Browsers cannot set a header on a WebSocket: keys travel as subprotocols.
        "sec-websocket-protocol",
    }
)
"""Lower-case names whose values are never kept."""

SECRET_PATTERNS: Final = (
    r"api-?key",
    r"access-?key",
    r"-key$|^key$",
    r"token(?!s|iz)|(access|auth|refresh)-?tokens",
    r"secret|credential|passw|passphrase|passcode|pwd",
    r"session|signature|csrf|xsrf|jwt|bearer|cookie",
    r"(^|-)auth(-|$)|authori[sz]ation|authentication",
)
"""Searched in a lower-case name with hyphens for underscores. Counts of tokens are no tokens:
`x-ratelimit-remaining-tokens` is kept."""

ALLOWED_NAMES: Final = frozenset(
    {
        "idempotency-key",
        "x-idempotency-key",
        "sec-websocket-key",
        "surrogate-key",
        "x-cache-key",
    }
)
"""Names that a pattern would take for secret, and are not."""

_VERDICTS: Final = 4096
"""Names whose verdicts are remembered; clients choose names, so there must be an end to it."""
_LONGEST_NAME: Final = 200
_FIRST_COLUMN: Final = b'{"headers":{'
_KEY: Final = b"headers"
_BEGIN: Final = re.compile(r'"\s*:\s*(?=[\[{])')
"""What follows in a key that ends in "headers" and holds an object or an array. In a JSON string
the quotation mark would have a backslash before it."""
# Not `int`: Python refuses to read one of more than 4,300 digits.
_scan: Final = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal).raw_decode


class HeaderRules:
    """Which headers are secret. Shared by all threads."""

    def __init__(
        self,
        *,
        names: Iterable[str] = (),
        patterns: Iterable[str] = (),
        allow: Iterable[str] = (),
    ) -> None:
        """Add names and patterns (regular expressions) to the built-in ones.

        `allow` wins over all of them. Case and the choice of "_" or "-" make no difference.

        Raises:
            ValueError: a pattern is no regular expression.
        """
        try:
            self._pattern = re.compile("|".join((*SECRET_PATTERNS, *patterns)), re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"a header pattern is no regular expression: {error}") from error
        self._names = SECRET_NAMES | {_plain(name) for name in names}
        self.allowed: Final = frozenset(_plain(name) for name in allow)
        """Names that the owner allows, in lower case and with hyphens."""
        self._allowed = ALLOWED_NAMES | self.allowed
        self._verdicts: dict[str | bytes, tuple[str, bool]] = {}

    def is_secret(self, name: str) -> bool:
        """Tell whether the value of this header must not be kept."""
        return self._judge(name)[1]

    def _judge(self, name: str | bytes) -> tuple[str, bool]:
        """Return the name in lower case, and whether it is secret."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            text = name if isinstance(name, str) else name.decode("latin-1")
            plain = _plain(text)
            secret = plain not in self._allowed and (
                plain in self._names or self._pattern.search(plain) is not None
            )
            verdict = (text.lower(), secret)
            if len(name) <= _LONGEST_NAME:
                if len(self._verdicts) >= _VERDICTS:
                    self._verdicts.clear()
                self._verdicts[name] = verdict
        return verdict

    def sanitised(self, headers: object) -> dict[str, str] | str:
        """Return lower-case name → value, with the values of the secret ones replaced.

        Takes what proxies have: a mapping (Starlette's, httpx's, aiohttp's), or a list of pairs of
        str or bytes (ASGI's). The values of a name that comes more than once are joined by ", ".
        What is none of these is replaced as a whole: it cannot be searched for secrets.
        """
        try:
            clean: dict[str, str] = {}
            known = self._verdicts.get
            for name, value in headers.items() if type(headers) is dict else _pairs(headers):
                key, secret = known(name) or self._judge(_name(name))
                if secret:
                    clean[key] = REDACTED
                elif key in clean:
                    clean[key] += ", " + _text(value)
                else:
                    clean[key] = value if type(value) is str else _text(value)
        except Exception:  # noqa: BLE001 - foreign objects; not to be kept rather than not to be read
            return REDACTED
        return clean

    def sanitised_line(self, line: bytes) -> bytes:
        """Return an event's JSON line without secrets under any key that ends in "headers".

        At every depth of every column, whatever type the proxy's object had. Only values of secret
        names are replaced; the shape stays. A line without such a key costs one search.
        """
        # `Producer` puts the column `headers`, clean already, first; behind it the search begins.
        lower = line.lower()
        start = len(_FIRST_COLUMN) if line.startswith(_FIRST_COLUMN) else 0
        if lower.rfind(_KEY, start) < 0:  # CPython needs half the time of `find`
            return line
        at = lower.find(_KEY, start)
        # One character for each byte, so that a position is the same in both.
        text = line.decode("latin-1")
        kept: list[bytes] = []
        done = 0
        while at >= 0:
            looked_at = at + len(_KEY)
            if begin := _BEGIN.match(text, looked_at):
                value, looked_at = _scan(text, begin.end())
                json = line[begin.end() : looked_at]
                if not json.isascii():
                    value, _ = _scan(json.decode(), 0)
                if self._redact(value):
                    kept += line[done : begin.end()], _json(value)
                    done = looked_at
            at = lower.find(_KEY, looked_at)
        line = b"".join((*kept, line[done:]))
        return before_headers(line) if b'"_truncated":true' in line else line

    def _redact(self, value: Any) -> bool:
        """Replace the secrets in parsed JSON below a headers key; tell whether there were any."""
        found = False
        nodes = [value]
        for node in nodes:  # which grows while it is walked
            if isinstance(node, dict):
                secrets = [name for name in node if self._judge(name)[1]]
                # As in HTTP archives: {"name": "Authorization", "value": "…"}.
                if "value" in node and self._names_secret(node.get("name", node.get("key"))):
                    secrets.append("value")
                for name in secrets:
                    node[name] = REDACTED
                found |= bool(secrets)
                nodes += node.values()
            elif isinstance(node, list):
                for pair in node:
                    if isinstance(pair, list) and len(pair) == 2 and self._names_secret(pair[0]):
                        pair[1] = REDACTED
                        found = True
                nodes += node
        return found

    def _names_secret(self, name: object) -> bool:
        return isinstance(name, str) and self._judge(name)[1]


def _plain(name: str) -> str:
    """Return the name as the rules spell it; WSGI's HTTP_X_API_KEY is x-api-key."""
    return name.strip().lower().replace("_", "-").removeprefix("http-")


def _pairs(headers: Any) -> Iterator[tuple[Any, Any]]:
    items = getattr(headers, "items", None)
    for pair in items() if callable(items) else headers:
        if not isinstance(pair, (tuple, list)):
            raise TypeError("not a pair of name and value")
        name, value = pair
        yield _name(name), value


def _name(name: object) -> str | bytes:
    return name if isinstance(name, (str, bytes)) else str(name)


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case bytes():
            return value.decode("latin-1")
        case list() | tuple():
            return ", ".join(map(_text, value))
        case None:
            return ""
    return str(value)


def _json(value: object) -> bytes:
    try:
        return orjson.dumps(value, default=represent)
    except TypeError:  # an integer over 64 bits
        return encode_any(value).json
