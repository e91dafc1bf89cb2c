"""Looking into JSON that others wrote: each function takes anything, and returns one type."""

from typing import Any, Final, NamedTuple

import msgspec

MOST_TOKENS: Final = 2**63 - 1
"""What the columns hold."""
_decode: Final = msgspec.json.Decoder().decode  # unlike orjson's, it keeps integers over 64 bits


class Said(NamedTuple):
    """What one JSON object, a whole answer or a piece of a stream, says of its answer."""

    model: str | None = None
    stop_reason: str | None = None
    usage: dict[str, Any] | None = None
    """The provider's own object, in its own words; None where it has none."""
    has_token: bool = False
    """Text, reasoning, a tool call or media is in it."""
    ended: bool = False
    """By the provider's rules nothing comes after it."""
    adds_usage: bool = False
    """`usage` brings what of an earlier one up to date, instead of taking its place."""


def parsed(data: bytes) -> Any:
    """Return the JSON value, or None where it is no JSON."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def mapping(value: object) -> dict[str, Any]:
    """Return an object as it is, and anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return an array as it is, and anything else as an empty one."""
    return value if isinstance(value, list) else []


def text(value: object) -> str | None:
    """Return a string that is not empty, and None for anything else."""
    return value if isinstance(value, str) and value else None


def tokens(value: object) -> int | None:
    """Return a count of tokens: a whole number (12 or 12.0) from 0 to 2**63 - 1, else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
        return value
    return None
