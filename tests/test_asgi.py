"""The ASGI middleware by itself: what it passes on, and what it makes of every way to end."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from spoolway.producer import Producer, Record, Redaction, by_api_key, key_id
from spoolway.producer.asgi import SpoolwayMiddleware
from spoolway.schema import Caps
from tests.pushed import json_of
from tests.recorded import Recorded
from tests.servers import ValkeyServer

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]
KEY = "a-key-of-no-known-form"
SECRET = b"sixteen bytes or more"
JSON = [(b"content-type", b"application/json")]
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'


class Client:
    """Drives an application as a server does, and keeps what it sent."""

    def __init__(self, *incoming: Message, fails_after: int | None = None) -> None:
        self._incoming = list(incoming)
        self._fails_after = fails_after
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        """The next message; then the client has hung up."""
        return self._incoming.pop(0) if self._incoming else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a message, or fail as a server does whose client is gone."""
        if self._fails_after is not None and len(self.sent) >= self._fails_after:
            raise OSError("the client is gone")
        self.sent.append(message)


def scope(path: str = "/v1/chat/completions", **more: Any) -> dict[str, Any]:
    """A request's scope, as uvicorn makes it."""
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {KEY}".encode()), *JSON],
        "client": ("10.1.2.3", 4711),
        "state": {},
        **more,
    }


def body(data: bytes, *, more: bool = False) -> Message:
    """A part of a request's body."""
    return {"type": "http.request", "body": data, "more_body": more}


def start(status: int = 200, headers: Any = JSON) -> Message:
    """The beginning of an answer."""
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(data: bytes, *, more: bool = False) -> Message:
    """A part of an answer."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def answering(*messages: Message, before: Callable[[Record], object] | None = None) -> App:
    """An application that reads its body, and sends these."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        if before:
            before(scope["state"]["spoolway"])
        for message in messages:
            await send(message)

    return app


@pytest.fixture
def producer(valkey: ValkeyServer) -> Iterator[Producer]:
    """A producer without a linger."""
    with Producer(valkey.url, linger=0, caps=Caps(stream_bytes=2048, body_bytes=4096)) as producer:
        yield producer


def recorded_by(producer: Producer, server: ValkeyServer) -> Recorded:
    """Return what was recorded of a run."""
    assert producer.flush(10)
    return Recorded(server)


def run(app: App, client: Client, producer: Producer, in_scope: Any = None, **options: Any) -> None:
    """Run one request through the middleware."""
    middleware = SpoolwayMiddleware(app, producer, **options)
    asyncio.run(middleware(in_scope or scope(), client.receive, client.send))


MESSAGES = st.lists(
    st.builds(
        lambda data, name, more: {"type": name, "body": data, "more_body": more, "extra": object()},
        st.binary(max_size=40),
        st.sampled_from(["http.response.body", "http.response.trailers", "http.response.push"]),
        st.booleans(),
    ),
    max_size=6,
)


@given(MESSAGES, MESSAGES, st.integers(100, 599))
def test_messages_pass_in_order_and_as_the_same_objects(
    incoming: list[Message], outgoing: list[Message], status: int
) -> None:
    """Nothing is copied, joined, held back, added or left out, in either direction."""
    received: list[Message] = []
    sent = [start(status), *outgoing]

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for number, message in enumerate(sent):
            received.append(await receive())
            await send(message)
            assert len(client.sent) == number + 1, "it was not sent on at once"

    producer = Producer("redis://127.0.0.1:1")
    producer.close()  # what it drops is not the matter here
    requests = [{**message, "type": "http.request"} for message in incoming]
    client = Client(*requests)
    run(app, client, producer)
    assert [id(message) for message in client.sent] == [id(message) for message in sent]
    expected = requests[: len(sent)]
    assert [id(message) for message in received[: len(expected)]] == [id(m) for m in expected]


