"""The service tier that OpenAI names in its answers: flex costs half, priority more."""

import re
from typing import Final

import msgspec
from msgspec import Raw

from spoolway.schema import RequestEvent
from spoolway.schema.events import ABSENT

_TAIL: Final = 64 << 10
"""Bytes from the end in which it is looked for: it stands behind what the model has said."""
_KEY: Final = b'"service_tier"'
"""What a model says has its quotes escaped, and is no key."""
_VALUE: Final = re.compile(rb'"service_tier"\s*:\s*"(\w{1,20})"')


class _Answer(msgspec.Struct, gc=False):
    service_tier: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    service_tier: str | None = None
    response: _Answer | None = None
    """Of the Responses API's events."""


_answer: Final = msgspec.json.Decoder(_Answer).decode
_chunks: Final = msgspec.json.Decoder(list[_Chunk]).decode


def tier_of(event: RequestEvent, tiers: frozenset[str]) -> str | None:
    """Return which of these tiers has answered; None if it is not said. Never raises.

    Of an answer that names one of them only deep inside, nothing: that may be anybody's.
    """
    for raw in (event.response, event.stream_chunks):
        if raw is ABSENT or not _names_one(raw, tiers):
            continue
        try:
            tier = _answer(raw).service_tier if raw is event.response else _last(raw)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        if tier in tiers:
            return tier
    return None


def _names_one(raw: Raw, tiers: frozenset[str]) -> bool:
    tail = bytes(memoryview(raw)[-_TAIL:])
    at = tail.rfind(_KEY)
    if at < 0 or (found := _VALUE.match(tail, at)) is None:
        return False
    return found[1].decode("ascii", "replace") in tiers


def _last(raw: Raw) -> str | None:
    for chunk in reversed(_chunks(raw)):
        if tier := chunk.service_tier or (chunk.response and chunk.response.service_tier):
            return tier
    return None
