"""The example proxy: what passes through it, and what it records of every kind of request."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from examples import upstream
from examples.backends import Backend, Backends
from examples.proxy import make_app
from spoolway.producer import Producer
from tests.pushed import json_of
from tests.recorded import Recorded
from tests.servers import ValkeyServer, aeventually
from tests.servers.ports import ReservedPort

KEY = "sk-of-a-test-1f0c"
DONE = b"data: [DONE]\n\n"


class Proxied:
    """A client of a running proxy."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, model: str, **more: Any) -> httpx.Response:
        """Ask without streaming, or read the stream to its end."""
        return await self._client.post("/chat/completions", json=_question(model, **more))

    @asynccontextmanager
    async def asking(self, model: str) -> AsyncIterator[httpx.Response]:
        """Ask for a stream; leaving hangs up."""
        question = _question(model, stream=True)
        async with self._client.stream("POST", "/chat/completions", json=question) as answer:
            yield answer

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send any request."""
        return await self._client.request(method, path, **more)


def _question(model: str, *, stream: bool = False, **more: Any) -> dict[str, Any]:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    messages = [{"role": "user", "content": "Why in batches?"}]
    return {"model": model, "messages": messages, "user": "dora", **options, **more}


@asynccontextmanager
async def _served(app: Starlette) -> AsyncIterator[str]:
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await aeventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def _proxied(
    server: ValkeyServer, *backends: str, patience: float = 5.0, linger: float = 0.0
) -> AsyncIterator[Proxied]:
    """Run the proxy before these backends. When it is left, the proxy has ended."""
    named = [Backend(f"backend-{number}", url) for number, url in enumerate(backends)]
    producer = Producer(server.url, linger=linger)
    app = make_app(Backends(named, patience), producer, key_secret=b"the secret of this test")
    async with (
        _served(app) as url,
        httpx.AsyncClient(
            base_url=f"{url}/v1",
            headers={"authorization": f"Bearer {KEY}", "x-request-id": "the-client's-own"},
            trust_env=False,
            timeout=10,
        ) as client,
    ):
        yield Proxied(client)


@asynccontextmanager
async def _raw_backend(*parts: bytes, then: asyncio.Event | None = None) -> AsyncIterator[str]:
    """Run a backend that sends these bytes, waits for `then`, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if length := re.search(rb"(?i)content-length: (\d+)", head):
            await reader.readexactly(int(length[1]))
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then:
            await then.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def _stream_of(*parts: bytes) -> list[bytes]:
    """The beginning of a chunked stream."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return [head, *(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)]


def _chunk(text: str) -> bytes:
    return b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


def _ms(value: float | None) -> float:
    assert value is not None
    return value


async def test_a_whole_answer_is_recorded_with_everything_it_says(valkey: ValkeyServer) -> None:
    """Of an answer that came at once every column is filled, and the client has its id."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        answer = await proxied.ask("large")

    request = Recorded(valkey).request
    usage = answer.json()["usage"]
    assert answer.headers["x-request-log-id"] == str(request.id)
    assert (request.outcome, request.http_status, request.stop_reason) == ("success", 200, "stop")
    assert (request.path, request.method) == ("/v1/chat/completions", "POST")
    assert (request.model_name, request.provider_model) == ("large", "large-2026-01-01")
    assert (request.provider, request.is_stream) == ("backend-0", False)
    assert (request.user_id, request.client_ip) == ("dora", "127.0.0.1")
    assert request.request_id == "the-client's-own"
    assert json_of(request.body) == _question("large")
    assert json_of(request.response) == answer.json()
    assert json_of(request.usage_stats) == usage
    assert request.prompt_tokens == usage["prompt_tokens"]
    assert request.completion_tokens == usage["completion_tokens"]
    assert request.total_tokens == usage["total_tokens"]
    assert request.cached_tokens == usage["prompt_tokens_details"]["cached_tokens"]
    assert request.reasoning_tokens == 8
    assert 0 < _ms(request.ttft_ms) <= _ms(request.duration_ms)


