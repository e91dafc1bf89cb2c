"""A request or an answer as HTTP carries it: the headers that matter here, and a coded body."""

from collections.abc import Iterable
from typing import Final

from spoolway.producer.capture.coding import IDENTITY, Decoder, Nothing, Undecodable, decoder_of

_READ: Final = frozenset({b"content-type", b"content-encoding", b"x-request-id"})


class Message:
    """One side of an exchange; undoes its content coding."""

    __slots__ = ("_decoder", "content_type", "request_id", "unread")

    def __init__(self) -> None:
        self._decoder: Decoder = IDENTITY
        self.content_type = ""
        """In lower case."""
        self.request_id: str | None = None
        self.unread: str | None = None
        """Why the body, or the rest of it, could not be read."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See the headers."""
        found = {
            lower: value.decode("latin-1")
            for name, value in headers
            if (lower := name.lower()) in _READ
        }
        self.content_type = found.get(b"content-type", "").lower()
        self.request_id = found.get(b"x-request-id")
        self._decoder = decoder_of(found.get(b"content-encoding", ""))

    def decoded(self, data: bytes) -> bytes:
        """Return what the next bytes of the body stand for."""
        try:
            return self._decoder.feed(data)
        except Undecodable as error:
            self._decoder, self.unread = Nothing(), str(error)
            return b""
