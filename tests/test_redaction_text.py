"""What is taken for a secret in a text or under a name, and what is not; the same by both engines."""

import json
from typing import Any

import orjson
import pytest

from spoolway.producer import Redaction
from spoolway.schema import Caps, encode_line, new_id
from tests.secrets_corpus import remains, secrets

BY = {"re2": Redaction(engine="re2"), "re": Redaction(engine="re")}
SECRETS = secrets()
VALUE = "hunter2-very-secret"
"""A secret that only its name gives away."""


@pytest.fixture(params=["re2", "re"])
def redaction(request: pytest.FixtureRequest) -> Redaction:
    """The default redaction, by each engine."""
    return BY[request.param]


def redacted(redaction: Redaction, value: Any) -> Any:
    """What is left of a value in an event's JSON line."""
    line = redaction.line(b'{"type":"request","value":' + orjson.dumps(value) + b"}")
    return orjson.loads(line)["value"]


PLACES = {
    "alone": "{}",
    "prose": "I use {} for it.",
    "line": "first\n{}\nlast",
    "indented": "\t{}",
    "call": "f({!r})",
    "url": "GET https://host/path?a=1&x={}&b=2 failed",
    "percent-encoded": "next=https%3A%2F%2Fhost%3Fx%3D{}",
    "list": "[a,{},b]",
    "variable": "X={}",
    "yaml": "x: {}",
    "header": "x-y: {}",
}


@pytest.mark.parametrize("family", SECRETS)
def test_no_family_survives_in_a_text(family: str, redaction: Redaction) -> None:
    """A key or token with a form of its own is replaced wherever it stands in a text."""
    secret = SECRETS[family]
    for place in PLACES.values():
        text = place.format(secret)
        nested = {"n": [json.dumps({"deep": json.dumps({"er": text})})], text: 1}
        for clean in (redaction.text(text), json.dumps(redacted(redaction, nested))):
            assert "[redacted]" in clean, place
            assert [part for part in remains(secret) if part in clean.encode()] == [], place


NAMED: list[Any] = [
    {"password": VALUE},
    {"apiKey": VALUE},
    {"OPENAI_API_KEY": VALUE},
    {"x": [{"db_password": VALUE}]},
    {"client-secret": VALUE},
    {"credentials": {"user": "u", "pin": VALUE}},
    {"authorization": ["Bearer x", VALUE]},
    {"token": VALUE},
    {"token": VALUE, "login": "x"},
    {"access_token": VALUE, "expires_in": 3},
    {"refreshToken": VALUE},
    {"slack_bot_token": VALUE},
    {"private_key": "line\n" + VALUE},
    {"password": 'a"b\\' + VALUE},
    {"body": {"user_api_key": VALUE}},
    {"cookies": {"a": VALUE}},
    {"cookie": "a=" + VALUE},
    {"connectionString": f"Server=x;Password={VALUE};"},
    [["authorization", VALUE], ["host", "x"]],
    {"env": [{"name": "API_KEY", "value": VALUE}]},
    {"headers": {"x-secret": VALUE}},
    {"arguments": json.dumps({"password": VALUE})},
    {"arguments": json.dumps({"password": 'a"b\\' + VALUE + "\\", "n": 1}, indent=1)},
    {"a": json.dumps({"b": json.dumps({"token": VALUE})})},
    {"a": json.dumps({"credentials": {"user": "u", "pin": VALUE}})},
    {"a": json.dumps({"password": ["a", "]", VALUE]})},
    str({"password": VALUE}),
    str({"api_key": VALUE.encode()}),
    str([("authorization", VALUE), ("b", "c")]),
    f"API_KEY={VALUE}\nHOME=/root",
    f"export OPENAI_API_KEY='{VALUE}'",
    f'password = "{VALUE}"',
    f"password: {VALUE}",
    f"db: {{password: {VALUE}, user: x}}",
    f"api key: {VALUE}",
    f"Cookie: a={VALUE}; c={VALUE}\nHost: x",
    f"set-cookie: sid={VALUE}; Path=/",
    f"curl -H 'Authorization: Bearer {VALUE}' x",
    f"Authorization: Digest username=x, response={VALUE}",
    f"GET http://x/y?api_key={VALUE}&b=1 failed",
    f"http://x/?a=1&sig={VALUE}",
    f"http://x/?key={VALUE}#x",
    f"http://x/?X-Amz-Signature={VALUE}&y=1",
    f"http://x/?X-Amz-Security-Token={VALUE}",
    f"http://x/?api%5Fkey={VALUE}",
    f"http://x/cb?code={VALUE}&state=1",
    f"redirect_uri=x%26access_token%3D{VALUE}",
    f"client_secret={VALUE}&grant_type=x",
    f"postgresql://me:{VALUE}@db/x",
    f"redis://:{VALUE}@h:1/0",
    f"https://me:{VALUE}@h/x",
    f"AccountKey={VALUE};EndpointSuffix=x",
    f"{{'password': '{VALUE}",
    f'{{"password": "{VALUE}',
    f"Go: https://h/?a=1\\u0026key={VALUE}",
]


