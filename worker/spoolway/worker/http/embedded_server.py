"""A uvicorn in somebody else's event loop: what every server here has.

Whoever reaches a port may be slow, hostile, or many. What bounds a connection is each server's own.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from starlette.types import ASGIApp
from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEADER_BYTES: Final = 16 << 10


class EmbeddedServer(Server):
    """uvicorn without what a program has for itself: signals, and a look at the clock ten times a s."""

    def __init__(
        self,
        app: ASGIApp,
        connection: type[H11Protocol],
        *,
        headers: list[tuple[str, str]],
        closing_seconds: int,
        **further: Any,
    ) -> None:
        """`closing_seconds`: how long what is being answered is waited for at the stop."""
        config = Config(
            app,
            http=connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            headers=headers,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_graceful_shutdown=closing_seconds,
            **further,
        )
        super().__init__(config)
        config.load()
        self.server_state.default_headers = config.encoded_headers
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve`."""
        self._stopping.set()

    def abort(self) -> None:
        """Cut off who does not take the rest of an answer."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: they are the process's."""
        yield

    async def main_loop(self) -> None:
        """Wait for the stop."""
        await self._stopping.wait()
