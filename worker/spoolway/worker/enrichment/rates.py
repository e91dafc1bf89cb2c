"""What tokens cost, as whole numbers: exact sums, rounded once at the end."""

from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Final, NamedTuple, Self

from spoolway.schema import RequestEvent
from spoolway.worker.config.prices import ModelPrice
from spoolway.worker.enrichment.consumed import NOTHING, Details

_MILLION: Final = 1_000_000
_ZERO: Final = Decimal(0)


class Units(NamedTuple):
    """Prices of one unit each. Of a part of the prompt or of the answer, what it costs on top."""

    request: Decimal
    prompt: Decimal
    cached: Decimal
    written: Decimal
    written_5m: Decimal
    """On top of `written`; so is the next."""
    written_1h: Decimal
    completion: Decimal
    reasoning: Decimal
    search: Decimal


class _Step(NamedTuple):
    """Units as whole numbers, of requests with more prompt tokens than `above`."""

    above: int
    request: int
    prompt: int
    cached: int
    written: int
    written_5m: int
    written_1h: int
    completion: int
    reasoning: int
    search: int


@dataclass(slots=True, frozen=True)
class Rates:
    """A model's price, for as long as it holds."""

    scale: int
    """What the whole numbers have to be divided by."""
    steps: tuple[_Step, ...]
    """The first is from no token on. All tokens of a request cost what the last one says that it is above."""
    needs_details: bool
    """Whether it depends on what `Details` says, beside `has_media`."""
    needs_prompt: bool
    needs_completion: bool

    @classmethod
    def of(cls, steps: dict[int, Units]) -> Self:
        """Make them of the units above so many prompt tokens; -1: from the first on."""
        prices = [price for units in steps.values() for price in units]
        places = max(0, *(-int(price.as_tuple().exponent) for price in prices))
        scale = 10**places
        whole = tuple(
            _Step(above, *(int(price * scale) for price in units))
            for above, units in sorted(steps.items())
        )
        return cls(
            scale,
            whole,
            any(s.written or s.written_5m or s.written_1h or s.search for s in whole),
            any(s.prompt or s.cached for s in whole) or len(whole) > 1,
            any(s.completion or s.reasoning for s in whole),
        )

    @classmethod
    def of_price(cls, price: ModelPrice) -> Self:
        """Make them of an operator's own price: what is left out costs as the whole it is part of."""
        prompt, completion = price.input or _ZERO, price.output or _ZERO

        def on_top(part: Decimal | None, whole: Decimal) -> Decimal:
            return (part - whole) / _MILLION if part is not None else _ZERO

        return cls.of(
            {
                -1: Units(
                    request=price.request or _ZERO,
                    prompt=prompt / _MILLION,
                    cached=on_top(price.cached_input, prompt),
                    written=on_top(price.cache_write, prompt),
                    written_5m=_ZERO,
                    written_1h=_ZERO,
                    completion=completion / _MILLION,
                    reasoning=on_top(price.reasoning, completion),
                    search=_ZERO,
                )
            }
        )

    def cost(self, event: RequestEvent, details: Details = NOTHING) -> float | None:
        """Return the cost; None if a count that matters is not known, or contradicts another."""
        prompt, completion = event.prompt_tokens, event.completion_tokens
        if prompt is None:
            if self.needs_prompt:
                return None
            prompt = 0
        if completion is None:
            # Nothing is written by what embeds or ranks; of a stream that broke off, nobody knows.
            if self.needs_completion and event.total_tokens != prompt:
                return None
            completion = 0
        if prompt < 0 or completion < 0:
            return None
        step = self.steps[0]
        if len(self.steps) > 1:
            for other in self.steps:
                if prompt > other.above:
                    step = other
        total = step.request + step.prompt * prompt + step.completion * completion
        cached = event.cached_tokens
        if cached and step.cached:
            if not 0 < cached <= prompt:
                return None
            total += step.cached * cached
        reasoning = event.reasoning_tokens
        if reasoning and step.reasoning:
            if not 0 < reasoning <= completion:
                return None
            total += step.reasoning * reasoning
        if details is not NOTHING:
            written = details.written
            if written and self.needs_details:
                if written + (cached or 0) > prompt:
                    return None
                total += step.written * written
                total += step.written_5m * details.written_5m
                total += step.written_1h * details.written_1h
            total += step.search * details.searches
        try:
            cost = total / self.scale  # of whole numbers: rounded as the exact quotient
        except OverflowError:
            return None
        return cost if cost >= 0 and isfinite(cost) else None
