"""The WSGI middleware: by itself, and in the Flask example under a real server with a real client."""

import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from spoolway.producer import Producer, by_api_key, key_id
from spoolway.producer.wsgi import SpoolwayMiddleware
from tests.pushed import json_of
from tests.recorded import Recorded
from tests.servers import ValkeyServer, eventually
from tests.serving import ServerProcess, served
from tests.upstreams import Upstream

SECRET = b"sixteen bytes or more"
KEY = "a-key-of-no-known-form"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
App = Callable[[dict[str, Any], Any], Iterable[bytes]]
ASKED = orjson.dumps({"model": "m-1", "messages": []})


def environ(body: bytes = ASKED, **more: Any) -> dict[str, Any]:
    """A request, as a WSGI server hands it over."""
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/v1/gr\u00c3\u00bcsse",
        "QUERY_STRING": "token=hunter2",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_AUTHORIZATION": f"Bearer {KEY}",
        "HTTP_X_REQUEST_ID": "of the client",
        "REMOTE_ADDR": "10.1.2.3",
        "wsgi.input": io.BytesIO(body),
        **more,
    }


def answering(
    status: str, parts: Iterable[bytes], *, kind: str = "application/json", read: Any = None
) -> App:
    """An application that reads its body, in its own way, and answers this."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        (read or (lambda stream: stream.read()))(environ["wsgi.input"])
        start_response(status, [("Content-Type", kind)])
        return parts

    return app


class Server:
    """Runs an application as a WSGI server does."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.head: tuple[Any, ...] = ()

    def start_response(self, *head: Any) -> Callable[[bytes], None]:
        """Take status and headers."""
        self.head = head
        return self.got.append

    def run(self, app: App, *, most: int = 99, **more: Any) -> Iterable[bytes]:
        """Take at most so many parts; closes what was returned, and returns it."""
        parts = app(environ(**more), self.start_response)
        try:
            for number, part in enumerate(parts):
                if number == most:
                    break
                self.got.append(part)
        finally:
            if close := getattr(parts, "close", None):
                close()
        return parts


@pytest.fixture
def producer(valkey: ValkeyServer) -> Iterator[Producer]:
    """A producer without a linger."""
    with Producer(valkey.url, linger=0) as producer:
        yield producer


def recorded_by(producer: Producer, server: ValkeyServer) -> Recorded:
    """Return what was recorded of a run."""
    assert producer.flush(10)
    return Recorded(server)


@pytest.mark.parametrize(
    "read",
    [
        lambda stream: stream.read(),
        lambda stream: [stream.read(5), stream.read(500)],
        lambda stream: [stream.readline(3), *stream],
        lambda stream: stream.readlines(),
    ],
    ids=["read", "in parts", "iterated", "lines"],
)
def test_a_request_is_recorded_however_its_body_is_read(
    producer: Producer, valkey: ValkeyServer, read: Any
) -> None:
    """Every column that a server's environ tells, and what the answer says."""
    answer = orjson.dumps({"model": "m-1-served", "usage": {"prompt_tokens": 3}})
    app = answering("200 OK", iter([answer[:9], answer[9:]]), read=read)
    server = Server()
    server.run(SpoolwayMiddleware(app, producer, identify=lambda _environ: {"user_id": "dora"}))

    request = recorded_by(producer, valkey).request
    assert b"".join(server.got) == answer
    assert (request.outcome, request.http_status, request.user_id) == ("success", 200, "dora")
    assert (request.path, request.query) == ("/v1/grüsse", "token=[redacted]")
    assert (request.method, request.client_ip) == ("POST", "10.1.2.3")
    assert (request.model_name, request.provider_model) == ("m-1", "m-1-served")
    assert (request.prompt_tokens, request.request_id) == (3, "of the client")
    assert json_of(request.body) == orjson.loads(ASKED)
    assert json_of(request.headers)["authorization"] == "[redacted]"


def test_a_list_of_parts_stays_the_list_it_is(producer: Producer, valkey: ValkeyServer) -> None:
    """A server may take its length for the body's: it must get the same object."""
    parts = [b'{"a":', b"1}"]
    assert Server().run(SpoolwayMiddleware(answering("200 OK", parts), producer)) is parts
    request = recorded_by(producer, valkey).request
    assert (request.outcome, json_of(request.response)) == ("success", {"a": 1})


def test_what_is_written_by_hand_is_seen(producer: Producer, valkey: ValkeyServer) -> None:
    """The old way of WSGI: `write`, returned by `start_response`."""

    def app(_environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])(b'{"a":1}')
        return []

    server = Server()
    server.run(SpoolwayMiddleware(app, producer))
    assert server.got == [b'{"a":1}']
    assert json_of(recorded_by(producer, valkey).request.response) == {"a": 1}


