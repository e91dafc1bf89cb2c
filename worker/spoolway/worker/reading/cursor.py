"""Where a listing goes on, as a text that nobody needs to understand.

It is a place among the ids and nothing else. What it does not say, it cannot grant: whoever makes
one up sees no row that a question without it would not have shown.
"""

import base64
import binascii
from typing import Final
from uuid import UUID

from spoolway.worker.reading.failures import BadQuery

_VERSION: Final = b"\x01"
_ID_BYTES: Final = 16
_LENGTH: Final = 28  # 21 bytes in base64: no padding


def cursor_of(position: UUID) -> str:
    """Return the cursor of what is older than this id."""
    data = _VERSION + position.bytes
    return base64.urlsafe_b64encode(data + _checksum(data)).decode()


def position_of(cursor: str) -> UUID:
    """Return the id that a cursor is of.

    Raises:
        BadQuery: it is none of ours, or was cut off on its way.
    """
    try:
        data = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    known, checksum = data[:-4], data[-4:]
    if (
        len(cursor) != _LENGTH
        or known[:1] != _VERSION
        or len(known) != 1 + _ID_BYTES
        or checksum != _checksum(known)
    ):
        raise BadQuery("`after` is no cursor: give the `next` of the page before, as it was")
    return UUID(bytes=known[1:])


def _checksum(data: bytes) -> bytes:
    # Against a slip of a hand, not against an attacker: there is nothing to win.
    return binascii.crc32(data).to_bytes(4, "big")