def test_a_request_is_recorded_with_what_only_the_proxy_knows(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """In the scope's state is the record: route, attempts, and any column, which then wins."""

    def know(record: Record) -> None:
        record.set(route={"group": "fast"}, model_name="alias", organization_id="acme")
        record.attempt("first", http_status=503, duration_ms=3.5, response='{"error": "busy"}')
        record.attempt("second", http_status=200)

    asked = orjson.dumps({"model": "m-1", "user": "dora", "messages": []})
    answer = orjson.dumps({"model": "m-1-2026", "choices": [{"finish_reason": "length"}]})
    app = answering(start(), part(answer), before=know)
    run(
        app,
        Client(body(asked[:9], more=True), body(asked[9:])),
        producer,
        scope(query_string=b"api_key=hunter2&limit=3"),
        identify=lambda scope: {"project_id": scope["method"], "user_id": "of the proxy"},
    )

    request, error = (recorded := recorded_by(producer, valkey)).request, recorded.error
    assert (request.outcome, request.http_status, request.stop_reason) == ("success", 200, "length")
    assert (request.model_name, request.provider_model) == ("alias", "m-1-2026")
    assert (request.user_id, request.project_id) == ("of the proxy", "POST")
    assert (request.organization_id, request.provider) == ("acme", "second")
    assert (json_of(request.body), json_of(request.response)) == (
        orjson.loads(asked),
        orjson.loads(answer),
    )
    assert json_of(request.route) == {"group": "fast"}
    first, second = json_of(request.backend_attempts)
    assert first["response"] == '{"error": "busy"}'
    assert (first["error_message"], second) == ("busy", {"backend": "second", "http_status": 200})
    assert (error.http_status, error.backend_name, error.error_message) == (503, "first", "busy")
    assert request.query == "api_key=[redacted]&limit=3"
    assert request.client_ip == "10.1.2.3"


def test_an_exception_goes_on_and_is_the_requests_error(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """The server answers 500 for it; it is recorded once, with its class and message."""

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise LookupError("no such backend")

    with pytest.raises(LookupError):
        run(app, Client(), producer)

    request, error = (recorded := recorded_by(producer, valkey)).request, recorded.error
    assert (request.outcome, request.http_status) == ("error", 500)
    assert (error.error_type, error.error_message) == ("LookupError", "no such backend")
    assert (error.request_id, error.http_status) == (request.id, 500)


def test_an_exception_after_the_answer_is_an_error_of_a_request_that_succeeded(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """As of a background task: the client has got its answer."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"{}"))
        raise RuntimeError("in the background")

    with pytest.raises(RuntimeError):
        run(app, Client(), producer)

    recorded = recorded_by(producer, valkey)
    assert recorded.request.outcome == "success"
    assert recorded.error.request_id == recorded.request.id


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_a_status_of_400_and_above_is_an_error(
    producer: Producer, valkey: ValkeyServer, status: int
) -> None:
    """Also where no backend was asked: a wrong key, a rate limit. What the answer says is kept."""
    answer = orjson.dumps({"error": {"type": "of_its_kind", "message": "why"}})
    run(answering(start(status), part(answer)), Client(body(b"{}")), producer)

    request, error = (recorded := recorded_by(producer, valkey)).request, recorded.error
    assert (request.outcome, request.http_status) == ("error", status)
    assert (error.error_type, error.error_message) == ("of_its_kind", "why")
    assert (error.http_status, error.request_path) == (status, "/v1/chat/completions")


def test_an_error_that_the_proxy_recorded_is_not_recorded_twice(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """What a failed attempt said is the reason for the status that the client gets."""
    app = answering(
        start(502),
        part(b'{"error": {"message": "sorry"}}'),
        before=lambda record: record.attempt("only", ConnectionError("refused")),
    )
    run(app, Client(body(b"{}")), producer)

    error = recorded_by(producer, valkey).error
    assert (error.error_type, error.backend_name) == ("ConnectionError", "only")


def test_an_error_within_a_stream_is_an_error(producer: Producer, valkey: ValkeyServer) -> None:
    """The status was 200 long before."""
    wrong = b'data: {"error": {"type": "server_error", "message": "crashed"}}\n\n'
    run(answering(start(headers=SSE), part(CHUNK, more=True), part(wrong)), Client(), producer)

    request, error = (recorded := recorded_by(producer, valkey)).request, recorded.error
    assert (request.outcome, request.http_status) == ("error", 200)
    assert (error.error_type, error.error_message) == ("server_error", "crashed")
    assert len(json_of(request.stream_chunks)) == 2


@pytest.mark.parametrize(
    ("chunk", "kept"),
    [
        (b'{"a": "\\u0000"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud800"}', {"a": "\ufffd"}),
        (b'{"a":"\\ud83c\\udf88"}', {"a": "\U0001f388"}),
        (b'{"a":NaN}', {"a": None}),
        (b'{"a":12345678901234567890123}', {"a": 12345678901234567890123}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'{"a":', '{"a":'),
        (b'"plain"', "plain"),
    ],
)
def test_a_chunk_that_no_database_takes_is_repaired(
    producer: Producer, valkey: ValkeyServer, chunk: bytes, kept: object
) -> None:
    """Chunks are kept as they came; one that cannot be is repaired, and its neighbours stay."""
    parts = [part(b"data: %s\n\n" % data, more=True) for data in (b'{"b":1}', chunk, b'{"c":2}')]
    run(answering(start(headers=SSE), *parts, part(b"data: [DONE]\n\n")), Client(), producer)
    chunks = json.loads(bytes(recorded_by(producer, valkey).request.stream_chunks))
    assert chunks == [{"b": 1}, kept, {"c": 2}]


def test_a_stream_that_just_stops_is_an_error(producer: Producer, valkey: ValkeyServer) -> None:
    """An upstream that dies may close its connection in good order."""
    run(answering(start(headers=SSE), part(CHUNK, more=True), part(b"")), Client(), producer)

    recorded = recorded_by(producer, valkey)
    assert recorded.request.outcome == "error"
    assert recorded.error.error_type == "unfinished_stream"


def test_an_answer_that_the_proxy_does_not_end_is_an_error(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """Nobody hung up: the proxy has returned in the middle."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start())
        await send(part(b"{", more=True))

    run(app, Client(), producer)
    recorded = recorded_by(producer, valkey)
    assert (recorded.request.outcome, recorded.error.error_type) == ("error", "unfinished_response")


@pytest.mark.parametrize("how", ["told", "broken pipe", "stopped"])
def test_a_client_that_is_gone_is_cancelled(
    producer: Producer, valkey: ValkeyServer, how: str
) -> None:
    """The application is told by `receive` or by `send`, or it is stopped; none is an error."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(start(headers=SSE))
        await send(part(CHUNK, more=True))
        if how == "told":
            assert (await receive())["type"] == "http.disconnect"
        elif how == "broken pipe":
            await send(part(CHUNK, more=True))
        else:
            raise asyncio.CancelledError

    client = Client(body(b"{}"), fails_after=2)
    if how == "told":
        run(app, client, producer)
    else:
        with pytest.raises(OSError if how == "broken pipe" else asyncio.CancelledError):
            run(app, client, producer)

    recorded = recorded_by(producer, valkey)
    assert (recorded.request.outcome, recorded.request.http_status) == ("cancelled", 200)
    assert len(json_of(recorded.request.stream_chunks)) == 1
    assert recorded.errors == []


def test_a_client_that_hangs_up_on_the_end_was_served(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """Some clients do at [DONE], before the connection's own end."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await send(start(headers=SSE))
        await send(part(CHUNK + b"data: [DONE]\n\n", more=True))
        await receive()

    run(app, Client(), producer)
    assert recorded_by(producer, valkey).request.outcome == "success"


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_compressed_answer_is_read(producer: Producer, valkey: ValkeyServer, coding: str) -> None:
    """It passes by compressed, and is recorded as the client will read it, cut anywhere."""
    content = orjson.dumps({"model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": 7}})
    packed = gzip.compress(content) if coding == "gzip" else zstandard.compress(content)
    headers = [*JSON, (b"content-encoding", coding.encode())]
    parts = [part(packed[i : i + 1], more=True) for i in range(len(packed))]
    run(answering(start(headers=headers), *parts, part(b"")), Client(), producer)

    request = recorded_by(producer, valkey).request
    assert json_of(request.response) == orjson.loads(content)
    assert (request.prompt_tokens, request.completion_tokens) == (5, 7)


@pytest.mark.parametrize(
    ("coding", "content"),
    [("br", b"who knows"), ("gzip", b"no gzip"), ("gzip", gzip.compress(bytes(70 * 2**20)))],
    ids=["unknown", "damaged", "bomb"],
)
def test_a_coding_that_cannot_be_undone_is_noted(
    producer: Producer, valkey: ValkeyServer, coding: str, content: bytes
) -> None:
    """The answer passes; the record says why it was not read. A bomb does not go off."""
    client = Client()
    headers = [*JSON, (b"content-encoding", coding.encode())]
    run(answering(start(headers=headers), part(content)), client, producer)

    request = recorded_by(producer, valkey).request
    assert client.sent[1]["body"] == content
    assert request.outcome == "success"
    assert json_of(request.extra)["response_unread"]


def test_bodies_over_their_caps_keep_size_and_hash(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """A body and a stream that are too large say so, in their columns and in `truncated`."""
    asked = orjson.dumps({"input": "x" * 5000, "model": "m-1"})
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    run(
        answering(start(headers=SSE), *(part(CHUNK, more=True) for _ in range(99)), part(end)),
        Client(body(asked)),
        producer,
    )

    request = recorded_by(producer, valkey).request
    kept = json_of(request.body)
    assert (kept["_truncated"], kept["bytes"]) == (True, len(asked))
    assert request.model_name == "m-1"
    *chunks, marker = json_of(request.stream_chunks)
    assert 1000 < len(orjson.dumps(chunks)) <= 2048
    assert marker["bytes"] > 99 * 70
    assert json_of(request.truncated) == ["body", "stream_chunks"]
    assert (request.stop_reason, request.outcome) == ("stop", "success")


def test_a_form_is_recorded_without_its_files(producer: Producer, valkey: ValkeyServer) -> None:
    """Of a file the name and the size are kept; of an answer that is one, also hash and type."""
    form = (
        b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x\r\n'
        b'content-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n\xff\xfb\0\0\r\n--x--'
    )
    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    sound = start(headers=[(b"content-type", b"audio/mpeg")])
    run(answering(sound, part(b"\xff\0")), Client(body(form)), producer, scope(headers=headers))

    request = recorded_by(producer, valkey).request
    assert json_of(request.body) == {
        "model": "whisper-1",
        "file": {"filename": "a.mp3", "bytes": 4},
    }
    assert request.model_name == "whisper-1"
    kept = json_of(request.response)
    assert (kept["bytes"], kept["content_type"], kept["preview"]) == (2, "audio/mpeg", "")
    assert kept["sha256"] == hashlib.sha256(b"\xff\0").hexdigest()


def test_an_api_key_is_a_keyed_hash(producer: Producer, valkey: ValkeyServer) -> None:
    """`by_api_key` tells keys apart; the key itself is nowhere."""
    run(answering(start(), part(b"")), Client(), producer, identify=by_api_key(SECRET))
    assert recorded_by(producer, valkey).request.api_key_id == key_id(KEY, SECRET)


def test_a_hook_that_returns_the_key_itself_returns_none(
    producer: Producer, valkey: ValkeyServer
) -> None:
    """A mistake that is easily made: in the key's place is [redacted]."""

    def identify(scope: Mapping[str, Any]) -> dict[str, object]:
        return {"api_key_id": dict(scope["headers"])[b"authorization"].decode()}

    run(answering(start(), part(b"")), Client(), producer, identify=identify)
    assert recorded_by(producer, valkey).request.api_key_id == "[redacted]"


def test_a_hook_that_fails_costs_its_columns_alone(
    producer: Producer, valkey: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The request goes on, and is recorded; the log names the exception, not what is in it."""

    def identify(_scope: Mapping[str, Any]) -> dict[str, object]:
        raise LookupError(KEY)

    client = Client()
    run(answering(start(), part(b"ok")), client, producer, identify=identify)
    assert client.sent[1]["body"] == b"ok"
    assert recorded_by(producer, valkey).request.outcome == "success"
    assert KEY not in caplog.text


def test_a_hook_of_redaction_sees_bodies_as_they_are(valkey: ValkeyServer) -> None:
    """What the middleware has parsed is dicts and lists for the owner's code."""

    def without_text(event: dict[str, Any]) -> dict[str, Any]:
        event["body"]["messages"] = len(event["body"]["messages"])
        return event

    asked = orjson.dumps({"model": "m-1", "messages": ["secret", "secret"]})
    with Producer(valkey.url, redaction=Redaction(hooks=[without_text])) as producer:
        run(answering(start(), part(b'{"a": 1}')), Client(body(asked)), producer)
        request = recorded_by(producer, valkey).request
    assert json_of(request.body) == {"model": "m-1", "messages": 2}
    assert json_of(request.response) == {"a": 1}


@pytest.mark.parametrize("kind", ["websocket", "/healthz", "/other"])
def test_what_is_not_recorded_passes_untouched(
    producer: Producer, valkey: ValkeyServer, kind: str
) -> None:
    """Other protocols, probes, and paths outside `only`: the application gets its own callables."""
    seen: list[Any] = []

    async def app(*given: Any) -> None:
        seen.extend(given)

    client = Client()
    in_scope = scope(path=kind) if kind.startswith("/") else {"type": kind}
    receive, send = client.receive, client.send
    middleware = SpoolwayMiddleware(app, producer, only=["/v1/*", "/healthz"])
    asyncio.run(middleware(in_scope, receive, send))
    assert (seen[0] is in_scope, seen[1] is receive, seen[2] is send) == (True, True, True)
    assert producer.stats.accepted == 0
