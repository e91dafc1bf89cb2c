"""The policy: what its owner adds, allows, keeps and withholds, and what happens when it fails."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from spoolway.producer import HeaderRules, Producer, Redaction
from spoolway.producer.redaction import Hook, said
from spoolway.schema import BadInput, Caps, new_id
from tests.pushed import lines_by_frame
from tests.secrets_corpus import secrets
from tests.servers import ValkeyServer

SECRET = secrets()["openai"]
VALUE = "hunter2-very-secret"


def recorded(redaction: Redaction, **fields: Any) -> dict[str, Any]:
    """A request as it would be pushed."""

    def fail(error: Exception) -> None:
        raise error

    line = redaction.encoded({"type": "request", **fields}, Caps(), fail)
    assert line is not None
    event: dict[str, Any] = orjson.loads(line)
    return event


@pytest.mark.parametrize("engine", ["re2", "re"])
def test_names_patterns_and_tokens_of_the_owner_count(engine: Any) -> None:
    """In keys of any case and spelling, in query parameters, and in texts."""
    redaction = Redaction(
        names=["tenant_pin"], patterns=["acme[-_]"], tokens=["acme-[0-9]{6}"], engine=engine
    )
    event = recorded(
        redaction,
        query=f"tenantPin={VALUE}&x-acme-id={VALUE}&page=2",
        body={"TENANT-PIN": VALUE, "tenantPin": 1234, "my_acme_thing": VALUE, "pin": "kept"},
        response="tenant_pin=" + VALUE + " acme-123456 acme-12",
    )

    assert event["query"] == "tenantPin=[redacted]&x-acme-id=[redacted]&page=2"
    assert event["body"] == {
        "TENANT-PIN": "[redacted]",
        "tenantPin": "[redacted]",
        "my_acme_thing": "[redacted]",
        "pin": "kept",
    }
    assert event["response"] == "tenant_pin=[redacted] [redacted] acme-12"


@pytest.mark.parametrize("pattern", [r"\d+", r"n", r"\\.", r'":"', r"[^a]{1,9}", "."])
@pytest.mark.parametrize("engine", ["re2", "re"])
def test_whatever_a_pattern_of_the_owner_matches_the_line_stays_json(
    pattern: str, engine: Any
) -> None:
    """Numbers, escapes, quotation marks: only what is within one string is replaced."""
    body = {"n": 12, "text": 'line\n"12"\u0001\\', "list": [1.5, None, "null", ""]}
    redaction = Redaction(tokens=[pattern], engine=engine)
    line = redaction.line(b'{"body":' + orjson.dumps(body) + b',"n":12}')

    assert orjson.loads(line)


def test_a_pattern_that_re2_lacks_is_searched_for_by_re() -> None:
    """Looking around is not RE2's: the engine is chosen by what it has to find."""
    redaction = Redaction(tokens=[r"(?<=id )[0-9]{6}"])

    assert redaction.engine == "re"
    assert redaction.text("id 123456, no 123456") == "id [redacted], no 123456"
    with pytest.raises(ValueError, match="RE2 does not take"):
        Redaction(tokens=[r"(?<=id )[0-9]{6}"], engine="re2")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": ["("]}, "token pattern is no regular expression"),
        ({"tokens": ["a*"]}, "must not match nothing"),
        ({"patterns": ["["]}, "name pattern is no regular expression"),
        ({"patterns": ["^acme"]}, "has no \\^ or \\$"),
        ({"tokens": ["(a)\\1"]}, "refers to none"),
        ({"tokens": ["(?P<a>b)"]}, "no names of groups"),
        ({"tokens": ["(?i)abc"]}, "no regular expression"),
        ({"keep": "some"}, 'is "everything" or "metadata", got \'some\''),
        ({"keep": {"/v1/*": "none"}}, "what to keep of /v1/\\*"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(
    settings: dict[str, Any], message: str
) -> None:
    """One line that says what was expected, when the proxy starts."""
    with pytest.raises(ValueError, match=message):
        Redaction(**settings)


def test_what_is_allowed_is_kept() -> None:
    """The allow list wins over names, in headers, keys, parameters and texts alike."""
    redaction = Redaction(allow=["session-token", "Cookie"], names=["session_token"])
    event = recorded(
        redaction,
        headers={"Cookie": "a=b", "Session-Token": "t"},
        query="session_token=t&token=t",
        body={"sessionToken": "t1234567", "text": "session_token=t1234567", "password": "x"},
    )

    assert event["headers"] == {"cookie": "a=b", "session-token": "t"}
    assert event["query"] == "session_token=t&token=[redacted]"
    assert event["body"]["sessionToken"] == "t1234567"
    assert event["body"]["text"] == "session_token=t1234567"
    assert event["body"]["password"] == "[redacted]"


def test_what_the_header_rules_allow_is_kept_in_the_column() -> None:
    """HeaderRules of the owner's own have the last word on headers."""
    redaction = Redaction(headers=HeaderRules(allow=["cookie"], names=["x-mine"]))

    assert recorded(redaction, headers={"Cookie": "a=b", "X-Mine": "m"})["headers"] == {
        "cookie": "a=b",
        "x-mine": "[redacted]",
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"api%5Fkey={VALUE}&a=%20", "api%5Fkey=[redacted]&a=%20"),
        (f"?X-Amz-Signature={VALUE}&X-Amz-Date=1", "?X-Amz-Signature=[redacted]&X-Amz-Date=1"),
        (f"key={VALUE}".encode(), "key=[redacted]"),
        ([("sig", VALUE), (b"b", "c")], [["sig", "[redacted]"], ["b", "c"]]),
        ({"password": VALUE, "b": "c"}, {"password": "[redacted]", "b": "c"}),
        ("code=404&state=1", "code=404&state=1"),
        (f"code={VALUE}&flag&empty=", "code=[redacted]&flag&empty="),
        (f"x={SECRET}", "x=[redacted]"),
        (5, 5),
    ],
)
def test_parameters_of_the_query_are_judged_by_name(query: Any, expected: Any) -> None:
    """In every shape that a proxy has them in; the others stay as they were sent."""
    assert recorded(Redaction(), query=query)["query"] == expected


