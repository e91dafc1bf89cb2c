"""Caps: a value that is too large keeps its size, its SHA-256 and its beginning."""

import hashlib
from dataclasses import dataclass, field
from typing import Final

import orjson

KIB: Final = 1024
MIB: Final = 1024 * KIB
NAME_BYTES: Final = 1 * KIB
"""Most bytes of a text that is indexed, or that usage is told apart by: PostgreSQL refuses an index
entry of over 2,704 (54000), and the roll-ups hold each such text in many rows."""
NAMES: Final = (
    "model_name",
    "error_type",
    "provider",
    "stop_reason",
    "user_id",
    "api_key_id",
    "organization_id",
    "project_id",
)
_PREVIEW: Final = 256
"""Bytes of a capped value that are kept, to recognise it by."""


@dataclass(slots=True, frozen=True)
class Caps:
    """How much of one event is kept, in bytes of its JSON."""

    column_bytes: int = 1 * MIB
    """Of each column that has no cap of its own."""
    event_bytes: int = 4 * MIB
    body_bytes: int | None = None
    """By default, `column_bytes`."""
    response_bytes: int | None = None
    """By default, `column_bytes`."""
    stream_bytes: int | None = None
    """Of `stream_chunks`, which each stream in progress holds in memory. By default, a quarter of
    `column_bytes`, and 1 KiB at least."""
    own: dict[str, int] = field(init=False, repr=False, compare=False)
    """The columns that have a cap of their own, with their caps."""
    least: int = field(init=False, repr=False, compare=False)
    """The smallest cap of all: what is not larger needs no closer look."""

    def __post_init__(self) -> None:
        own = {
            "body": self.column_bytes if self.body_bytes is None else self.body_bytes,
            "response": self.column_bytes if self.response_bytes is None else self.response_bytes,
            "stream_chunks": max(self.column_bytes // 4, KIB)
            if self.stream_bytes is None
            else self.stream_bytes,
        }
        object.__setattr__(self, "own", own)
        object.__setattr__(self, "least", min(self.column_bytes, *own.values()))
        names = ("column_bytes", "body_bytes", "response_bytes", "stream_bytes")
        for name, limit in zip(names, (self.column_bytes, *own.values()), strict=True):
            if not KIB <= limit <= self.event_bytes:
                raise ValueError(
                    f"caps: 1024 <= {name} <= event_bytes, got {limit} and {self.event_bytes}"
                )
        if self.event_bytes > 16 * MIB:
            raise ValueError(
                f"caps: event_bytes is at most {16 * MIB}: a worker refuses larger frames"
            )

    def of(self, column: str) -> int:
        """Return the most bytes of this column."""
        return self.own.get(column, self.column_bytes)


def capped_json(json: bytes) -> bytes:
    """Return the marker that stands for a JSON value that was too large or too deep."""
    return orjson.dumps(marker(len(json), hashlib.sha256(json).hexdigest(), json))


def marker(size: int, sha256: str, beginning: bytes) -> dict[str, object]:
    """Return what stands for a value of so many bytes that was too large to be kept."""
    return {
        "_truncated": True,
        "bytes": size,
        "sha256": sha256,
        "preview": beginning[:_PREVIEW].decode(errors="ignore"),
    }


def capped_text(text: str, limit: int) -> str:
    """Return the beginning of a text column that was too long, its size and its SHA-256."""
    encoded = text.encode()
    note = f"… [truncated: {len(encoded)} bytes, sha256 {hashlib.sha256(encoded).hexdigest()}]"
    kept = max(limit - len(note.encode()), 0)
    return encoded[:kept].decode(errors="ignore") + note
