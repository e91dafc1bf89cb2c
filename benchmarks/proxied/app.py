"""The proxy that is measured: that of examples/fastapi_proxy.py, with a choice of who records.

.venv/bin/python -m benchmarks.proxied.app --upstream http://127.0.0.1:9000 --port 8080

FastAPI and httpx under uvicorn, one process. Answers go through as they come.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, get_args

import httpx
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

Recorder = Literal["none", "spoolway", "orm"]

READY: Final = "/ready"
"""Is answered as soon as the proxy serves."""
_PASSED_ON: Final = ("authorization", "content-type", "x-request-id")
_NOT_FOR_CLIENT: Final = ("connection", "content-length", "date", "server", "transfer-encoding")


def proxy(upstream: str, at_end: list[Callable[[], object]]) -> FastAPI:
    """Return the proxy, without anything that records; `at_end` is called when it shuts down."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        for call in at_end:
            await asyncio.to_thread(call)

    app = FastAPI(lifespan=lifespan)
    client = httpx.AsyncClient(
        timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None)
    )

    @app.get(READY)
    async def ready() -> Response:
        return Response()

    @app.post("/v1/{path:path}")
    async def pass_on(path: str, request: Request) -> Response:
        outgoing = client.build_request(
            "POST",
            f"{upstream}/v1/{path}",
            content=await request.body(),
            headers={n: request.headers[n] for n in _PASSED_ON if n in request.headers},
        )
        record = getattr(request.state, "spoolway", None)
        try:
            answer = await client.send(outgoing, stream=True)
        except httpx.RequestError as error:
            if record is not None:
                record.attempt("openai", error)
            return JSONResponse({"error": {"type": "no_backend", "message": "no answer"}}, 502)
        if record is not None:
            record.attempt("openai", http_status=answer.status_code)
        headers = {n: v for n, v in answer.headers.items() if n not in _NOT_FOR_CLIENT}
        closing = BackgroundTask(answer.aclose)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers, background=closing
        )

    return app


def recorded(
    app: FastAPI,
    at_end: list[Callable[[], object]],
    recorder: Recorder,
    *,
    redis_url: str,
    folder: Path | None,
    database_url: str,
) -> None:
    """Have a proxy's requests recorded, by middleware as its owner would add it."""
    if recorder == "spoolway":
        from spoolway.producer import Producer
        from spoolway.producer.asgi import SpoolwayMiddleware

        producer = Producer(redis_url, folder=folder)
        app.add_middleware(SpoolwayMiddleware, producer=producer, only=["/v1/*"])
        # At SIGTERM uvicorn ends the process by that same signal, and no `atexit` is called.
        at_end.append(producer.close)
    elif recorder == "orm":
        from benchmarks.proxied.inline import InlineMiddleware

        app.add_middleware(InlineMiddleware, url=database_url)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="The proxy of the benchmark.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--recorder", choices=get_args(Recorder), default="none")
    parser.add_argument("--redis-url", default="")
    parser.add_argument("--database-url", default="")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    at_end: list[Callable[[], object]] = []
    app = proxy(options.upstream, at_end)
    recorded(
        app,
        at_end,
        options.recorder,
        redis_url=options.redis_url,
        folder=options.folder,
        database_url=options.database_url,
    )
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