CONVERSATION: dict[str, Any] = {
    "path": "/v1/private/chat",
    "model_name": "gpt-4o",
    "http_status": 200,
    "query": "said=1",
    "headers": {"x-said": "said"},
    "body": {"said": 1},
    "response": {"said": 1},
    "stream_chunks": ["said"],
    "extra": {"said": 1},
    "unknown_column": "said",
    "usage_stats": {"prompt_tokens": 3},
    "errors": [{"error_type": "Timeout", "error_message": "said", "http_status": 504}],
    "backend_attempts": [
        {"backend": "azure", "duration_ms": 5.0, "http_status": 200, "body": "said", "model": "m"}
    ],
}


@pytest.mark.parametrize(
    "keep", ["metadata", {"/v1/private/*": "metadata", "*": "everything"}], ids=["all", "by path"]
)
def test_of_what_is_not_to_be_kept_only_metadata_is_left(keep: Any) -> None:
    """Numbers, names and times stay; nothing that was said does, not in lists either."""
    event = recorded(Redaction(keep=keep), **CONVERSATION)

    assert "said" not in str(event)
    assert event["path"] == "/v1/private/chat"
    assert event["usage_stats"] == {"prompt_tokens": 3}
    assert event["errors"] == [{"error_type": "Timeout", "http_status": 504}]
    assert event["backend_attempts"] == [
        {"backend": "azure", "duration_ms": 5.0, "http_status": 200, "model": "m"}
    ]


def test_the_first_pattern_that_matches_the_path_counts() -> None:
    """Of a request by its path, of an error by that of its request; else everything is kept."""
    redaction = Redaction(keep={"/v1/open/*": "everything", "/v1/*": "metadata"})

    assert "body" in recorded(redaction, path="/v1/open/x", body=1)
    assert "body" not in recorded(redaction, path="/v1/x", body=1)
    assert "body" in recorded(redaction, path="/other", body=1)
    error = {"type": "error", "request_path": "/v1/x", "error_message": "m", "error_type": "E"}
    assert "error_message" not in recorded(redaction, **error)


def test_without_the_scan_headers_and_query_are_clean_still() -> None:
    """scan=False leaves bodies and texts as they are."""
    redaction = Redaction(scan=False)
    event = recorded(
        redaction,
        headers={"authorization": SECRET},
        query="key=" + VALUE,
        body={"password": VALUE},
        route={"headers": {"cookie": VALUE}},
    )

    assert event["headers"] == {"authorization": "[redacted]"}
    assert event["query"] == "key=[redacted]"
    assert event["route"] == {"headers": {"cookie": "[redacted]"}}
    assert event["body"] == {"password": VALUE}
    assert redaction.engine is None


