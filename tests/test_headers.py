"""Header sanitising: which names are secret, in which shapes and places they are found."""

import copy
import email.message
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from spoolway.producer import REDACTED, HeaderRules
from spoolway.schema import Caps, encode_line, new_id

SECRET = "hunter2-very-secret"
RULES = HeaderRules()

SECRET_NAMES = """
    authorization proxy-authorization cookie cookie2 set-cookie x-api-key api-key apikey x-apikey
    api_key HTTP_AUTHORIZATION HTTP_X_API_KEY x-goog-api-key anthropic-api-key
    ocp-apim-subscription-key x-functions-key x-litellm-key x-portkey-virtual-key
    x-amz-security-token x-amz-signature x-amzn-oidc-data x-amzn-oidc-accesstoken x-auth
    x-auth-token x-access-token x-id-token private-token x-gitlab-token x-vault-token x-csrf-token
    x-xsrf-token cf-access-jwt-assertion cf-access-client-secret x-goog-iap-jwt-assertion
    x-ms-client-principal x-hub-signature-256 stripe-signature x-session-id sessionid
    x-password x-db-passwd x-passphrase client-credential helicone-auth x-forwarded-authorization
    x-service-authorisation dpop x-refresh-tokens x-encryption-key key token sid
    sec-websocket-protocol
""".split()  # noqa: SIM905 - a list literal would be two screens of one name a line
PLAIN_NAMES = """
    host accept accept-encoding user-agent content-type content-length date via server referer
    x-request-id traceparent x-forwarded-for forwarded :authority :path www-authenticate
    openai-organization openai-processing-ms openai-version x-stainless-lang anthropic-version
    x-ratelimit-limit-tokens x-ratelimit-remaining-tokens x-ratelimit-reset-tokens
    anthropic-ratelimit-input-tokens-remaining x-max-tokens x-tokenizer idempotency-key
    sec-websocket-key sec-websocket-accept surrogate-key x-author x-goog-user-project
    access-control-allow-headers keep-alive monkey x-keyboard
""".split()  # noqa: SIM905 - as above


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_a_name_that_carries_secrets_is_secret_in_any_case(name: str, spelled: Any) -> None:
    """Names that are known, or look like it, are secret however they are written."""
    assert RULES.is_secret(spelled(name))


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_name_that_carries_no_secret_is_kept(name: str) -> None:
    """What is worth reading in a log stays readable: counts of tokens are no tokens."""
    assert not RULES.is_secret(name)


def test_names_patterns_and_an_allow_list_can_be_added() -> None:
    """The owner's names and patterns count beside the built-in ones; the allow list wins."""
    rules = HeaderRules(
        names=["X_Tenant"], patterns=["^acme-"], allow=["x-session-id", "acme-region", "Cookie"]
    )

    assert rules.is_secret("x-tenant")
    assert rules.is_secret("Acme-Anything")
    assert rules.is_secret("authorization")
    assert not rules.is_secret("X-Session-Id")
    assert not rules.is_secret("acme_region")
    assert not rules.is_secret("cookie")


def test_a_pattern_that_is_no_regular_expression_is_named() -> None:
    """A mistake in the settings is told when they are read."""
    with pytest.raises(ValueError, match="header pattern is no regular expression"):
        HeaderRules(patterns=["("])


PAIRS = [("Host", "a"), ("Authorization", SECRET), ("Accept", "b"), ("accept", "c")]
CLEAN = {"host": "a", "authorization": REDACTED, "accept": "b, c"}


def _message(pairs: list[tuple[str, str]]) -> email.message.Message:
    message = email.message.Message()
    for name, value in pairs:
        message[name] = value
    return message


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "a", "Authorization": SECRET, "Accept": ["b", "c"]},
        MappingProxyType({"Host": "a", "Authorization": SECRET, "Accept": ("b", "c")}),
        {b"Host": b"a", b"Authorization": SECRET.encode(), b"Accept": [b"b", b"c"]},
        PAIRS,
        [list(pair) for pair in PAIRS],
        tuple(PAIRS),
        [(name.lower().encode(), value.encode()) for name, value in PAIRS],
        Headers(raw=[(name.lower().encode(), value.encode()) for name, value in PAIRS]),
        httpx.Headers(PAIRS),
        _message(PAIRS),
    ],
    ids=[
        "dict",
        "mapping",
        "bytes",
        "pairs",
        "lists",
        "tuple",
        "asgi",
        "starlette",
        "httpx",
        "mail",
    ],
)
def test_every_shape_of_headers_becomes_one_mapping(headers: Any) -> None:
    """Mappings and pair lists of str or bytes become lower-case name → value, doubles joined."""
    assert RULES.sanitised(headers) == CLEAN


def test_a_secret_that_comes_twice_is_redacted_once() -> None:
    """No value of a secret name is left, however often it comes."""
    assert RULES.sanitised([("Cookie", SECRET), ("cookie", SECRET)]) == {"cookie": REDACTED}


class _Broken(Mapping[str, str]):
    def __getitem__(self, name: str) -> str:
        raise RuntimeError(SECRET)

    def __iter__(self) -> Any:
        raise RuntimeError(SECRET)

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "headers",
    ["Authorization: " + SECRET, SECRET.encode(), [SECRET, SECRET], ["ab", "cd"], 5, _Broken()],
)
def test_what_cannot_be_read_as_headers_is_not_kept(headers: object) -> None:
    """Neither an exception nor the secret comes out of something that is no set of headers."""
    assert RULES.sanitised(headers) == REDACTED


