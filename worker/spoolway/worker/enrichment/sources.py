"""What a source of cost or footprint is, and by what a model is known to it."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from spoolway.schema import RequestEvent

_LONGEST: Final = 200
"""Characters of a name that is looked up; the longest model's name has about 80."""
_SELF_HOSTED: Final = re.compile(
    r"vllm|sglang|ollama|llama[._-]?cpp|llamafile|lm[._-]?studio|local-?ai|localhost|xinference"
    r"|self[._-]?hosted|\btgi\b|text-generation-inference|openai[._-]?(like|compatible)"
    r"|custom[._-]?openai",
    re.IGNORECASE,
)
"""Providers that are servers of somebody's own: what a model costs elsewhere is not what it does there."""


class Names(NamedTuple):
    """What an event says of who answered it. Any of them is whatever somebody has sent."""

    provider: str | None
    answered: str | None
    """provider_model"""
    asked: str | None
    """model_name"""

    @property
    def is_sane(self) -> bool:
        """Whether it can be looked up at all: not empty, and of a length that a name has."""
        if not (self.answered or self.asked):
            return False
        return all(name is None or len(name) <= _LONGEST for name in self)

    @property
    def is_self_hosted(self) -> bool:
        """Whether the provider, or what stands before a model's slash, runs models itself."""
        before = [name.partition("/")[0] for name in self.models() if "/" in name]
        return any(_SELF_HOSTED.search(name) for name in (self.provider, *before) if name)

    def models(self) -> Iterator[str]:
        """Yield the names of the model, the more exact one first."""
        if self.answered:
            yield self.answered
        if self.asked and self.asked != self.answered:
            yield self.asked


Filled = tuple[tuple[float, ...], bytes]
"""Values for columns, and what they are from, as JSON."""


class Filling(Protocol):
    """What is known of one model."""

    def of(self, event: RequestEvent) -> Filled | None:
        """Return what the event has cost or taken; None if it cannot be told."""
        ...
