"""Caps: a value that is too large keeps its size, its SHA-256 and its beginning."""

import hashlib
from dataclasses import dataclass
from typing import Final

import orjson

KIB: Final = 1024
MIB: Final = 1024 * KIB
NAME_BYTES: Final = 1 * KIB
"""Most bytes of a text that is indexed: PostgreSQL refuses an index entry of over 2,704 (54000)."""
NAMES: Final = ("model_name", "error_type")
_PREVIEW: Final = 256
"""Bytes of a capped value that are kept, to recognise it by."""


@dataclass(slots=True, frozen=True)
class Caps:
    """How much of one event is kept, in bytes of its JSON."""

    column_bytes: int = 1 * MIB
    event_bytes: int = 4 * MIB

    def __post_init__(self) -> None:
        if not KIB <= self.column_bytes <= self.event_bytes:
            raise ValueError(
                f"caps: 1024 <= column_bytes <= event_bytes, got {self.column_bytes} and "
                f"{self.event_bytes}"
            )
        if self.event_bytes > 16 * MIB:
            raise ValueError(
                f"caps: event_bytes is at most {16 * MIB}: a worker refuses larger frames"
            )


def capped_json(json: bytes) -> bytes:
    """Return the marker that stands for a JSON value that was too large or too deep."""
    return orjson.dumps(
        {
            "_truncated": True,
            "bytes": len(json),
            "sha256": hashlib.sha256(json).hexdigest(),
            "preview": json[:_PREVIEW].decode(errors="ignore"),
        }
    )


def capped_text(text: str, limit: int) -> str:
    """Return the beginning of a text column that was too long, its size and its SHA-256."""
    encoded = text.encode()
    note = f"… [truncated: {len(encoded)} bytes, sha256 {hashlib.sha256(encoded).hexdigest()}]"
    kept = max(limit - len(note.encode()), 0)
    return encoded[:kept].decode(errors="ignore") + note
