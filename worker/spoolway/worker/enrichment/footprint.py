"""Energy and carbon by EcoLogits: what a model of that size takes for so many tokens.

The library's method (`llm_impacts`) is two lines for each bound: energy grows with the tokens, and
with the time they take, which is the model's own or the request's, whichever is shorter. It is asked
for the points that tell these lines, and compared with them before they are used. Nothing of it is
instrumented, and nothing is fetched.
"""

import logging
import math
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import msgspec

from spoolway.schema import RequestEvent
from spoolway.worker.config import UsageError
from spoolway.worker.enrichment.aside import Aside
from spoolway.worker.enrichment.sources import Filled, Names

BY: Final = "ecologits"
_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "openai": "openai",
    "azure": "openai",
    "mistral": "mistralai",
    "cohere": "cohere",
    "google": "google_genai",
    "gemini": "google_genai",
    "vertex": "google_genai",
    "huggingface": "huggingface_hub",
}
"""The library's providers, by what is in the names that proxies give them."""
_MANY: Final = 10**9
"""Tokens of a request whose own time is longer than any."""
_LONG: Final = 10.0**6
"""Seconds that are shorter than that."""
_TOLERANCE: Final = 1e-9
_MOST: Final = 1e9
"""kWh and kgCO2eq above which a number is nonsense."""


class _Bound(NamedTuple):
    """The lines of one bound."""

    kwh_per_token: float
    kwh_per_second: float
    kg_per_token: float
    kg_per_second: float
    seconds_per_token: float
    """By the model's own speed."""
    first_second: float
    """Seconds until its first token."""


class _Footprint:
    """What fills in the footprint of one model: kWh from and to, kgCO2eq from and to."""

    __slots__ = ("_least", "_most", "_told")

    def __init__(self, least: _Bound, most: _Bound, told: bytes) -> None:
        if not all(0 <= number < math.inf for number in (*least, *most)):
            raise ArithmeticError("a footprint that is none")
        self._least = least
        self._most = most
        self._told = told

    def of(self, event: RequestEvent) -> Filled | None:
        """Return the footprint of a request that wrote tokens; without its duration, the model's."""
        tokens, ms = event.completion_tokens, event.duration_ms
        if not tokens or tokens < 0:
            return None
        seconds = ms / 1000 if ms is not None and ms >= 0 else math.inf
        values = self.values(tokens, seconds)
        return (values, self._told) if max(values) < _MOST else None

    def values(self, tokens: int, seconds: float) -> tuple[float, float, float, float]:
        """Return the four values."""
        kwh, kwh_second, kg, kg_second, per_token, first = self._least
        took = min(per_token * tokens + first, seconds)
        kwh_min = kwh * tokens + kwh_second * took
        kg_min = kg * tokens + kg_second * took
        kwh, kwh_second, kg, kg_second, per_token, first = self._most
        took = min(per_token * tokens + first, seconds)
        return (
            kwh_min,
            kwh * tokens + kwh_second * took,
            kg_min,
            kg * tokens + kg_second * took,
        )