async def test_a_stream_is_recorded_with_its_chunks_and_its_tokens(valkey: ValkeyServer) -> None:
    """A stream reaches the client as the backend sent it, and the record has what was in it."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        direct = httpx.AsyncClient(trust_env=False)
        async with direct:
            asked = _question("small", stream=True)
            expected = await direct.post(f"{url}/v1/chat/completions", json=asked)
        answer = await proxied.ask("small", stream=True)

    request = Recorded(valkey).request
    chunks = json_of(request.stream_chunks)
    assert _without_times(answer.text) == _without_times(expected.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [f"data: {json.dumps(chunk)}" for chunk in chunks] == answer.text.split("\n\n")[:-2]
    assert (request.outcome, request.stop_reason, request.is_stream) == ("success", "stop", True)
    assert request.total_tokens == chunks[-1]["usage"]["total_tokens"]
    assert 0 < _ms(request.ttft_ms) < _ms(request.duration_ms)


def _without_times(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [{**json.loads(line), "created": 0} for line in lines[:-1]] + lines[-1:]


async def test_a_chunk_is_passed_on_before_the_next_one_is_there(valkey: ValkeyServer) -> None:
    """Nothing of a stream waits in the proxy."""
    go_on = asyncio.Event()

    async def answer(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield _chunk("first")
            await go_on.wait()
            yield _chunk("second") + DONE

        return StreamingResponse(parts(), media_type="text/event-stream")

    backend = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    async with (
        _served(backend) as url,
        _proxied(valkey, f"{url}/v1") as proxied,
        proxied.asking("any") as stream,
    ):
        pieces = stream.aiter_bytes()
        first = await anext(pieces)
        go_on.set()
        rest = b"".join([piece async for piece in pieces])

    assert (first, rest) == (_chunk("first"), _chunk("second") + DONE)
    assert Recorded(valkey).request.outcome == "success"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_backends_error_is_passed_on_and_recorded(
    valkey: ValkeyServer, status: int, stream: bool
) -> None:
    """The client sees the backend's own error; the request has one, linked, and is an "error"."""
    model = f"fail-{status}"
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        answer = await proxied.ask(model, stream=stream)

    recorded = Recorded(valkey)
    [error] = recorded.errors
    _, kind, message = upstream.FAILURES[model]
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == message
    assert answer.headers["x-request-log-id"] == str(recorded.request.id)
    assert ("retry-after" in answer.headers) == (status == 429)
    assert (recorded.request.outcome, recorded.request.http_status) == ("error", status)
    assert json_of(recorded.request.response) == answer.json()
    assert json_of(recorded.request.errors)[0]["error_type"] == kind
    assert recorded.request.ttft_ms is None
    assert (error.request_id, error.http_status) == (recorded.request.id, status)
    assert (error.error_type, error.error_message) == (kind, message)
    assert (error.model_name, error.backend_name) == (model, "backend-0")
    assert error.request_path == "/v1/chat/completions"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_overloaded_backend_is_one_error_of_a_request_that_succeeds(
    valkey: ValkeyServer, stream: bool
) -> None:
    """After a 503 the next backend is asked; both attempts, and the error, are recorded."""
    async with (
        _served(upstream.app) as url,
        _proxied(valkey, f"{url}/v1", f"{url}/backup/v1") as proxied,
    ):
        answer = await proxied.ask("busy", stream=stream)

    recorded = Recorded(valkey)
    [error] = recorded.errors
    attempts = json_of(recorded.request.backend_attempts)
    assert answer.status_code == 200
    assert (recorded.request.outcome, recorded.request.provider) == ("success", "backend-1")
    assert [(a["backend"], a["http_status"]) for a in attempts] == [
        ("backend-0", 503),
        ("backend-1", 200),
    ]
    assert json_of(recorded.request.route) == {"backends": ["backend-0", "backend-1"]}
    assert (error.http_status, error.backend_name) == (503, "backend-0")


