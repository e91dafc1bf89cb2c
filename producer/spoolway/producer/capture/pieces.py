"""A streamed answer: its chunks up to a cap, the size and the hash of all of it."""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

import msgspec
import orjson

from spoolway.producer.answers import Payload
from spoolway.producer.capture.content import json_or_text
from spoolway.schema.jsonable import Parsed

_MARKER_BYTES: Final = 256
"""Left for what is said of the rest, so that the column as a whole keeps the cap."""
_check: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_find_surrogate: Final = re.compile(rb"\\u[dD][89a-fA-F]").search


class Pieces:
    """Takes a stream's bytes, and the JSON texts in them; holds as many bytes as the cap at most."""

    __slots__ = ("_hash", "_kept", "_room", "is_cut", "size")

    def __init__(self, cap: int) -> None:
        self._room = cap - _MARKER_BYTES
        self._kept: list[bytes] = []
        self._hash = hashlib.sha256(usedforsecurity=False)
        self.size = 0
        """Bytes of the stream so far."""
        self.is_cut = False
        """Whether some of the chunks are not kept."""

    def feed(self, data: bytes) -> None:
        """See the stream's next bytes."""
        self.size += len(data)
        self._hash.update(data)

    def keep(self, payloads: Sequence[Payload]) -> None:
        """Keep the next chunks, up to the first that is too much."""
        for payload in payloads:
            if self.is_cut or not isinstance(payload, bytes) or len(payload) >= self._room:
                self.is_cut = True
                return
            self._room -= len(payload) + 1
            self._kept.append(payload)

    def content(self) -> object:
        """Return what `stream_chunks` holds: the chunks as they came.

        If some are missing, the last element says so, with bytes and SHA-256 of the whole stream.
        """
        if not self.size:
            return None
        if self.is_cut:
            sha256 = self._hash.hexdigest()
            last = {"_truncated": True, "bytes": self.size, "sha256": sha256}
            self._kept.append(orjson.dumps(last))
        chunks = b"[%s]" % b",".join(self._kept)
        if _is_fine(chunks):
            # Not parsed: hundreds of dicts for each stream would keep the garbage collector busy.
            return Parsed(orjson.Fragment(chunks))
        return [json_or_text(piece) for piece in self._kept]


def _is_fine(json: bytes) -> bool:
    """Tell whether it is JSON that can be stored as it is."""
    try:
        json.decode()
        _check(json)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return b"\n" not in json and not _find_surrogate(json)
