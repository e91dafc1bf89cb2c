"""An OpenAI-compatible proxy that records every request with Spoolway.

    export REDIS_URL=redis://127.0.0.1:6379/0
    python -m examples.proxy --backend openai=https://api.openai.com/v1 --port 8080

Answers go through as they come, streams chunk by chunk. What is there for Spoolway is marked
"Spoolway:"; the rest is the proxy.
"""

import argparse
import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from examples.backends import Attempt, Backend, Backends, no_answer
from spoolway.producer import Producer, Record, by_api_key
from spoolway.producer.asgi import SpoolwayMiddleware

STOP_S: Final = 5
"""Seconds that requests in progress are given when the proxy stops."""
NOT_FOR_CLIENT: Final = frozenset(
    b"connection content-encoding content-length date keep-alive server set-cookie "
    b"transfer-encoding".split()
)


class Proxy:
    """The ASGI application behind both routes."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        # Spoolway: the middleware's record of this request, to add what only the proxy knows.
        record: Record = request.state.spoolway
        record.set(route={"backends": self._backends.names})
        try:
            body = await request.body()
        except ClientDisconnect:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_hang_up, receive, tasks.cancel_scope)
            last = await self._ask(request, body, record)
            async with aclosing(last.answer):
                await _relay(last, record, send)
            tasks.cancel_scope.cancel()

    async def _ask(self, request: Request, body: bytes, record: Record) -> Attempt:
        async for attempt in self._backends.ask(request, body):
            # Spoolway: every attempt is kept, and one that failed is an error of this request.
            answer = attempt.answer
            record.attempt(
                attempt.backend,
                http_status=answer.status_code,
                duration_ms=attempt.duration_ms,
                response=None if answer.is_success else answer.text,
            )
        return attempt


async def _relay(last: Attempt, record: Record, send: Send) -> None:
    """Pass the answer on, a stream chunk by chunk."""
    answer = last.answer
    headers = [(n, v) for n, v in answer.headers.raw if n.lower() not in NOT_FOR_CLIENT]
    headers.append((b"x-request-log-id", str(record.id).encode()))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    if not last.is_stream:
        await send(_part(answer.content, more=False))
        return
    try:
        async for data in answer.aiter_bytes():
            await send(_part(data))
    except httpx.RequestError as error:
        # The status is sent: an event tells the client. The middleware reads it, too.
        await send(_part(b"\n\ndata: " + no_answer(error).content + b"\n\n"))
    await send(_part(b"", more=False))


def _part(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


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

    proxy = Proxy(backends)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", proxy, methods=["POST"]),
            Route("/v1/models", proxy, methods=["GET"]),
        ],
        # Spoolway: records every request that passes by. API keys become keyed hashes.
        middleware=[
            Middleware(SpoolwayMiddleware, producer=producer, identify=by_api_key(key_secret))
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