async def test_a_backend_that_refuses_connections_is_passed_over(valkey: ValkeyServer) -> None:
    """After a refused connection the next backend is asked; the refusal is an error event."""
    nobody = ReservedPort()
    async with (
        _served(upstream.app) as url,
        _proxied(valkey, f"http://127.0.0.1:{nobody.number}/v1", f"{url}/v1") as proxied,
    ):
        answer = await proxied.ask("small")

    recorded = Recorded(valkey)
    [error] = recorded.errors
    assert answer.status_code == 200
    assert recorded.request.outcome == "success"
    assert (error.error_type, error.request_id) == ("ConnectError", recorded.request.id)


async def test_without_any_backend_the_client_gets_a_502_that_is_recorded(
    valkey: ValkeyServer,
) -> None:
    """When nobody can be reached, the answer is the proxy's own, with an error per backend."""
    nobody = ReservedPort()
    dead = f"http://127.0.0.1:{nobody.number}/v1"
    async with _proxied(valkey, dead, dead) as proxied:
        answer = await proxied.ask("small", stream=True)

    recorded = Recorded(valkey)
    assert answer.status_code == 502
    assert answer.json()["error"]["type"] == "ConnectError"
    assert (recorded.request.outcome, recorded.request.http_status) == ("error", 502)
    assert [error.backend_name for error in recorded.errors] == ["backend-0", "backend-1"]


async def test_a_silent_backend_is_given_up_and_no_other_is_asked(valkey: ValkeyServer) -> None:
    """A timeout is a 504 and an error; the backend may still be at work, so it stays at one."""
    async with (
        _served(upstream.app) as url,
        _proxied(valkey, f"{url}/v1", f"{url}/backup/v1", patience=0.2) as proxied,
    ):
        answer = await proxied.ask("slow")

    recorded = Recorded(valkey)
    [error] = recorded.errors
    assert answer.status_code == 504
    assert (recorded.request.outcome, recorded.request.http_status) == ("error", 504)
    assert (error.error_type, error.http_status) == ("ReadTimeout", 504)
    assert len(json_of(recorded.request.backend_attempts)) == 1


