"""Costs by genai-prices: who provides a model, and what its price is at a time.

The library is asked for its own results, with counts that tell its price apart, and what comes out
is compared with it once more before it is used: equal to the last digit, at a thousandth of the
time. Nothing is fetched: the prices are those of the version that is installed.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from spoolway.schema import RequestEvent, time_of
from spoolway.worker.enrichment.aside import Aside, Failed
from spoolway.worker.enrichment.consumed import NOTHING, Details, details_of
from spoolway.worker.enrichment.memo import Memo
from spoolway.worker.enrichment.rates import Rates, Units
from spoolway.worker.enrichment.sources import Filled, Names
from spoolway.worker.enrichment.tier import tier_of

BY: Final = "genai-prices"
_BY_NAME: Final = "litellm"
"""The library's provider of models that name their provider before a slash, or not at all."""
_SNAPSHOT_FOR: Final = 1000
"""Questions. The library keeps every name it was ever asked for: then it gets a new memory."""
_PRICED_BY: Final = ("input_mtok", "output_mtok", "requests_kcount")
"""What has none of these is priced by seconds, pages or letters, which no column counts."""
_MEDIA: Final = ("audio", "image", "video")
_DAY: Final = 86_400
_MINUTE: Final = 60
_ANY_ID: Final = UUID(int=0)
_SLOTS: Final = 512
"""Days, or minutes, that a model's price is kept for."""


class _NotOfTokens(Exception):
    """A price that depends on more than counts of tokens."""


