"""What proxies do today: a row for each request, committed before its answer ends."""

from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final

import orjson
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from benchmarks.contestants.orm import RequestLog
from spoolway.schema import new_id
from spoolway.worker.config import database_url

CONNECTIONS: Final = 5
"""SQLAlchemy's own default. Four at once are as fast as it gets on two processors."""
_SECRET: Final = (b"authorization", b"cookie", b"x-api-key")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class InlineMiddleware:
    """Keeps each body and answer, and inserts a row with SQLAlchemy's asyncio ORM at its end."""

    def __init__(self, app: App, url: str) -> None:
        self._app = app
        engine = create_async_engine(
            database_url(url),
            pool_size=CONNECTIONS,
            max_overflow=0,
            json_serializer=lambda value: orjson.dumps(value).decode(),
        )
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, and hold the end of its answer back until its row is committed."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        began, at = perf_counter(), datetime.now(UTC)
        asked, answered = bytearray(), bytearray()
        status = 0

        async def receiving() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                answered.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    row = _columns(scope, bytes(asked), bytes(answered))
                    row |= {"request_time": at, "http_status": status}
                    row["duration_ms"] = (perf_counter() - began) * 1e3
                    await self._insert(row)
            await send(message)

        await self._app(scope, receiving, sending)

    async def _insert(self, columns: dict[str, Any]) -> None:
        async with self._sessions() as session:
            session.add(RequestLog(**columns))
            await session.commit()


def _columns(scope: MutableMapping[str, Any], asked: bytes, answered: bytes) -> dict[str, Any]:
    body = orjson.loads(asked)
    is_stream = bool(body.get("stream"))
    columns: dict[str, Any] = {
        "id": new_id(),
        "model_name": body["model"],
        "is_stream": is_stream,
        "path": scope["path"],
        "method": scope["method"],
        "headers": {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name not in _SECRET
        },
        "body": body,
        "outcome": "success",
        "user_id": body.get("user"),
    }
    if is_stream:
        chunks = [
            orjson.loads(line[6:]) for line in answered.split(b"\n") if line.startswith(b"data: {")
        ]
        columns["stream_chunks"] = chunks
        last = chunks[-1]
    else:
        last = columns["response"] = orjson.loads(answered)
    usage = last.get("usage") or {}
    columns |= {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return columns | {"provider_model": last["model"], "total_tokens": usage.get("total_tokens")}
