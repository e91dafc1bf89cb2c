"""An OpenAI-compatible proxy that records every request with Spoolway.

    export REDIS_URL=redis://127.0.0.1:6379/0
    python -m examples.proxy --backend openai=https://api.openai.com/v1 --port 8080

Answers go through as they come, streams chunk by chunk. What is there for Spoolway is marked
"Spoolway:"; the rest is the proxy.
"""

import argparse
import asyncio
import hmac
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from examples.answer import StreamedAnswer, columns_of, parsed, problem_of
from examples.backends import Attempt, Backend, Backends, no_answer
from spoolway.producer import REDACTED, HeaderRules, Producer, Record

STOP_S: Final = 5
"""Seconds that requests in progress are given when the proxy stops."""
NOT_FOR_CLIENT: Final = frozenset(
    b"connection content-encoding content-length date keep-alive server set-cookie "
    b"transfer-encoding".split()
)
RULES: Final = HeaderRules()


class Proxy:
    """The ASGI application behind both routes."""

    def __init__(self, backends: Backends, producer: Producer, key_secret: bytes) -> None:
        self._backends = backends
        self._producer = producer
        self._key_secret = key_secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and record it."""
        request = Request(scope, receive)
        async with anyio.create_task_group() as tasks:
            # Spoolway: leaving this block sends the record, its errors with it: as "success", as
            # "error" after an exception, as "cancelled" when the client has hung up.
            with self._producer.record(**self._seen(request)) as record:
                try:
                    body = await request.body()
                except ClientDisconnect:
                    record.finish("cancelled")
                    return
                tasks.start_soon(_cancel_on_hang_up, receive, tasks.cancel_scope)
                record.set(**_asked(body))
                last = await self._ask(request, body, record)
                async with aclosing(last.answer):
                    await _relay(last, record, send)
            tasks.cancel_scope.cancel()

    def _seen(self, request: Request) -> dict[str, Any]:
        """Spoolway: the columns that are known when a request comes in."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        hashed = hmac.digest(self._key_secret, key.encode(), "sha256").hex()[:16]
        query = [
            (name, REDACTED if RULES.is_secret(name) else value)
            for name, value in parse_qsl(request.url.query, keep_blank_values=True)
        ]
        return {
            "path": request.url.path,
            "method": request.method,
            "query": urlencode(query, safe="[]") or None,
            "headers": request.headers,  # the producer takes the secrets out
            "request_id": request.headers.get("x-request-id"),
            "client_ip": request.client.host if request.client else None,
            "api_key_id": hashed if key else None,  # tells keys apart without holding one
            "route": {"backends": self._backends.names},
        }

    async def _ask(self, request: Request, body: bytes, record: Record) -> Attempt:
        attempts: list[dict[str, object]] = []
        async for attempt in self._backends.ask(request, body):
            # Spoolway: every attempt is kept, and one that failed is an error of this request.
            backend, status = attempt.backend, attempt.answer.status_code
            took = attempt.duration_ms
            attempts.append({"backend": backend, "http_status": status, "duration_ms": took})
            record.set(backend_attempts=attempts, provider=backend, http_status=status)
            if not attempt.answer.is_success:
                problem = problem_of(parsed(attempt.answer.content))
                record.error(**problem, backend_name=backend, http_status=status)
        return attempt


async def _relay(last: Attempt, record: Record, send: Send) -> None:
    """Pass the answer on; the record is finished before the last byte is sent."""
    answer = last.answer
    headers = [(n, v) for n, v in answer.headers.raw if n.lower() not in NOT_FOR_CLIENT]
    headers.append((b"x-request-log-id", str(record.id).encode()))
    start = {"type": "http.response.start", "status": answer.status_code, "headers": headers}
    if last.is_stream:
        await send(start)
        await _relay_stream(last, record, send)
        await send(_part(b"", more=False))
        return
    content = parsed(answer.content)
    columns = columns_of(content)
    if columns["stop_reason"]:
        record.first_token()  # it comes with all the others
    record.finish("success" if answer.is_success else "error", response=content, **columns)
    await send(start)
    await send(_part(answer.content, more=False))


async def _relay_stream(last: Attempt, record: Record, send: Send) -> None:
    """Pass every chunk on as it comes, and read along."""
    streamed = StreamedAnswer()

    def finish() -> None:
        if streamed.problem:
            record.error(**streamed.problem, backend_name=last.backend)
        record.finish("error" if streamed.problem else "success", **streamed.columns())

    try:
        async for data in last.answer.aiter_bytes():
            ended = streamed.feed(data)
            if streamed.has_token:
                record.first_token()  # only the first call counts
            await send(_part(data))
            if ended:  # at [DONE]: some clients hang up on it
                finish()
        if not streamed.ended:
            raise httpx.RemoteProtocolError("the stream ended without [DONE]")
    except httpx.RequestError as error:
        if not streamed.ended:
            data = b"\n\ndata: " + no_answer(error).content + b"\n\n"
            streamed.feed(data)
            finish()
            await send(_part(data))
    finally:
        record.set(**streamed.columns())  # what a client got that has hung up


def _part(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def _asked(body: bytes) -> dict[str, Any]:
    """Spoolway: the columns that the client's body fills."""
    content = parsed(body) if body else None
    asked = content if isinstance(content, dict) else {}
    return {
        "body": content,
        "model_name": asked.get("model"),
        "is_stream": asked.get("stream") is True,
        "user_id": asked.get("user"),
    }


async def _cancel_on_hang_up(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def make_app(backends: Backends, producer: Producer, key_secret: bytes) -> Starlette:
    """Return the proxy. It closes backends and producer when it is shut down."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await backends.aclose()
        # Spoolway: send what is buffered. In a thread, because it waits for Redis.
        await asyncio.to_thread(producer.close)

    proxy = Proxy(backends, producer, key_secret)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", proxy, methods=["POST"]),
            Route("/v1/models", proxy, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


def main() -> None:
    """Run the proxy until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.proxy",
        description="An OpenAI-compatible proxy that records every request with Spoolway.",
        epilog="Environment: REDIS_URL, where the events go; KEY_HASH_SECRET, with which keys "
        "become api_key_id (without it, the ids change with every start).",
    )
    parser.add_argument("--backend", action="append", required=True, metavar="NAME=URL")
    parser.add_argument("--port", type=int, default=8080, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--timeout", type=float, default=60, help="seconds a backend may be silent")
    arguments = parser.parse_args()
    backends = [Backend(*pair.split("=", 1)) for pair in arguments.backend if "=http" in pair]
    if len(backends) < len(arguments.backend):
        parser.error("--backend is NAME=URL, such as openai=https://api.openai.com/v1")
    try:
        producer = Producer()
    except ValueError as error:
        parser.error(str(error))
    key_secret = os.environ.get("KEY_HASH_SECRET", "").encode() or secrets.token_bytes(32)
    uvicorn.run(
        make_app(Backends(backends, arguments.timeout), producer, key_secret),
        port=arguments.port,
        access_log=False,  # a query may hold a key, and every request is recorded
        timeout_graceful_shutdown=STOP_S,
    )


if __name__ == "__main__":
    main()
