"""What a request has used beyond its token columns, as the provider's own usage object has it.

Cache writes, searches, sounds and pictures have prices of their own, and no column. Read only for
models whose price depends on them.
"""

from typing import Final

import msgspec
from msgspec import Raw

from spoolway.schema.events import ABSENT

_MOST: Final = 1 << 20
"""Bytes of a usage object that are looked at; they are some hundreds."""


class _ByLifetime(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _ByKind(msgspec.Struct, gc=False):
    audio_tokens: int | None = None
    image_tokens: int | None = None


class _Searches(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Usage(msgspec.Struct, gc=False):
    cache_creation_input_tokens: int | None = None
    cache_creation: _ByLifetime | None = None
    server_tool_use: _Searches | None = None
    speed: str | None = None
    prompt_tokens_details: _ByKind | None = None
    completion_tokens_details: _ByKind | None = None
    input_tokens_details: _ByKind | None = None
    input_token_details: _ByKind | None = None
    output_tokens_details: _ByKind | None = None


class Details(msgspec.Struct, frozen=True, gc=False):
    """Counts beside the columns; never below 0."""

    written: int = 0
    """Tokens of the prompt that were written to a cache, all of them."""
    written_5m: int = 0
    written_1h: int = 0
    searches: int = 0
    audio_in: int = 0
    audio_out: int = 0
    image_in: int = 0
    image_out: int = 0
    speed: str | None = None
    """As Anthropic reports it: standard or fast."""

    @property
    def has_media(self) -> bool:
        """Whether some of the tokens are no text."""
        return bool(self.audio_in or self.audio_out or self.image_in or self.image_out)


NOTHING: Final = Details()

_decode: Final = msgspec.json.Decoder(_Usage).decode


def details_of(usage_stats: Raw) -> Details:
    """Return what the object says; of one that is not understood, nothing. Never raises."""
    if usage_stats is ABSENT or len(usage_stats) > _MOST:
        return NOTHING
    try:
        usage = _decode(usage_stats)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return NOTHING
    return _details(usage)


def _details(usage: _Usage) -> Details:
    lifetimes = usage.cache_creation
    written_5m = _count(lifetimes.ephemeral_5m_input_tokens) if lifetimes else 0
    written_1h = _count(lifetimes.ephemeral_1h_input_tokens) if lifetimes else 0
    read = usage.prompt_tokens_details or usage.input_tokens_details or usage.input_token_details
    made = usage.completion_tokens_details or usage.output_tokens_details
    searched = usage.server_tool_use
    return Details(
        max(_count(usage.cache_creation_input_tokens), written_5m + written_1h),
        written_5m,
        written_1h,
        _count(searched.web_search_requests) if searched else 0,
        _count(read.audio_tokens) if read else 0,
        _count(made.audio_tokens) if made else 0,
        _count(read.image_tokens) if read else 0,
        _count(made.image_tokens) if made else 0,
        usage.speed,
    )


def _count(number: int | None) -> int:
    return number if number is not None and number > 0 else 0
