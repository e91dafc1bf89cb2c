"""The frame: what one stream entry carries, in any language. See docs/wire-contract.md.

Fields: `v` = "1", `codec` = "json" or "zstd", `n` = number of events, `data` = JSON lines, each
{"type": "request" | "error", "id": …}. A frame is bounded when unpacked: a bomb is a dead letter,
not an out-of-memory.
"""

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import islice
from typing import Final, Literal

import zstandard

from spoolway.schema.caps import MIB
from spoolway.schema.errors import BadFrame, Oversize, got

VERSION: Final = b"1"
MAX_FRAME_BYTES: Final = 32 * MIB
"""Most bytes of JSON lines in one frame, unpacked."""
MAX_FRAME_EVENTS: Final = 10_000
DEFAULT_STREAM: Final = "spoolway:events"
# Level 1 that remembers more of the frame: a tenth less in Redis for 3 µs more of an event of 4 KB.
# Level 2 packs as well, and costs whoever unpacks it a fifth more; this one hardly anything.
_PACKING: Final = zstandard.ZstdCompressionParameters.from_level(1, window_log=19, hash_log=17)
_AT_ONCE: Final = 16
"""Lines that are joined and packed in one go."""

Codec = Literal["json", "zstd"]


class FrameEncoder:
    """Packs JSON lines into the fields of a stream entry. For one thread at a time."""

    def __init__(self, codec: Codec = "zstd") -> None:
        if codec not in ("json", "zstd"):
            raise ValueError(f'codec must be "json" or "zstd", got {codec!r}')
        self._codec = codec
        self._compressor = (
            zstandard.ZstdCompressor(compression_params=_PACKING) if codec == "zstd" else None
        )

    def encode(self, lines: Sequence[bytes], events: int) -> dict[str, str | bytes | int]:
        """Return the entry of `events` events in `lines` (an item may hold several lines)."""
        data = _packed(lines, self._compressor) if self._compressor else b"\n".join(lines)
        return {"v": 1, "codec": self._codec, "n": events, "data": data}


def _packed(lines: Sequence[bytes], compressor: zstandard.ZstdCompressor) -> bytes:
    """Return the joined lines as one zstd frame that says their size.

    Joining all of them at once would keep Python's lock from a proxy's event loop for 0.2 ms;
    packing gives it back after each few.
    """
    packing = compressor.compressobj(size=sum(map(len, lines)) + len(lines) - 1)
    packed: list[bytes] = []
    for start in range(0, len(lines), _AT_ONCE):
        if start:
            packed.append(packing.compress(b"\n"))
        packed.append(packing.compress(b"\n".join(lines[start : start + _AT_ONCE])))
    return b"".join((*packed, packing.flush()))


def decode_frame(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the JSON lines of one stream entry, each but the last with its line end.

    Raises:
        BadFrame: the entry breaks the contract; the message says which field, and what is expected.
        Oversize: the same, because it holds more than a frame may.
    """
    if fields.get(b"v") != VERSION:
        raise _fault(fields, b"v", f'field "v" must be 1, got {_got(fields, b"v")}')
    data = fields.get(b"data")
    if not data:
        raise _fault(fields, b"data", 'field "data" is missing or empty: it holds the JSON lines')
    codec = fields.get(b"codec")
    if codec == b"zstd":
        data = _unpacked(data)
    elif codec != b"json":
        raise _fault(
            fields, b"codec", f'field "codec" must be json or zstd, got {_got(fields, b"codec")}'
        )
    elif data.startswith(zstandard.FRAME_HEADER):
        raise BadFrame('field "codec" is json, and "data" is packed with zstd: set "codec" to zstd')
    if len(data) > MAX_FRAME_BYTES:
        raise Oversize(f"{len(data)} bytes of JSON lines; a frame has at most {MAX_FRAME_BYTES}")
    # As `bytes.split`, which takes as long as parsing does; and no more of them than may be: 32 MiB
    # of line ends are 33 million lines.
    lines = list(islice(BytesIO(data), MAX_FRAME_EVENTS + 1)) or [b""]
    if len(lines) > MAX_FRAME_EVENTS:
        events = data.removesuffix(b"\n").count(b"\n") + 1
        raise Oversize(f"{events} events; a frame has at most {MAX_FRAME_EVENTS}")
    if fields.get(b"n") != b"%d" % len(lines):
        raise _fault(
            fields,
            b"n",
            f'field "n" must be the number of events: it is {_got(fields, b"n")}, and "data" has '
            f"{len(lines)} lines; an event is one line, without a line end in it",
        )
    return lines


def _unpacked(data: bytes) -> bytes:
    try:
        # The size a frame claims is what a decompressor would allocate: look before it does.
        claimed = zstandard.frame_content_size(data)
        if claimed > MAX_FRAME_BYTES:
            raise Oversize(f"{claimed} bytes when unpacked; a frame has at most {MAX_FRAME_BYTES}")
        return zstandard.ZstdDecompressor().decompress(
            data, max_output_size=MAX_FRAME_BYTES, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        if _is_bomb(data):
            raise Oversize(f"a frame has at most {MAX_FRAME_BYTES} bytes when unpacked") from error
        reason = str(error)
        if not data.startswith(zstandard.FRAME_HEADER):
            reason = (
                f"it begins with the bytes {data[:4].hex(' ')}, not with 28 b5 2f fd; push bytes, "
                'no text and no base64, or set "codec" to json'
            )
        raise BadFrame(f'field "data" is not one zstd frame that unpacks: {reason}') from error


def _is_bomb(data: bytes) -> bool:
    """Tell whether more comes out of it than may; what claims no size is found out by unpacking."""
    size = 0
    try:
        for block in zstandard.ZstdDecompressor().read_to_iter(data):
            size += len(block)
            if size > MAX_FRAME_BYTES:
                return True
    except zstandard.ZstdError:
        pass
    return False


def _got(fields: Mapping[bytes, bytes], name: bytes) -> str:
    value = fields.get(name)
    return got(None if value is None else value.decode(errors="replace"))


def _fault(fields: Mapping[bytes, bytes], name: bytes, what: str) -> BadFrame:
    """Return the fault of a field; where there is no such field, with those that there are."""
    if name in fields:
        return BadFrame(what)
    others = b", ".join(other[:40] for other in list(fields)[:8])
    return BadFrame(f"{what}; the fields of this entry: {got(others.decode(errors='replace'))}")