def test_a_client_that_hangs_up_is_cancelled(producer: Producer, valkey: ValkeyServer) -> None:
    """The server closes what it has not read to the end; the application's own close is called."""
    closed: list[bool] = []

    def parts() -> Iterator[bytes]:
        try:
            yield CHUNK
            yield CHUNK
        finally:
            closed.append(True)

    app = answering("200 OK", parts(), kind="text/event-stream")
    Server().run(SpoolwayMiddleware(app, producer), most=1)
    recorded = recorded_by(producer, valkey)
    assert closed == [True]
    assert (recorded.request.outcome, recorded.errors) == ("cancelled", [])
    assert recorded.request.ttft_ms


@pytest.mark.parametrize("where", ["handler", "stream"])
def test_an_exception_goes_on_and_is_the_requests_error(
    producer: Producer, valkey: ValkeyServer, where: str
) -> None:
    """Raised before the answer or within it: recorded once, with its class and message."""

    def failing() -> Iterator[bytes]:
        yield CHUNK
        raise LookupError("gone")

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if where == "handler":
            raise LookupError("gone")
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return failing()

    with pytest.raises(LookupError):
        Server().run(SpoolwayMiddleware(app, producer))
    recorded = recorded_by(producer, valkey)
    assert (recorded.request.outcome, recorded.error.error_type) == ("error", "LookupError")
    assert recorded.request.http_status == (500 if where == "handler" else 200)


def test_a_status_of_400_and_above_is_an_error(producer: Producer, valkey: ValkeyServer) -> None:
    """With what the answer says of it; the API key is a keyed hash."""
    app = answering("429 Too Many", [b'{"error":{"type":"rate_limit","message":"slow down"}}'])
    Server().run(SpoolwayMiddleware(app, producer, identify=by_api_key(SECRET)))
    recorded = recorded_by(producer, valkey)
    assert (recorded.request.outcome, recorded.request.http_status) == ("error", 429)
    assert (recorded.error.error_type, recorded.error.error_message) == ("rate_limit", "slow down")
    assert recorded.request.api_key_id == key_id(KEY, SECRET)


def test_what_is_not_recorded_passes_untouched(producer: Producer) -> None:
    """Outside `only`, the application gets the server's own callables."""
    seen: list[Any] = []

    def app(*given: Any) -> Iterable[bytes]:
        seen.extend(given)
        return []

    server, given = Server(), environ(PATH_INFO="/healthz")
    stream = given["wsgi.input"]
    SpoolwayMiddleware(app, producer)(given, server.start_response)
    assert (seen[0] is given, given["wsgi.input"] is stream) == (True, True)
    assert seen[1] == server.start_response
    assert producer.stats.accepted == 0


@pytest.fixture(scope="module")
def upstream() -> Iterator[tuple[Upstream, str]]:
    """An upstream that knows what it sent, and its URL."""
    upstream = Upstream()
    with served(upstream.app) as url:
        yield upstream, url


def test_the_flask_example_records_what_a_real_client_asks(
    upstream: tuple[Upstream, str], valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Whole, streamed and failed, by OpenAI's client through a threaded server: the right numbers."""
    import openai  # it takes a second, in each of xdist's workers

    known, url = upstream
    stream = f"spoolway:{uuid.uuid4().hex}"
    environment = {
        **os.environ,
        "REDIS_URL": valkey.url,
        "SPOOLWAY_STREAM": stream,
        "OPENAI_URL": url,
    }
    log = tmp_path / "flask.log"
    proxy = ServerProcess("examples.flask_proxy", log=log, environment=environment)
    client = openai.OpenAI(api_key=KEY, base_url=f"{proxy.url}/v1", max_retries=0)
    try:
        eventually(proxy.answers, timeout=30, what="the proxy")
        create = client.chat.completions.create
        create(model="small", messages=[], extra_headers={"x-request-id": "whole"})
        with create(
            model="small",
            messages=[],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-request-id": "streamed"},
        ) as chunks:
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        with pytest.raises(openai.RateLimitError):
            create(model="fail-429", messages=[], extra_headers={"x-request-id": "failed"})

        def recorded() -> Any:
            by_id = {request.request_id: request for request in Recorded(valkey, stream).requests}
            return {"whole", "streamed", "failed"} <= set(by_id) and by_id

        requests = eventually(recorded, what="three requests")
    finally:
        client.close()
        proxy.end()

    for name in ("whole", "streamed"):
        request, sent = requests[name], known.sent[name]
        assert (request.outcome, request.stop_reason) == ("success", "stop")
        assert (request.prompt_tokens, request.completion_tokens) == (sent.prompt, sent.completion)
        assert request.cached_tokens == sent.cached
        assert 0 < request.ttft_ms <= request.duration_ms
    assert text == known.sent["streamed"].text
    assert json_of(requests["streamed"].stream_chunks) == known.sent["streamed"].chunks
    assert requests["failed"].outcome == "error"
    [error] = [e for e in Recorded(valkey, stream).errors if e.request_id == requests["failed"].id]
    assert (error.http_status, error.error_message) == (429, "as asked: 429")
