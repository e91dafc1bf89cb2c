"""The listening socket, and a uvicorn in the worker's event loop that cannot do it any harm.

Whoever reaches the port may be slow, hostile, or many: a connection carries one request, lives a few
seconds at most, and there are only so many at once. The worker needs its descriptors for segments.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from spoolway.worker.config import Settings, UsageError
from spoolway.worker.http.app import app_of
from spoolway.worker.http.monitor import Monitor
from spoolway.worker.progress import Progress
from spoolway.worker.stores import Store

log = logging.getLogger("spoolway.http")

_MOST_CONNECTIONS: Final = 32
_LONGEST: Final = 10.0
"""Seconds that a connection lives: a scrape is done in one."""
_HEADER_BYTES: Final = 16 << 10
_CLOSING_SECONDS: Final = 1


class HttpServer:
    """Serves from `open` to `close`. That it fails is logged, and is nobody else's failure."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._monitor = Monitor(settings)
        self._listener = listener
        self.address: Final = _shown(listener)
        self._server = _Server(
            Config(
                app_of(self._monitor),
                http=_Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                headers=[("connection", "close"), ("cache-control", "no-store")],
                h11_max_incomplete_event_size=_HEADER_BYTES,
                timeout_graceful_shutdown=_CLOSING_SECONDS,
            )
        )
        self._serving = asyncio.create_task(self._serve(), name="spoolway-http")

    @classmethod
    def open(cls, settings: Settings, port: int) -> "HttpServer":
        """Listen, and answer from now on. Raises UsageError."""
        server = cls(settings, _listen(settings.http_host, port))
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
            for connection in list(self._server.server_state.connections):
                connection.transport.abort()  # it does not take its answer


class _Server(Server):
    """uvicorn without what a program has for itself: signals, and a look at the clock ten times a s."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        config.load()
        self.server_state.default_headers = config.encoded_headers
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End `serve`."""
        self._stopping.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: they are the worker's."""
        yield

    async def main_loop(self) -> None:
        """Wait for the stop."""
        await self._stopping.wait()


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


def _listen(host: str, port: int) -> socket.socket:
    where = f"{host}:{port}"
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family, backlog=_MOST_CONNECTIONS)
    except (socket.gaierror, UnicodeError):
        raise UsageError(
            f"SPOOLWAY_HTTP_HOST: {host!r} is no address of this machine: give one, such as "
            "127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"SPOOLWAY_HTTP_PORT: {where} is in use by another process: give another port, or "
                "0 for a free one"
            ) from None
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UsageError(
            f"health and metrics cannot listen on {where} ({reason}): give another address or port "
            "in SPOOLWAY_HTTP_HOST and SPOOLWAY_HTTP_PORT"
        ) from None


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
