"""The ASGI application: who may ask, how often, and what is said when something fails.

Every answer, also one of an error, goes out through here, and gets the security headers.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spoolway.worker.serve.answers import HEADERS, ApiError, json_response
from spoolway.worker.serve.endpoint import Asked, Endpoint, Sources
from spoolway.worker.serve.export import BrokenOffError, gone
from spoolway.worker.serve.failures import api_error, log_reason
from spoolway.worker.serve.limits import Rate
from spoolway.worker.serve.page_files import PageFiles
from spoolway.worker.serve.parameters import read_query
from spoolway.worker.serve.tokens import NOBODY, Caller, Tokens

log = logging.getLogger("spoolway.serve")

LONGEST_URL: Final = 8 << 10
"""Bytes of path and query."""
METHODS: Final = "GET, HEAD, OPTIONS"
_HUNG_UP: Final = 499
"""In the log alone: the client did not wait for the answer."""
_PATH_SHOWN: Final = 200
"""Characters of a path in the log."""


@dataclass(slots=True)
class _Exchange:
    """One request on its way through."""

    scope: Scope
    receive: Receive
    _send: Send
    caller: Caller | None = None
    status: int = 0
    is_quiet: bool = False
    """Whether it is worth a line in the log only when it fails."""
    began: float = field(default_factory=time.monotonic)

    async def send(self, message: Message) -> None:
        """Send, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given = {name for name, _ in message["headers"]}
            common = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [
                *message["headers"],
                *(header for header in common if header[0] not in given),
            ]
        await self._send(message)

    def log(self) -> None:
        """Say who asked what, and what became of it; never a value of the query."""
        log.log(
            logging.DEBUG if self.is_quiet and self.status < 400 else logging.INFO,
            "%s %s %d %.0f ms %s",
            self.scope["method"],
            self.scope["path"][:_PATH_SHOWN],
            self.status or _HUNG_UP,
            (time.monotonic() - self.began) * 1000,
            self.caller.name if self.caller else NOBODY,
        )


class Api:
    """The application."""

    def __init__(
        self,
        sources: Sources,
        tokens: Tokens,
        endpoints: Iterable[Endpoint],
        files: PageFiles,
    ) -> None:
        self._sources = sources
        self._tokens = tokens
        self._files = files
        self._rate = Rate(sources.settings.api_rate, time.monotonic)
        self._seconds = sources.settings.query_timeout * 2
        """A question waits for its turn, and is answered; whatever takes longer is cut off."""
        self._router = Router(
            [Route(each.path, _Routed(self._answer, each)) for each in endpoints],
            redirect_slashes=False,
            default=_not_found,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        exchange = _Exchange(scope, receive, send)
        scope["exchange"] = exchange
        try:
            await self._pass(exchange)
        except BrokenOffError:
            raise
        except Exception as error:
            failure = api_error(error)
            if failure is None:
                log.exception("%s %s failed", scope["method"], scope["path"][:_PATH_SHOWN])
                failure = ApiError(500, "failed", "a mistake of Spoolway's: its log has more")
            if exchange.status:
                raise BrokenOffError from error
            log_reason(error)
            await failure.response()(scope, receive, exchange.send)
        finally:
            exchange.log()

    async def _pass(self, exchange: _Exchange) -> None:
        scope = exchange.scope
        _check_shape(scope)
        path = scope["path"]
        if scope["method"] == "OPTIONS":
            await self._send(exchange, Response(status_code=204, headers={"allow": METHODS}))
            return
        headers = Headers(scope=scope)
        if (file := self._files.response(path, headers.get("if-none-match", ""))) is not None:
            exchange.is_quiet = True
            await self._send(exchange, file)
            return
        if path == "/healthz":
            exchange.is_quiet = True
            await self._send(exchange, json_response({"status": "alive"}))
            return
        try:
            exchange.caller = self._tokens.caller(scope["headers"])
        except ApiError:
            self._rate.take(NOBODY)  # who guesses is slowed down, and nobody else
            raise
        self._rate.take(exchange.caller.name)
        await self._router(scope, exchange.receive, exchange.send)

    async def _answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer at an endpoint, unless the client hangs up before; then it is given up."""
        exchange: _Exchange = scope["exchange"]
        # Without tokens there is nobody to name, and a page that is open asks all the time.
        exchange.is_quiet = endpoint.is_polled or not self._tokens
        assert exchange.caller is not None  # noqa: S101 - nobody gets here without
        if endpoint.needs_all and not exchange.caller.scope.is_everything:
            raise ApiError(
                403, "forbidden", "this token sees rows of some alone, and this is of all"
            )
        asked = Asked.at_once(
            sources=self._sources,
            caller=exchange.caller,
            query=read_query(scope["query_string"], endpoint.parameters),
            path=scope["path_params"],
            accept=Headers(scope=scope).get("accept", ""),
        )
        answering = asyncio.ensure_future(self._within_time(endpoint, asked))
        leaving = asyncio.ensure_future(gone(receive))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                response = answering.result()
            else:
                return
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.gather(answering, leaving, return_exceptions=True)
        await response(scope, receive, send)

    async def _within_time(self, endpoint: Endpoint, asked: Asked) -> ASGIApp:
        async with asyncio.timeout(self._seconds):
            if not endpoint.asks_database:
                return await endpoint.answer(asked)
            async with self._sources.slots.query():
                return await endpoint.answer(asked)

    @staticmethod
    async def _send(exchange: _Exchange, response: ASGIApp) -> None:
        await response(exchange.scope, exchange.receive, exchange.send)


class _Routed:
    """An endpoint as the router has it: an application, so that methods are none of its business."""

    def __init__(
        self,
        answer: Callable[[Endpoint, Scope, Receive, Send], Awaitable[None]],
        endpoint: Endpoint,
    ) -> None:
        self._answer = answer
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(self._endpoint, scope, receive, send)


def _check_shape(scope: Scope) -> None:
    """Refuse what no path here answers, before anything is looked at. Raises ApiError."""
    if scope["method"] not in METHODS.split(", "):
        raise ApiError(
            405,
            "method-not-allowed",
            f"nothing can be changed here: use {METHODS}",
            {"allow": METHODS, "connection": "close"},
        )
    if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_URL:
        raise ApiError(414, "url-too-long", f"the URL is longer than {LONGEST_URL:,} bytes")
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        # It will not be read: nor is what would follow it on the connection.
        raise ApiError(
            400, "bad-request", "a body is not taken: ask in the URL", {"connection": "close"}
        )


async def _not_found(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ApiError(
        404, "not-found", "there is nothing at this path: /openapi.json has what there is"
    )