class Ecologits:
    """The library. Used in its own thread alone."""

    def __init__(self, zone: str) -> None:
        import_quietly()
        from ecologits.model_repository import models
        from ecologits.tracers import utils

        self._models = models
        self._impacts = utils.llm_impacts
        self._locations = {
            name: config.datacenter_location for name, config in utils.PROVIDER_CONFIG_MAP.items()
        }
        self._zone = zone or None
        self._version = version(BY)

    def find(self, names: Names) -> _Footprint | None:
        """Return a model's footprint; None if the library does not know it.

        Raises ArithmeticError if it is not as `Ecologits` says.
        """
        for provider in self._providers(names):
            for model in _forms(names):
                known = self._models.find_model(provider=provider, model_name=model)
                if known is not None:
                    return self._footprint(provider, model, known)
        return None

    def _providers(self, names: Names) -> Iterator[str]:
        given = (names.provider or "").lower()
        likely = [provider for known, provider in _PROVIDERS.items() if known in given][:1]
        yield from likely
        # Others sell the same models, and the name of a model is in one of them at most.
        yield from (provider for provider in self._locations if provider not in likely)

    def impacts(self, provider: str, model: str, tokens: int, seconds: float) -> list[float]:
        """Return kWh from and to, kgCO2eq from and to, as the library says."""
        found: Any = self._impacts(provider, model, tokens, seconds, self._zone)
        values: list[float] = []
        for impact in (found.energy, found.gwp):
            value = impact.value
            values += [getattr(value, "min", value), getattr(value, "max", value)]
        if not all(0 <= value < math.inf for value in values):
            raise ArithmeticError("a footprint that is none")
        return values

    def _footprint(self, provider: str, model: str, known: Any) -> _Footprint:
        def at(tokens: int, seconds: float) -> list[float]:
            return self.impacts(provider, model, tokens, seconds)

        at_once, soon = at(_MANY, 0.0), at(_MANY, _LONG)
        begun, once, twice = at(0, math.inf), at(_MANY, math.inf), at(2 * _MANY, math.inf)

        def bound(kwh: int, kg: int) -> _Bound:
            per_token = [value / _MANY for value in at_once]
            per_second = [(soon[at] - at_once[at]) / _LONG for at in range(4)]
            slope = (twice[kwh] - once[kwh]) / _MANY
            return _Bound(
                per_token[kwh],
                per_second[kwh],
                per_token[kg],
                per_second[kg],
                (slope - per_token[kwh]) / per_second[kwh],
                begun[kwh] / per_second[kwh],
            )

        told: dict[str, Any] = {
            "by": BY,
            "version": self._version,
            "provider": provider,
            "model": model,
            "method": "llm_impacts",
            "zone": self._zone or self._locations[provider] or "WOR",
        }
        if warnings := [warning.code for warning in known.warnings]:
            told["warnings"] = warnings
        found = _Footprint(bound(0, 2), bound(1, 3), msgspec.json.encode(told))
        for tokens, seconds in ((1, 0.2), (100, 1.5), (100, math.inf), (9000, 7.0), (9000, 1e4)):
            for ours, theirs in zip(
                found.values(tokens, seconds), at(tokens, seconds), strict=True
            ):
                if not math.isclose(ours, theirs, rel_tol=_TOLERANCE):
                    raise ArithmeticError("a footprint that is no line")
        return found


def find(aside: Aside[Ecologits], names: Names) -> _Footprint | None:
    """Return what fills in the footprint of a model; None if it is not known.

    Raises NotNow and Failed, as `Aside.ask`.
    """
    return aside.ask(lambda library: library.find(names))


def check_zone(zone: str) -> None:
    """Raise UsageError for a country that the library does not know. Imports it."""
    import_quietly()
    from ecologits.electricity_mix_repository import electricity_mixes

    if electricity_mixes.find_electricity_mix(zone) is None:
        raise UsageError(
            f"SPOOLWAY_ELECTRICITY_ZONE is {zone}, whose electricity EcoLogits does not know: give "
            "an ISO 3166-1 code of three letters, as FRA, or WOR for the world"
        )


def import_quietly() -> None:
    """Import it. It makes every logger that is made later one of its own, and that is undone.

    What it warns of, once for each kind of model, is in `enriched`.
    """
    loggers = logging.getLoggerClass()
    try:
        import ecologits.log
    finally:
        logging.setLoggerClass(loggers)
    if _is_not_ours not in ecologits.log.logger.filters:
        ecologits.log.logger.addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    return record.threadName != f"spoolway-{BY}"


def _forms(names: Names) -> Iterator[str]:
    """Yield names of the model, each also without what stands before its first slash."""
    for model in names.models():
        yield model
        if "/" in model:
            yield model.partition("/")[2]
