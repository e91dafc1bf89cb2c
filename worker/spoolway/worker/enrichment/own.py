"""Costs by the operator's own prices."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import msgspec

from spoolway.schema import RequestEvent
from spoolway.worker.config.prices import ModelPrice
from spoolway.worker.enrichment.consumed import NOTHING, details_of
from spoolway.worker.enrichment.rates import Rates
from spoolway.worker.enrichment.sources import Filled, Names

BY: Final = "prices"
_PATTERN: Final = frozenset("*?[")


class _Own(NamedTuple):
    rates: Rates
    told: bytes

    def of(self, event: RequestEvent) -> Filled | None:
        details = details_of(event.usage_stats) if self.rates.needs_details else NOTHING
        cost = self.rates.cost(event, details)
        return None if cost is None else ((cost,), self.told)


class OwnPrices:
    """A table of models, exact or as patterns with `*`, `?` and `[…]`; case does not matter.

    A name is the model's, asked for or answering, alone or after its provider and a slash. An exact
    name goes before a pattern, and of patterns the one that stands first.
    """

    def __init__(self, prices: Mapping[str, ModelPrice]) -> None:
        self._exact: dict[str, _Own] = {}
        self._patterns: list[tuple[str, _Own]] = []
        for name, price in prices.items():
            is_pattern = not _PATTERN.isdisjoint(name)
            told = {
                "by": BY,
                "model": name,
                "method": "pattern" if is_pattern else "name",
                "prices": price.shown(),
            }
            own = _Own(Rates.of_price(price), msgspec.json.encode(told))
            if is_pattern:
                self._patterns.append((name.lower(), own))
            else:
                self._exact[name.lower()] = own

    @property
    def is_given(self) -> bool:
        """Whether there is any price in it."""
        return bool(self._exact or self._patterns)

    def find(self, names: Names) -> Any:
        """Return what fills in the cost of this model; None if the table does not have it."""
        forms = list(_forms(names))
        for form in forms:
            if (own := self._exact.get(form)) is not None:
                return own
        for pattern, own in self._patterns:
            if any(fnmatchcase(form, pattern) for form in forms):
                return own
        return None


def _forms(names: Names) -> Iterator[str]:
    for model in names.models():
        if names.provider:
            yield f"{names.provider}/{model}".lower()
        yield model.lower()
