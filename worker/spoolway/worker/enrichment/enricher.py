"""What stands between events and the database, and fills in what their proxy did not send."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Self

from spoolway.schema import RequestEvent
from spoolway.worker.config import Settings, UsageError
from spoolway.worker.enrichment import footprint, genai
from spoolway.worker.enrichment.aside import Aside, Failed, Limits, NotNow
from spoolway.worker.enrichment.footprint import Ecologits
from spoolway.worker.enrichment.genai import Genai
from spoolway.worker.enrichment.memo import Memo
from spoolway.worker.enrichment.own import BY as OWN
from spoolway.worker.enrichment.own import OwnPrices
from spoolway.worker.enrichment.sources import Filled, Filling, Names
from spoolway.worker.stores.base import Item

_NO_FOOTPRINT: Final = (
    "SPOOLWAY_ELECTRICITY_ZONE is set, and nothing computes a footprint: "
    "pip install 'spoolway[footprint]'"
)


@dataclass(slots=True)
class Counts:
    """What was done since the start."""

    cost: int = 0
    """Requests whose cost was filled in."""
    footprint: int = 0
    failed: int = 0
    """Requests that a library failed for, or whose result could not be right."""
    postponed: int = 0
    """Requests without one of the two because a library was off, or had had its share of the time."""


class _Source:
    """Cost, or footprint: what of each model is known."""

    def __init__(
        self, find: Callable[[Names], Filling | None], aside: Aside[Genai] | Aside[Ecologits] | None
    ) -> None:
        self.memo: Final[Memo[Names | tuple[str | None, ...], Filling | None]] = Memo()
        self._find = find
        self._aside = aside
        self._refreshed = 0

    def known(self, key: tuple[str | None, str | None, str | None]) -> Filling | None:
        """Return what fills it in for this model, found out now; None if nothing does.

        Raises:
            NotNow: that is not known yet.
            Failed: from now on, nothing does.
        """
        names = Names(*key)
        if not names.is_sane:
            return None
        try:
            filling = self._find(names)
        except Failed:
            self.memo.keep(key, None)
            raise
        if self._aside is not None and self._aside.refreshed != self._refreshed:
            self._refreshed = self._aside.refreshed
            self.memo.forget()
        return self.memo.keep(key, filling)


class Enricher:
    """Fills in cost and footprint. One for a worker; `enrich` may be called from one thread at a time."""

    def __init__(
        self,
        own: OwnPrices,
        costs: Aside[Genai] | None,
        footprints: Aside[Ecologits] | None,
    ) -> None:
        self.counts = Counts()
        self._asides = tuple(aside for aside in (costs, footprints) if aside is not None)
        self._has_own = own.is_given
        self.fills_cost: Final = self._has_own or costs is not None
        self.fills_footprint: Final = footprints is not None
        self._told: Memo[tuple[bytes, bytes], bytes] = Memo()

        def find_cost(names: Names) -> Filling | None:
            found: Filling | None = own.find(names)
            if found is None and costs is not None:
                found = genai.find(costs, names)
            return found

        def find_footprint(names: Names) -> Filling | None:
            return footprint.find(footprints, names) if footprints is not None else None

        self._costs = _Source(find_cost, costs)
        self._footprints = _Source(find_footprint, footprints) if footprints is not None else None

    @classmethod
    def of(cls, settings: Settings, *, limits: Limits | None = None) -> "Self | None":
        """Make what the settings want, of what is installed; None if that is nothing.

        Raises:
            UsageError: a country that the library does not know.
        """
        if not settings.enrich:
            return None
        has_prices, has_footprints = (
            find_spec(name) is not None for name in ("genai_prices", "ecologits")
        )
        if zone := settings.electricity_zone:
            if not has_footprints:
                raise UsageError(_NO_FOOTPRINT)
            footprint.check_zone(zone)
        if not (has_prices or has_footprints or settings.prices):
            return None
        return cls(
            OwnPrices(settings.prices),
            Aside(genai.BY, Genai, limits) if has_prices else None,
            Aside(footprint.BY, lambda: Ecologits(zone), limits) if has_footprints else None,
        )

    @property
    def fills(self) -> str:
        """What is filled in, and from where, for a log line."""
        own = [OWN] if self._has_own else []
        return ", ".join([*own, *(aside.name for aside in self._asides)])

    def enrich(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items, those that something could be filled in for as new ones. Never raises.

        What a proxy has sent stays as it is: a cost is filled in where there is none, a footprint
        where there is nothing of it.
        """
        filled: list[Item] | None = None
        for at, item in enumerate(items):
            event = item.event
            if type(event) is not RequestEvent:
                continue
            try:
                new = self._enriched(item, event)
            except Exception:  # noqa: BLE001 - whatever a library has left behind: the event goes on
                self.counts.failed += 1
                continue
            if new is not None:
                if filled is None:
                    filled = list(items)
                filled[at] = new
        return items if filled is None else filled

    def _enriched(self, item: Item, event: RequestEvent) -> Item | None:
        key = event.provider, event.provider_model, event.model_name
        cost = took = None
        if event.cost is None:
            cost = self._filled(self._costs, key, event)
        if (
            self._footprints is not None
            and event.kwh_min is None
            and event.kwh_max is None
            and event.kgco2eq_min is None
            and event.kgco2eq_max is None
        ):
            took = self._filled(self._footprints, key, event)
        if cost is None and took is None:
            return None
        new = copy(event)
        by_cost = by_footprint = b""
        if cost is not None:
            (new.cost,), by_cost = cost
            self.counts.cost += 1
        if took is not None:
            (new.kwh_min, new.kwh_max, new.kgco2eq_min, new.kgco2eq_max), by_footprint = took
            self.counts.footprint += 1
        both = by_cost, by_footprint
        told = self._told.known.get(both) or self._told.keep(both, _told(both))
        return Item(new, item.text, item.day, told)

    def _filled(
        self,
        source: _Source,
        key: tuple[str | None, str | None, str | None],
        event: RequestEvent,
    ) -> Filled | None:
        try:
            try:
                filling = source.memo.known[key]
            except KeyError:
                filling = source.known(key)
            return filling.of(event) if filling is not None else None
        except NotNow:
            self.counts.postponed += 1
        except Failed:
            self.counts.failed += 1
        return None


def _told(parts: tuple[bytes, bytes]) -> bytes:
    """Return the JSON of both, without what was not filled in."""
    named = zip((b'"cost":', b'"footprint":'), parts, strict=True)
    return b"{" + b",".join(name + part for name, part in named if part) + b"}"
