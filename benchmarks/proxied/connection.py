"""One HTTP connection of the load generator's: as little work per answer as can be."""

import asyncio
from collections.abc import Callable
from typing import Final, Literal, cast

Kind = Literal["whole", "stream"]

_HEAD_END: Final = b"\r\n\r\n"
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 "


class WrongAnswer(Exception):
    """An answer that is not what the upstream sends: no figure of this run means anything."""


class Connection(asyncio.Protocol):
    """Kept alive: asks, waits for the whole answer, checks its status and its length, is free."""

    def __init__(
        self, answered: Callable[["Connection"], None], failed: Callable[[Exception], None]
    ) -> None:
        self._answered = answered
        self._failed = failed
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head_bytes = 0
        self._need: int | None = None
        self._expected = 0
        self.kind: Kind = "whole"
        """What was asked for last."""
        self.since = 0.0
        """From when on its answer is waited for, in seconds of time.monotonic."""
        self.is_busy = False
        """Whether it waits for an answer."""
        self.is_open = False

    def ask(self, kind: Kind, request: bytes, expected: int, since: float) -> None:
        """Send a request whose answer has `expected` bytes of body."""
        assert self._transport is not None
        self.kind, self._expected, self.since, self.is_busy = kind, expected, since, True
        self._received.clear()
        self._head_bytes, self._need = 0, None
        self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer, and be free again at its end."""
        received = self._received
        received += data
        if not self._head_bytes:
            self._head_bytes = received.find(_HEAD_END) + 4
            if self._head_bytes < 4:
                self._head_bytes = 0
                return
            self._need = _content_length(bytes(received[: self._head_bytes]))
        if self._need is None:
            if not received.endswith(_LAST_CHUNK):
                return
            size = _chunked_bytes(bytes(received[self._head_bytes :]))
        elif (size := len(received) - self._head_bytes) < self._need:
            return
        if not received.startswith(_OK) or size != self._expected:
            head = bytes(received[: self._head_bytes]).decode("latin-1")
            self._failed(WrongAnswer(f"{size} bytes, expected {self._expected}; {head}"))
            return
        self.is_busy = False
        self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail, if it was not this side that hung up."""
        if self.is_busy or self.is_open:
            self._failed(exc or WrongAnswer("the proxy has hung up"))
        self.is_open = False


def _content_length(head: bytes) -> int | None:
    before, name, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if name and before else None


def _chunked_bytes(body: bytes) -> int:
    """Return how many bytes the chunks of a body hold."""
    total = at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if not size:
            return total
        total += size
        at = end + 2 + size + 2