def test_verdicts_are_remembered_within_bounds() -> None:
    """Clients choose header names: a million different ones must not fill the memory."""
    rules = HeaderRules()
    for n in range(20_000):
        rules.sanitised({f"x-{n}": "v", f"x-token-{n}": SECRET})
    rules.sanitised({"x" * 10_000: "v"})

    assert len(rules._verdicts) <= 4096
    assert max(map(len, rules._verdicts)) <= 200


def line(**fields: Any) -> bytes:
    """An encoded request."""
    return encode_line({"type": "request", "id": new_id(), **fields})


@dataclass
class Attempt:
    """As a proxy may keep one: no dict."""

    backend: str
    request_headers: dict[str, str]


@pytest.mark.parametrize(
    "fields",
    [
        {"backend_attempts": [{"headers": {"Authorization": SECRET}}]},
        {"backend_attempts": ({"response": {"Headers": {"Set-Cookie": SECRET}}},)},
        {"backend_attempts": [Attempt("azure", {"api-key": SECRET})]},
        {"backend_attempts": [{"headers": [[b"x-api-key", SECRET.encode()]]}]},
        {"backend_attempts": [{"headers": MappingProxyType({"cookie": SECRET})}]},
        {"backend_attempts": [{"headers": {"Cookie": {"session": [SECRET]}}}]},
        {"backend_attempts": [{"headers": {"x-all": {"authorization": SECRET}}}]},
        {"route": {"extra_headers": {"X-Api-Key": SECRET, "size": 2**70}}},
        {"errors": [{"HEADERS": [{"name": "Cookie", "value": SECRET}]}]},
        {"response": {"rEsPoNsEhEaDeRs": {"x-auth-token": SECRET}}},
        {"body": {"tools": [{"type": "mcp", "headers": {"Authorization": SECRET}}]}},
        {"extra": {"deep": [[[[{"headers": {"a": "ü", "authorization": SECRET}}]]]]}},
        {"upstream_headers": {"Authorization": SECRET}},
        {"route": {"ü headers": {"Authorization": SECRET, "plain": "ü€😀"}, "nul": "\0"}},
    ],
)
def test_secrets_below_any_key_that_ends_in_headers_are_replaced(fields: dict[str, Any]) -> None:
    """In every column, at every depth, whatever type the objects have."""
    clean = RULES.sanitised_line(line(**fields))

    assert SECRET not in clean.decode()
    assert REDACTED in json.dumps(orjson.loads(clean))


def test_only_the_secret_values_change() -> None:
    """The rest of the event stays as it was, to the byte."""
    fields = {
        "route": {"a": 1e400, "b": Decimal("1.10000000000000000000001"), "text": "ü 😀 headers"},
        "backend_attempts": [
            {"n": 2**70, "headers": {"A": "ü", "Authorization": SECRET, "n": 2**70}, "z": [1.5]},
            {"headers": {"A": "b"}, "headers_count": 2},
        ],
        "response": {"headers": ["Name", "Token", "Count"], "text": 'no "headers": {"token": 1}'},
    }
    before = line(**fields)

    after = RULES.sanitised_line(before)

    assert before == after.replace(REDACTED.encode(), SECRET.encode())
    assert before != after


def test_an_event_without_such_a_key_is_not_touched() -> None:
    """The same bytes come back."""
    before = line(body={"messages": [{"content": "no such key"}]})

    assert RULES.sanitised_line(before) is before


@pytest.mark.parametrize("column", ["backend_attempts", "unknown_column"])
def test_the_preview_of_a_capped_value_ends_before_its_headers(column: str) -> None:
    """What was too large keeps its beginning to be recognised by, and no secret in it."""
    attempts = [{"backend": "azure", "Headers": {"Authorization": SECRET}, "text": "x" * 5_000}]
    before = encode_line(
        {"type": "request", "id": new_id(), column: attempts}, Caps(column_bytes=1024)
    )
    assert SECRET.encode() in before

    after = RULES.sanitised_line(before)

    assert SECRET.encode() not in after
    assert orjson.loads(after)
    assert b"azure" in after


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(["headers", "X-Headers", "Cookie", "name", "value"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def _secrets_below_headers(value: object, below: bool = False) -> list[object]:
    found: list[object] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            if below and RULES.is_secret(name):
                found.append(inner)
            found += _secrets_below_headers(inner, below or name.lower().endswith("headers"))
    elif isinstance(value, list):
        for inner in value:
            found += _secrets_below_headers(inner, below)
    return found


@given(JSON)
@example({"headers": {"Cookie": [{"headers": 1}]}})
@example({'"headers': {"cookie": 1}, "headers\\": {"cookie": 2}})
def test_no_json_keeps_a_secret_below_headers(route: object) -> None:
    """Whatever the event holds, it stays JSON and no value of a secret name survives in headers."""
    event = orjson.loads(RULES.sanitised_line(line(route=route)))

    assert set(map(str, _secrets_below_headers(event.get("route")))) <= {REDACTED}


@given(JSON)
def test_sanitising_alters_nothing_that_the_caller_has(route: Any) -> None:
    """The proxy's own objects are as before, also those that held secrets."""
    before = copy.deepcopy(route)
    headers = {"Authorization": SECRET, "x": [route]}

    RULES.sanitised(headers)
    RULES.sanitised_line(line(route=route, backend_attempts=[{"headers": headers}]))

    assert route == before
    assert headers == {"Authorization": SECRET, "x": [before]}
