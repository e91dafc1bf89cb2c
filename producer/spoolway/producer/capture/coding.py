"""Content codings undone on the way: what is recorded is what the other side reads."""

import zlib
from typing import Final, Protocol

import zstandard

from spoolway.schema.caps import MIB

MOST_BYTES: Final = 64 * MIB
"""Undone of one body at most: a bomb costs its sender's bytes a thousand times over."""
_STEP: Final = 1 * MIB


class Decoder(Protocol):
    """Undoes a coding, part by part."""

    def feed(self, data: bytes, /) -> bytes:
        """Return what these bytes stand for. Raises Undecodable; then the body cannot be read."""


class Undecodable(Exception):
    """The body is in a coding that is not known here, is damaged, or is a bomb."""


class Identity:
    """No coding."""

    def feed(self, data: bytes) -> bytes:
        """Return the bytes as they are."""
        return data


class Zlib:
    """gzip and deflate."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS | 32)  # whichever of both it is
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Decompress, in steps, so that a bomb is seen before it goes off."""
        parts = []
        try:
            while data:
                parts.append(self._decoder.decompress(data, _STEP))
                self._size = _checked(self._size + len(parts[-1]))
                data = self._decoder.unconsumed_tail
        except zlib.error as error:
            raise Undecodable(str(error)) from error
        return b"".join(parts)


class Zstd:
    """zstd, of one frame or several."""

    def __init__(self) -> None:
        self._decoder = zstandard.ZstdDecompressor(max_window_size=8 * MIB).decompressobj(
            read_across_frames=True
        )
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Decompress; small pieces at a time, for the same reason."""
        parts = []
        try:
            for start in range(0, len(data), 1024):  # at most some 16,000 times as much
                parts.append(self._decoder.decompress(data[start : start + 1024]))
                self._size = _checked(self._size + len(parts[-1]))
        except zstandard.ZstdError as error:
            raise Undecodable(str(error)) from error
        return b"".join(parts)


class Nothing:
    """What follows bytes that could not be decoded."""

    def feed(self, _data: bytes) -> bytes:
        """Return nothing."""
        return b""


class Unknown:
    """A coding that cannot be undone here, such as br."""

    def __init__(self, name: str) -> None:
        self._name = name

    def feed(self, _data: bytes) -> bytes:
        """Refuse."""
        raise Undecodable(f"content-encoding {self._name}")


def _checked(size: int) -> int:
    if size > MOST_BYTES:
        raise Undecodable(f"more than {MOST_BYTES} bytes")
    return size


IDENTITY: Final[Decoder] = Identity()


def decoder_of(content_encoding: str) -> Decoder:
    """Return what undoes this `Content-Encoding`."""
    name = content_encoding.strip().lower()
    if name in ("", "identity"):
        return IDENTITY
    if name in ("gzip", "x-gzip", "deflate"):
        return Zlib()
    return Zstd() if name == "zstd" else Unknown(name)
