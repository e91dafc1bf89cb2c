"""The server of the API and the page, and what bounds a client of it.

A connection has a few seconds to say what it wants and to take what it is sent. An answer may take
long: that of an export, as long as its client goes on reading.
"""

import asyncio
import logging
import socket
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from spoolway.worker.config import Settings
from spoolway.worker.http.embedded_server import EmbeddedServer
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.serve.app import Api
from spoolway.worker.serve.endpoint import Sources
from spoolway.worker.serve.endpoints import ENDPOINTS
from spoolway.worker.serve.limits import Slots
from spoolway.worker.serve.listener import MOST_CONNECTIONS
from spoolway.worker.serve.page_files import PageFiles
from spoolway.worker.serve.status import Status
from spoolway.worker.serve.tokens import Tokens

log = logging.getLogger("spoolway.serve")

_ASKING_SECONDS: Final = 10.0
"""For a whole request to be there, from the connection's first moment or the last answer's end."""
_TAKING_SECONDS: Final = 30.0
"""For some of an answer to be taken, once there is more than the connection's buffers hold."""
_CLOSING_SECONDS: Final = 5
"""At the stop, for what is being answered. Container and systemd grace periods are above it."""

_quiet = logging.getLogger("uvicorn.error.spoolway")
_quiet.setLevel(logging.CRITICAL)  # what fails is logged by the application, without its values


class ApiServer:
    """Serves on a socket until it is cancelled; then what is being answered is finished first."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        """Needs a running event loop. Raises UsageError: a database that no URL can mean."""
        self._listener = listener
        self._database = ReadDatabase.open(settings)
        self._status = Status(settings, self._database)
        sources = Sources(settings, self._database, self._status, Slots(settings.query_timeout))
        self.app: Final = Api(sources, Tokens(settings), ENDPOINTS, PageFiles())
        self._server = EmbeddedServer(
            self.app, _Connection, headers=[], closing_seconds=_CLOSING_SECONDS
        )

    async def warn_of_database(self) -> None:
        """Say in the log if it does not answer. That is no reason not to serve: it may come back."""
        await self._status.warn_of_database()

    async def run(self) -> None:
        """Serve."""
        serving = asyncio.create_task(self._server.serve([self._listener]), name="spoolway-api")
        try:
            await asyncio.shield(serving)
        finally:
            self._server.stop()
            await asyncio.wait([serving])
            self._server.abort()
            self._listener.close()
            await self._status.close()
            await self._database.close()


class _Connection(H11Protocol):
    """A connection whose client asks and takes in time, or is cut off."""

    _patience: asyncio.TimerHandle | None = None
    """Ends it unless a request arrives."""
    _stalled: asyncio.TimerHandle | None = None
    """Ends it unless something of the answer is taken."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = _quiet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn, where it is narrowed, too
        """Count it in, or turn it away."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._wait_for_request()

    def data_received(self, data: bytes) -> None:
        """Take what was sent. A part of a request does not prolong the wait for all of it."""
        super().data_received(data)
        self._is_asked()

    def on_response_complete(self) -> None:
        """Wait for the next request; it may be here already."""
        self._wait_for_request()
        super().on_response_complete()
        self._is_asked()

    def pause_writing(self) -> None:
        """See that the client goes on taking."""
        super().pause_writing()
        self._stalled = self.loop.call_later(_TAKING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It did."""
        _cancel(self._stalled)
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        _cancel(self._patience)
        _cancel(self._stalled)
        super().connection_lost(exc)

    def _wait_for_request(self) -> None:
        _cancel(self._patience)
        self._patience = self.loop.call_later(_ASKING_SECONDS, self.transport.abort)

    def _is_asked(self) -> None:
        """Let an answer take its time, once its request is there: all of it but a body, which none has."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            _cancel(self._patience)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