class Genai:
    """The library. Used in its own thread alone."""

    def __init__(self) -> None:
        import genai_prices
        from genai_prices import data, data_snapshot, types

        self.version: Final = genai_prices.__version__
        self._types = types
        self._usage = genai_prices.Usage
        self._new_snapshot: Callable[[], Any] = lambda: data_snapshot.DataSnapshot(
            providers=data.providers, from_auto_update=False
        )
        self._snapshot = self._new_snapshot()
        self._asked = 0
        # A price has no hash: by its identity, and kept with it, so that no other one gets that.
        self._rates: Memo[object, tuple[Any, Rates | None]] = Memo()

    def find(self, names: Names) -> "tuple[Any, Any, str] | None":
        """Return provider, model, and how they were found; None if the library has no such model."""
        self._asked += 1
        if self._asked % _SNAPSHOT_FOR == 0:
            self._snapshot = self._new_snapshot()
        provider = self._provider(names.provider)
        for model in names.models():
            found = self._model(model, provider or _BY_NAME)
            before, _, after = model.partition("/")
            if found is None and provider is not None and self._provider(before) == provider:
                found = self._model(after, provider)  # LiteLLM puts it before its models, too
            if found is not None:
                return (*found, "model" if provider is None else "provider and model")
        return None

    def _provider(self, name: str | None) -> str | None:
        try:
            return str(self._snapshot.find_provider(None, name or _BY_NAME, None).id)
        except LookupError:
            return None

    def _model(self, model: str, provider: str) -> tuple[Any, Any] | None:
        try:
            found: tuple[Any, Any] = self._snapshot.find_provider_model(model, None, provider, None)
        except LookupError:
            return None
        return found

    def price(
        self, model: Any, moment: datetime, context: Mapping[str, str]
    ) -> tuple[Any, Rates | None]:
        """Return the model's price at a time, and its rates; none if it is not one of tokens."""
        price = model.get_prices(moment, context)
        # With a context it is a copy each time.
        key: object = repr(price) if context else id(price)
        if (kept := self._rates.known.get(key)) is None:
            try:
                rates = self._rates_of(price)
            except _NotOfTokens:
                rates = None
            kept = self._rates.keep(key, (price, rates))
        return kept

    def cost(self, price: Any, event: RequestEvent, details: Details) -> float | None:
        """Return what the library itself says; None if the counts contradict each other."""
        counts = {
            "input_tokens": event.prompt_tokens,
            "cache_read_tokens": event.cached_tokens,
            "cache_write_tokens": details.written,
            "cache_write_5m_tokens": details.written_5m,
            "cache_write_1h_tokens": details.written_1h,
            "output_tokens": event.completion_tokens,
            "output_reasoning_tokens": event.reasoning_tokens,
            "web_searches": details.searches,
            "input_audio_tokens": details.audio_in,
            "output_audio_tokens": details.audio_out,
            "input_image_tokens": details.image_in,
            "output_image_tokens": details.image_out,
        }
        try:
            cost = float(self._cost(price, **{name: n for name, n in counts.items() if n}))
        except ValueError:
            return None
        return cost if 0 <= cost < float("inf") else None

    def _cost(self, price: Any, **counts: int) -> Decimal:
        cost = price.calc_price(self._usage(**counts))["total_price"]
        if not isinstance(cost, Decimal) or not cost.is_finite() or cost < 0:
            raise ArithmeticError("a price that is none")
        return cost

    def _rates_of(self, price: Any) -> Rates | None:
        """Return the rates of a price. Raises _NotOfTokens if they do not say what it says."""
        if all(getattr(price, name, None) is None for name in _PRICED_BY):
            return None
        starts = sorted(
            {
                tier.start
                for tiered in vars(price).values()
                if isinstance(tiered, self._types.TieredPrices)
                for tier in tiered.tiers
            }
        )
        bounds = list(zip([-1, *starts], [*starts, None], strict=True))
        rates = Rates.of({above: self._units(price, max(above, 0)) for above, _ in bounds})
        for above, to in bounds:
            self._compare(rates, price, max(above, 0), to)
        return rates

    def _units(self, price: Any, above: int) -> Units:
        """Ask what one more of each costs, of a request with a few more prompt tokens than that."""
        prompt = {"input_tokens": above + 2}
        written = {**prompt, "cache_write_tokens": 1}

        def more(than: Mapping[str, int], **counts: int) -> Decimal:
            return self._cost(price, **{**than, **counts}) - self._cost(price, **than)

        of_prompt = more(prompt, input_tokens=above + 3)
        return Units(
            request=self._cost(price, **prompt) - of_prompt * (above + 2),
            prompt=of_prompt,
            cached=more(prompt, cache_read_tokens=1),
            written=more(prompt, cache_write_tokens=1),
            written_5m=more(written, cache_write_5m_tokens=1),
            written_1h=more(written, cache_write_1h_tokens=1),
            completion=more(prompt, output_tokens=1),
            reasoning=more({**prompt, "output_tokens": 1}, output_reasoning_tokens=1),
            search=more(prompt, web_searches=1),
        )

    def _compare(self, rates: Rates, price: Any, above: int, to: int | None) -> None:
        """Raise _NotOfTokens if a request between these bounds costs something else."""
        for prompt in (above + 1, to or above + 1_234_567):
            event = RequestEvent(
                id=_ANY_ID,
                prompt_tokens=prompt,
                cached_tokens=prompt // 3,
                completion_tokens=4711,
                reasoning_tokens=815,
            )
            third = prompt // 3
            details = Details(third, third // 4, third // 3, searches=3)
            if rates.cost(event, details) != self.cost(price, event, details):
                raise _NotOfTokens


_Context = tuple[str, str] | None
"""What a price depends on beside the time, as the library names it."""


class _At:
    """A model's price for a day, or for a minute."""

    __slots__ = ("has_media", "price", "rates", "told")

    def __init__(self, price: Any, rates: Rates | None, told: bytes) -> None:
        self.price = price
        self.rates = rates
        self.told = told
        names = vars(price) if price is not None else ()
        self.has_media = any(kind in name for name in names for kind in _MEDIA)


class GenaiPrice:
    """What fills in the cost of one model at one provider."""

    __slots__ = ("_aside", "_at", "_found", "_per", "_speeds", "_tiers", "_version")

    def __init__(self, aside: Aside[Genai], found: tuple[Any, Any, str], version: str) -> None:
        self._aside = aside
        self._found = found
        self._version = version
        provider, model, _ = found
        conditions = [each.constraint for each in _listed(model.prices)]
        # As the library does: what one provider charges on top is not known of another.
        is_its_own = any(model is one for one in provider.models)
        variants = list(model.price_variants or ()) if is_its_own else []
        conditions += [variant.constraint for variant in variants]
        # A price by the time of day changes on a full minute.
        by_day = all(one is None or hasattr(one, "start_date") for one in conditions)
        self._per = _DAY if by_day else _MINUTE
        self._speeds = _values(variants, "speed")
        self._tiers = _values(variants, "service_tier") - {"default"}
        self._at: Memo[tuple[float, _Context], _At] = Memo(_SLOTS)

    def of(self, event: RequestEvent) -> Filled | None:
        """Return the cost of a request. Raises NotNow and Failed, as `Aside.ask`."""
        moment = event.request_time or time_of(event.id)
        slot = moment.timestamp() // self._per
        at = self._at.known.get((slot, None)) or self._ask_for(slot, None)
        details = NOTHING
        if at.has_media or self._speeds or (at.rates is not None and at.rates.needs_details):
            details = details_of(event.usage_stats)
        context: _Context = None
        if details.speed in self._speeds:
            context = "speed", details.speed
        elif self._tiers and (tier := tier_of(event, self._tiers)) is not None:
            context = "service_tier", tier
        if context is not None:
            at = self._at.known.get((slot, context)) or self._ask_for(slot, context)
        if at.rates is None:
            return None
        if at.has_media and details.has_media:
            price = at.price
            cost = self._aside.ask(lambda library: library.cost(price, event, details))
        else:
            cost = at.rates.cost(event, details)
        return None if cost is None else ((cost,), at.told)

    def _ask_for(self, slot: float, chosen: _Context) -> _At:
        provider, model, method = self._found
        moment = datetime.fromtimestamp(slot * self._per, UTC)
        context = dict([chosen]) if chosen is not None else {}
        try:
            price, rates = self._aside.ask(lambda library: library.price(model, moment, context))
        except Failed:
            self._at.keep((slot, chosen), _At(None, None, b""))  # not once for each event of it
            raise
        told = {
            "by": BY,
            "version": self._version,
            "provider": provider.id,
            "model": model.id,
            "method": method,
            "price_date": moment.date().isoformat(),
            "currency": "USD",
            **context,
        }
        return self._at.keep((slot, chosen), _At(price, rates, msgspec.json.encode(told)))


def find(aside: Aside[Genai], names: Names) -> GenaiPrice | None:
    """Return what fills in the cost of a model; None if it has no price there.

    Raises NotNow and Failed, as `Aside.ask`.
    """
    if names.is_self_hosted:
        return None
    found, version = aside.ask(lambda library: (library.find(names), library.version))
    return GenaiPrice(aside, found, version) if found is not None else None


def _values(variants: list[Any], name: str) -> frozenset[str]:
    return frozenset(one.when[name] for one in variants if name in one.when)


def _listed(prices: Any) -> list[Any]:
    return prices if isinstance(prices, list) else []