def test_hooks_see_a_copy_and_what_they_return_is_recorded(valkey: ValkeyServer) -> None:
    """One after the other; the proxy's own objects stay as they are, and the id stays the event's."""

    def first(event: dict[str, Any]) -> Mapping[str, Any]:
        event["body"]["messages"].append("changed")
        return {**event, "id": new_id(), "type": "error"}

    def second(event: dict[str, Any]) -> Mapping[str, Any]:
        return {**event, "user_id": "hashed", "response": "and " + SECRET}

    event_id = new_id()
    body = {"messages": ["first"]}
    with Producer(valkey.url, redaction=Redaction(hooks=[first, second])) as producer:
        assert producer.emit({"type": "request", "id": event_id, "body": body})

    [[line]] = lines_by_frame(valkey)
    event = orjson.loads(line)
    assert body == {"messages": ["first"]}
    assert (event["type"], event["id"], event["user_id"]) == ("request", str(event_id), "hashed")
    assert event["body"] == {"messages": ["first", "changed"]}
    assert event["response"] == "and [redacted]"


def test_what_a_hook_withholds_is_counted_and_not_recorded(valkey: ValkeyServer) -> None:
    """None: the event is not pushed, and nothing is lost that should not be."""
    hooks: list[Hook] = [lambda event: None if event.get("path") == "/health" else event]
    with Producer(valkey.url, redaction=Redaction(hooks=hooks)) as producer:
        assert not producer.emit({"type": "request", "path": "/health"})
        assert producer.emit({"type": "request", "path": "/v1"})
        assert not producer.record(path="/health").finish()
        stats = producer.stats

    assert (stats.withheld, stats.accepted, stats.rejected, stats.dropped) == (2, 1, 0, 0)
    assert len(lines_by_frame(valkey)[0]) == 1


def test_a_hook_that_fails_leaves_metadata_alone(
    valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails closed; told once a minute, without the message, which may quote the event."""

    def fails(event: dict[str, Any]) -> Mapping[str, Any]:
        raise RuntimeError(f"no hash for {event['body']}")

    with Producer(valkey.url, redaction=Redaction(hooks=[fails])) as producer:
        for _ in range(3):
            assert producer.emit({"type": "request", **CONVERSATION})
        stats = producer.stats

    assert (stats.reduced, stats.accepted) == (3, 3)
    lines = [line for frame in lines_by_frame(valkey) for line in frame]
    assert len(lines) == 3
    assert b"said" not in b"".join(lines)
    assert b"gpt-4o" in lines[0]
    [message] = [record.getMessage() for record in caplog.records]
    assert "only its metadata is recorded" in message
    assert "RuntimeError" in message
    assert "said" not in message


def test_a_line_made_to_be_slow_leaves_metadata_alone(valkey: ValkeyServer) -> None:
    """What would hold the request up for long is not kept, rather than not looked at."""
    with Producer(valkey.url) as producer:
        assert producer.emit({"type": "request", "model_name": "m", "body": "pwd=abc " * 20_000})
        assert producer.stats.reduced == 1

    [[line]] = lines_by_frame(valkey)
    assert orjson.loads(line).keys() == {"type", "id", "model_name"}


@pytest.mark.parametrize(
    "event",
    [
        {"type": SECRET},
        {"type": {"password": VALUE}},
        {"type": [SECRET] * 3},
        {"type": "request", "id": SECRET},
        {"type": "request", "id": {"api_key": VALUE}},
        {"type": "request", "id": "a secret with spaces: " + VALUE},
    ],
    ids=str,
)
def test_the_log_of_a_refused_event_holds_no_secret(
    event: dict[str, Any], valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The message of an exception quotes values; what is logged of it does not."""
    with Producer(valkey.url) as producer, caplog.at_level(logging.DEBUG):
        assert not producer.emit(event)

    logged = " ".join(record.getMessage() for record in caplog.records)
    assert "an event was rejected" in logged
    for secret in (SECRET, VALUE):
        assert not [at for at in range(4, len(secret) - 8) if secret[at : at + 8] in logged]


def test_what_is_said_of_a_mistake_is_still_of_use() -> None:
    """Short values and the advice stay."""
    with pytest.raises(BadInput) as caught:
        Redaction().encoded({"type": "span"}, Caps(), print)

    assert "got 'span'" in said(str(caught.value), Redaction())
