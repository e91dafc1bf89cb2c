"""A proxy in FastAPI, for clients of OpenAI and of Anthropic, recorded by Spoolway's middleware.

    export REDIS_URL=redis://127.0.0.1:6379/0 SPOOLWAY_DIR=var
    uvicorn examples.fastapi_proxy:app --port 8080

Answers go through as they come. `OPENAI_URL` and `ANTHROPIC_URL` name other backends.
"""

import os
from typing import Final

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from spoolway.producer import Producer
from spoolway.producer.asgi import SpoolwayMiddleware

BACKENDS: Final = {
    "openai": os.environ.get("OPENAI_URL", "https://api.openai.com"),
    "anthropic": os.environ.get("ANTHROPIC_URL", "https://api.anthropic.com"),
}
PASSED_ON: Final = (
    "authorization",
    "x-api-key",
    "anthropic-version",
    "content-type",
    "x-request-id",
)
NOT_FOR_CLIENT: Final = ("connection", "content-length", "date", "server", "transfer-encoding")

client = httpx.AsyncClient(timeout=600, headers={"accept-encoding": "gzip"})
app = FastAPI()
app.add_middleware(SpoolwayMiddleware, producer=Producer(), only=["/v1/*"])


@app.post("/v1/{path:path}")
async def pass_on(path: str, request: Request) -> Response:
    """Ask the backend, and pass its answer on."""
    backend = "anthropic" if path.startswith("messages") else "openai"
    outgoing = client.build_request(
        "POST",
        f"{BACKENDS[backend]}/v1/{path}",
        content=await request.body(),
        headers={name: request.headers[name] for name in PASSED_ON if name in request.headers},
    )
    record = request.state.spoolway  # of this request: add what only the proxy knows
    try:
        answer = await client.send(outgoing, stream=True)
    except httpx.RequestError as error:
        record.attempt(backend, error)
        return JSONResponse({"error": {"type": "no_backend", "message": "no answer"}}, 502)
    headers = {n: v for n, v in answer.headers.items() if n not in NOT_FOR_CLIENT}
    if answer.is_error:
        await answer.aread()
        record.attempt(backend, http_status=answer.status_code, response=answer.text)
        headers.pop("content-encoding", None)
        return Response(answer.content, answer.status_code, headers)
    record.attempt(backend, http_status=answer.status_code)
    return StreamingResponse(
        answer.aiter_raw(), answer.status_code, headers, background=BackgroundTask(answer.aclose)
    )
