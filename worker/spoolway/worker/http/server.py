"""Health and metrics in the worker's event loop, which they cannot do any harm.

Whoever reaches the port may be slow, hostile, or many: a connection carries one request, lives a few
seconds at most, and there are only so many at once. The worker needs its descriptors for segments.
"""

import asyncio
import logging
import socket
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from spoolway.worker.config import Settings
from spoolway.worker.http.app import app_of
from spoolway.worker.http.embedded_server import EmbeddedServer
from spoolway.worker.http.listening import Place, listen, shown_address
from spoolway.worker.http.monitor import Monitor
from spoolway.worker.progress import Progress
from spoolway.worker.stores import Store

log = logging.getLogger("spoolway.http")

_MOST_CONNECTIONS: Final = 32
_LONGEST: Final = 10.0
"""Seconds that a connection lives: a scrape is done in one."""
_CLOSING_SECONDS: Final = 1


class HttpServer:
    """Serves from `open` to `close`. That it fails is logged, and is nobody else's failure."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._monitor = Monitor(settings)
        self._listener = listener
        self.address: Final = shown_address(listener)
        self._server = EmbeddedServer(
            app_of(self._monitor),
            _Connection,
            headers=[("connection", "close"), ("cache-control", "no-store")],
            closing_seconds=_CLOSING_SECONDS,
        )
        self._serving = asyncio.create_task(self._serve(), name="spoolway-http")

    @classmethod
    def open(cls, settings: Settings, port: int) -> "HttpServer":
        """Listen, and answer from now on. Raises UsageError."""
        place = Place(
            "health and metrics",
            settings.http_host,
            port,
            "SPOOLWAY_HTTP_HOST",
            "SPOOLWAY_HTTP_PORT",
            _MOST_CONNECTIONS,
        )
        server = cls(settings, listen(place))
        log.info("health and metrics are on http://%s", server.address)
        return server

    def watch(self, progress: Progress, store: Store | None) -> None:
        """Tell of this worker from now on."""
        progress.http = self.address
        self._monitor.watch(progress, store)

    async def close(self) -> None:
        """Finish what is being answered, for a second at most, and close. As often as you like."""
        self._server.stop()
        await asyncio.wait([self._serving])
        await self._monitor.close()

    async def _serve(self) -> None:
        try:
            await self._server.serve([self._listener])
        except Exception:
            log.exception("health and metrics have failed; draining goes on without them")
        finally:
            self._listener.close()
            self._server.abort()


class _Connection(H11Protocol):
    """A connection that does not outlive its deadline, whatever its client does or does not."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn, where it is narrowed, too
        """Count it in, or turn it away."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
        else:
            self._deadline = self.loop.call_later(_LONGEST, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)
