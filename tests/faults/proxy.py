"""A TCP proxy between a client and its server that knows just enough of PostgreSQL to be cruel.

It runs on a thread of its own and listens on a port that stays its own over `refuse` and `restore`.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from tests.servers.ports import ReservedPort

_BLOCK: Final = 65_536
_SSL_REQUEST: Final = 80_877_103
_QUERY, _PARSE = b"Q", b"P"

Cut = Literal["before it arrives", "at once", "after its reply was sent"]
"""Where the connection ends around a COMMIT: it never reaches the server; nobody knows whether it
did; it was done, and the client never hears of it."""


class ClientMessages:
    """Splits what a PostgreSQL client sends into messages, its start-up packets among them."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the messages that are complete, each as its bytes."""
        self._buffer += data
        while len(self._buffer) >= 5:
            # Before it has started, a message has no letter before its length.
            letter = 1 if self._started else 0
            length = int.from_bytes(self._buffer[letter : letter + 4]) + letter
            if len(self._buffer) < length:
                return
            message, self._buffer = self._buffer[:length], self._buffer[length:]
            if not self._started:
                self._started = int.from_bytes(message[4:8]) != _SSL_REQUEST
            yield message


def is_commit(message: bytes) -> bool:
    """Tell whether this is a query, or the preparation of one, that commits."""
    if message[:1] == _QUERY:
        text = message[5:]
    elif message[:1] == _PARSE:
        text = message[5:].partition(b"\0")[2]
    else:
        return False
    return text.partition(b"\0")[0].strip(b"; \n").upper() == b"COMMIT"


@dataclass
class Proxy:
    """`with Proxy(host, port).running() as proxy:`; what it does may be changed at any time."""

    host: str
    port: int
    cut_at_commit: Cut | None = None
    """What becomes of the next COMMIT, and of its connection; then this is None again."""
    cuts: int = 0
    stalled: bool = False
    """Takes connections and bytes, and passes none on."""
    delay: float = 0.0
    """Seconds for which each block is held back."""
    connections: int = 0
    """How many were ever accepted."""
    _port: ReservedPort = field(default_factory=ReservedPort)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        """Listen for the length of a block."""
        thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        thread.start()
        try:
            self.restore()
            yield self
        finally:
            self._do(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def url(self, url: str) -> str:
        """Return a server's URL that leads through here."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{self._port.number}"))

    def refuse(self) -> None:
        """Cut every connection, and let new ones be refused."""
        self._do(self._shut())

    def restore(self) -> None:
        """Listen (again)."""
        self._do(self._listen())

    def cut_all(self) -> None:
        """Reset every connection; new ones are taken."""
        self._do(self._reset())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port.number)

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        # What was accepted just before the end is handed over a turn or two of the loop later.
        for _ in range(5):
            await asyncio.sleep(0)
            self._end(*self._open)
            serving = list(self._serving)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)

    async def _reset(self) -> None:
        self._end(*self._open)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not the coroutine itself: cancelled before its first step, it would close nothing.
        self.connections += 1
        self._open.add(writer)
        serving = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            self._end(writer)
            return
        self._open.add(far_writer)
        committing = asyncio.Event()
        one = asyncio.create_task(self._to_server(reader, far_writer, committing))
        other = asyncio.create_task(self._to_client(far_reader, writer, committing))
        # Cancelled by `_shut`, which ends the connection as anything else does.
        with suppress(asyncio.CancelledError):
            await asyncio.wait({one, other}, return_when=asyncio.FIRST_COMPLETED)
        for task in (one, other):
            task.cancel()
        self._end(writer, far_writer)
        await asyncio.gather(one, other, return_exceptions=True)

    def _end(self, *writers: asyncio.StreamWriter) -> None:
        for writer in writers:
            writer.transport.abort()
            self._open.discard(writer)

    async def _to_server(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, committing: asyncio.Event
    ) -> None:
        messages = ClientMessages()
        while data := await reader.read(_BLOCK):
            await self._hold_back()
            for message in messages.feed(data):
                if self.cut_at_commit is not None and is_commit(message):
                    how, self.cut_at_commit = self.cut_at_commit, None
                    self.cuts += 1
                    if how == "before it arrives":
                        return
                    writer.write(message)
                    await writer.drain()
                    if how == "at once":
                        return
                    committing.set()
                else:
                    writer.write(message)
            await writer.drain()

    async def _to_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, committing: asyncio.Event
    ) -> None:
        while data := await reader.read(_BLOCK):
            await self._hold_back()
            if committing.is_set():
                return  # the server has committed and says so: nobody hears it
            writer.write(data)
            await writer.drain()

    async def _hold_back(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        while self.stalled:  # noqa: ASYNC110 - another thread sets it, which an Event does not take
            await asyncio.sleep(0.01)