async def test_a_client_that_hangs_up_in_a_stream_is_cancelled(valkey: ValkeyServer) -> None:
    """What it got is recorded, and the backend is told to stop."""
    told = asyncio.Event()

    async def answer(_request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            try:
                yield _chunk("first")
                await asyncio.sleep(60)
            finally:
                told.set()

        return StreamingResponse(parts(), media_type="text/event-stream")

    backend = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    async with _served(backend) as url, _proxied(valkey, f"{url}/v1") as proxied:
        async with proxied.asking("any") as stream:
            await anext(stream.aiter_bytes())
        await asyncio.wait_for(told.wait(), 5)

    recorded = Recorded(valkey)
    assert (recorded.request.outcome, recorded.request.http_status) == ("cancelled", 200)
    assert b"".join(map(_event, json_of(recorded.request.stream_chunks))) == _chunk("first")
    assert 0 < _ms(recorded.request.ttft_ms) < _ms(recorded.request.duration_ms)
    assert recorded.errors == []


def _event(chunk: object) -> bytes:
    return b"data: %s\n\n" % json.dumps(chunk).encode()


async def test_a_client_that_hangs_up_before_the_answer_is_cancelled(valkey: ValkeyServer) -> None:
    """The request is recorded though nobody was there to be answered."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        with pytest.raises(httpx.ReadTimeout):
            await proxied.send("POST", "/chat/completions", json=_question("slow"), timeout=0.3)

    request = Recorded(valkey).request
    assert (request.outcome, request.http_status) == ("cancelled", None)
    assert request.request_id == "the-client's-own"


async def test_a_client_that_hangs_up_on_the_last_chunk_was_served(valkey: ValkeyServer) -> None:
    """After [DONE] the request is a success, though the backend's connection is still open."""
    never = asyncio.Event()
    async with _raw_backend(*_stream_of(_chunk("all"), DONE), then=never) as backend:
        async with _proxied(valkey, backend) as proxied, proxied.asking("any") as stream:
            got = b""
            async for piece in stream.aiter_bytes():
                got += piece
                if got.endswith(DONE):
                    break
        never.set()  # from Python 3.12 on, a server waits for its connections

    assert Recorded(valkey).request.outcome == "success"


async def test_a_stream_that_breaks_off_is_an_error_for_client_and_log(
    valkey: ValkeyServer,
) -> None:
    """The status is sent by then: the client gets an error event, the request an error."""
    kind = "RemoteProtocolError"
    parts = _stream_of(_chunk("half an"), b'data: {"choices"')
    async with _raw_backend(*parts) as backend, _proxied(valkey, backend) as proxied:
        answer = await proxied.ask("any", stream=True)

    recorded = Recorded(valkey)
    [error] = recorded.errors
    assert json.loads(answer.text.rstrip().rpartition("data: ")[2])["error"]["type"] == kind
    assert (recorded.request.outcome, recorded.request.http_status) == ("error", 200)
    assert (error.error_type, error.request_id) == (kind, recorded.request.id)
    assert json_of(recorded.request.stream_chunks)[0] == {
        "choices": [{"delta": {"content": "half an"}}]
    }


async def test_an_error_inside_a_stream_is_recorded(valkey: ValkeyServer) -> None:
    """A backend that reports an error as an event makes the request one, with its first token."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        await proxied.ask("fail-midstream", stream=True)

    recorded = Recorded(valkey)
    [error] = recorded.errors
    assert recorded.request.outcome == "error"
    assert recorded.request.ttft_ms
    assert (error.error_type, error.error_message) == ("server_error", "The engine has crashed.")


@pytest.mark.parametrize("body", [b'{"model": \xff', b"[" * 100_000], ids=["bytes", "depth"])
async def test_what_is_no_json_is_passed_on_and_kept_as_text(
    valkey: ValkeyServer, body: bytes
) -> None:
    """The proxy judges no body: the backend does."""
    http = b"HTTP/1.1 418 Teapot\r\ncontent-type: text/html\r\ncontent-length: 7\r\n\r\n<teapot"
    async with _raw_backend(http) as backend, _proxied(valkey, backend) as proxied:
        answer = await proxied.send("POST", "/chat/completions", content=body)

    recorded = Recorded(valkey)
    [error] = recorded.errors
    assert (answer.status_code, answer.text) == (418, "<teapot")
    assert json_of(recorded.request.body) == body.decode(errors="replace")
    assert json_of(recorded.request.response) == "<teapot"
    assert error.error_message == "<teapot"


async def test_the_list_of_models_is_recorded_too(valkey: ValkeyServer) -> None:
    """Every request is, also one without a model."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        answer = await proxied.send("GET", "/models")

    request = Recorded(valkey).request
    assert {model["id"] for model in answer.json()["data"]} == set(upstream.MODELS)
    assert (request.path, request.method, request.outcome) == ("/v1/models", "GET", "success")
    assert (request.model_name, request.ttft_ms) == (None, None)


async def test_a_key_is_recorded_as_a_keyed_hash_alone(valkey: ValkeyServer) -> None:
    """Headers and query lose their secrets; api_key_id tells keys apart without being one."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1") as proxied:
        await proxied.ask("small")
        await proxied.ask("small")
        other = {"authorization": "Bearer sk-2nd", "x-team-api-key": "sk-3rd", "cookie": "a=sk-4th"}
        await proxied.send("GET", "/models?api_key=sk-5th&limit=3", headers=other)

    requests = Recorded(valkey).requests
    first, second, third = (request.api_key_id for request in requests)
    assert first == second != third
    assert [len(str(request.api_key_id)) for request in requests] == [16, 16, 16]
    assert requests[2].query == "api_key=[redacted]&limit=3"
    headers = json_of(requests[2].headers)
    assert {headers[n] for n in ("authorization", "x-team-api-key", "cookie")} == {"[redacted]"}
    assert all(b"sk-" not in bytes(request.headers) for request in requests)


async def test_a_proxy_that_stops_sends_what_it_has(valkey: ValkeyServer) -> None:
    """Events that would have waited a minute for others are in the stream when it has ended."""
    async with _served(upstream.app) as url, _proxied(valkey, f"{url}/v1", linger=60) as proxied:
        await proxied.ask("small")

    assert Recorded(valkey).request.outcome == "success"
