"""ASGI middleware, for FastAPI, Starlette and any other: records what passes by.

    app.add_middleware(SpoolwayMiddleware, producer=Producer(folder="var"))

Every message goes on first and unchanged, and is looked at afterwards: no byte, no timing and no
back-pressure of the application's is touched. Inside a request `request.state.spoolway` is its
`Record`: for its route, its attempts at backends, its errors, and any column.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, Final

from spoolway.producer.capture import Exchange, Paths
from spoolway.producer.capture.paths import ALL, PROBES
from spoolway.producer.identity import Identify, keys_in, without_keys
from spoolway.producer.producer import Producer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STATE_KEY: Final = "spoolway"
"""Of the scope's state: where the request's Record is."""


class SpoolwayMiddleware:
    """Records each HTTP request of the application that it wraps; see the module."""

    def __init__(
        self,
        app: App,
        producer: Producer,
        *,
        identify: Identify | None = None,
        only: Iterable[str] = ALL,
        skip: Iterable[str] = PROBES,
    ) -> None:
        """Wrap an application.

        `identify` is called with the scope when a request has ended, and returns the columns that
        you know, such as `{"user_id": scope["state"]["user"]}`. `only` and `skip` are patterns of
        paths, such as "/v1/*"; what is not recorded passes by untouched. The producer is flushed
        when the application shuts down; it stays yours to close.
        """
        self._app = app
        self._producer = producer
        self._identify = identify
        self._paths = Paths(only, skip)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and record it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._flushing(send))
            return
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        await _Recorded(self._producer, self._identify, scope).run(self._app, receive, send)

    def _flushing(self, send: Send) -> Send:
        """Bring what is in memory to Redis, or to the disk, when the application has shut down.

        A server that ends itself by a signal, as uvicorn does, leaves nothing to do it at exit.
        """

        async def sending(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await asyncio.to_thread(self._producer.flush)  # which waits
            await send(message)

        return sending


class _Recorded:
    """One request on its way through the application."""

    __slots__ = ("_exchange", "_hung_up", "_identify", "_is_whole", "_scope")

    def __init__(self, producer: Producer, identify: Identify | None, scope: Scope) -> None:
        self._scope = scope
        self._identify = identify
        client = scope.get("client")
        record = producer.record(
            path=scope["path"],
            method=scope["method"],
            query=scope.get("query_string", b"").decode("latin-1") or None,
            headers=scope["headers"],  # the producer takes the secrets out
            client_ip=client[0] if client else None,
        )
        # In place: the server gives each request a state of its own, which others here share.
        scope.setdefault("state", {})[STATE_KEY] = record
        self._exchange = Exchange(record, producer.caps, scope["path"])
        self._exchange.asking(scope["headers"])
        self._is_whole = self._hung_up = False

    async def run(self, app: App, receive: Receive, send: Send) -> None:
        exchange = self._exchange

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                exchange.asked(message.get("body", b""))
            elif message["type"] == "http.disconnect":
                self._hung_up = True
            return message

        async def sending(message: Message) -> None:
            try:
                await send(message)
            except OSError:  # as ASGI has it, the client is gone
                self._hung_up = True
                raise
            if message["type"] == "http.response.body":
                exchange.answered(message.get("body", b""))
                if not message.get("more_body", False):
                    self._whole()
            elif message["type"] == "http.response.start":
                exchange.answering(message["status"], message.get("headers", ()))
            elif message["type"] == "http.response.pathsend":  # the server sends a file
                self._whole()

        try:
            await app(self._scope, receiving, sending)
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)

    def _whole(self) -> None:
        self._is_whole = True
        self._finish(None)

    def _finish(self, exception: BaseException | None) -> None:
        self._exchange.finish(
            is_whole=self._is_whole,
            hung_up=self._hung_up and not self._is_whole,
            exception=exception,
            known=self._known,
        )

    def _known(self) -> Mapping[str, object]:
        if self._identify is None:
            return {}
        return without_keys(self._identify(self._scope) or {}, keys_in(self._scope["headers"]))