@pytest.mark.parametrize("value", NAMED, ids=str)
def test_what_a_secret_name_stands_before_is_replaced(value: Any, redaction: Redaction) -> None:
    """As a key at any depth, in JSON in a string, a repr, a variable, a URL, a header's line."""
    clean = redacted(redaction, value)

    assert "hunter2" not in json.dumps(clean)
    assert "very" not in json.dumps(clean)
    assert "[redacted]" in json.dumps(clean)
    assert redacted(redaction, clean) == clean


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"password": "x1y", "user": "u"}, {"password": "[redacted]", "user": "u"}),
        ({"secret": 123456, "n": 1}, {"secret": "[redacted]", "n": 1}),
        (json.dumps({"secret": 123456}), '{"secret": "[redacted]"}'),
        (json.dumps({"api_keys": ["a", "b"]}), '{"api_keys": "[redacted]"}'),
        ("https://me:pw1@h/x?key=k1&b=2#f", "https://me:[redacted]@h/x?key=[redacted]&b=2#f"),
        ("A_PASSWORD=x1,y B=2", "A_PASSWORD=[redacted] B=2"),
        ("password='it\\'s', n=1", "password='[redacted]', n=1"),
    ],
)
def test_the_shape_stays(value: Any, expected: Any, redaction: Redaction) -> None:
    """Only the value is replaced, and what is JSON stays JSON, in strings too."""
    assert redacted(redaction, value) == expected


PLAIN: list[Any] = [
    {"max_tokens": 5, "prompt_tokens": 3, "tokens": [1, 2], "token_ids": [1]},
    {"input_cost_per_token": 2.5e-6, "eos_token": "</s>", "tokenCount": 5, "tokenId": 7},
    {"next_page_token": "abcdefgh12345"},
    {"api_key_id": "key_1", "user_api_key_alias": "x", "user_api_key_user_id": "u"},
    {"user_api_key_hash": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"},
    {"token": "Hello", "logprob": -0.1},
    {"token": "Hello", "bytes": [72], "logprob": -0.1, "top_logprobs": []},
    {"chosenCandidates": [{"token": "Hi", "tokenId": 123, "logProbability": -0.1}]},
    {"token": {"id": 1, "text": " a", "logprob": -1}},
    json.dumps({"token": "Hello", "logprob": -0.1}),
    {"token": None, "password": None, "secret": True, "access_token": 5},
    {"tools": [{"properties": {"password": {"type": "string", "description": "its password"}}}]},
    {"required": ["api_key", "model"], "enum": ["password", "token"]},
    {"signature": "EqQBCkgIBBABGAIiQL", "token_type": "Bearer"},
    {"key": "value", "cache_key": "abc", "name": "token"},
    {"authorization": "[redacted]"},
    "use sk-learn, and the bearer of bad news has a basic understanding of Basic JavaScript",
    "01a1fefc-86b2-7b00-b9c7-4e0a898eba09 d41d8cd98f00b204e9800998ecf8427e",
    "password: must be at least 8 characters. the secret: never tell anyone",
    "token: the smallest unit of text; the cookie: a small file; secrets: inherit",
    "def f(password: str, token=None): self.token = token; api_key=os.environ['X']",
    "if token == 5: tokenizer.pad_token = tokenizer.eos_token",
    "https://example.com:8080/@scope/x?page=2&sort_by=x and task-2, risk-1, desk-3a",
    "PWD=/home/me monkey=1; hotkey: x; key: value; password_hash=abcdef",
    "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" * 50,
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: str(value)[:60])
def test_what_only_looks_like_a_secret_is_kept(value: Any, redaction: Redaction) -> None:
    """Counts, ids, a model's tokens, schemas of tools, prose, code, hashes and images stay."""
    line = b'{"type":"request","value":' + orjson.dumps(value) + b"}"

    assert redaction.line(line) == line


@pytest.mark.parametrize("column", ["body", "query", "error_message", "unknown"])
@pytest.mark.parametrize("family", ["openai project", "web token", "azure openai", "entra"])
def test_a_cut_leaves_nothing_of_a_secret(column: str, family: str, redaction: Redaction) -> None:
    """Wherever a preview or a text is cut off: through a key, a name, what is between them."""
    secret = SECRETS[family]
    error = column == "error_message"
    for padding in range(0, 260, 3):
        text = "x " * (padding // 2) + secret + " y" * 3_000
        if column in ("query", "error_message"):
            text = "x " * (400 - padding // 2) + text
        value = text if column in ("query", "error_message") else [text]
        event = {"type": "error" if error else "request", "id": new_id(), column: value}
        line = encode_line(event, Caps(column_bytes=1024))
        clean = redaction.line(line)

        assert orjson.loads(clean)
        assert [part for part in remains(secret) if part in clean] == []
        assert redaction.line(clean) == clean


@pytest.mark.parametrize("family", SECRETS)
def test_a_message_cut_by_whoever_wrote_it_leaves_nothing(
    family: str, redaction: Redaction
) -> None:
    """As a record's summary of an error is: 500 characters and an ellipsis."""
    secret = SECRETS[family]
    for kept in range(13, len(secret), 5):
        text = "no answer to " + secret[:kept] + "…"
        for clean in (redaction.text(text), redaction.text(json.dumps([text]))):
            if not any(char.isdigit() for char in secret[:kept].split("\n")[-1]):
                continue  # letters alone may be a word
            assert [part for part in remains(secret) if part in clean.encode()] == []


def test_a_cut_between_a_name_and_its_value_leaves_nothing(redaction: Redaction) -> None:
    """The value of a secret name goes up to where the preview ends, at every place it can."""
    for padding in range(256):
        body = {"p": "x" * padding, "password": "the spaces in " + VALUE * 3, "z": "y" * 2_000}
        event = {"type": "request", "id": new_id(), "body": body}
        clean = redaction.line(encode_line(event, Caps(column_bytes=1024)))

        preview = orjson.loads(clean)["body"]["preview"]
        assert "spaces" not in preview
        assert "hunter" not in preview
        assert redaction.line(clean) == clean
