"""The operator's own prices, as a file has them: `prices`, a mapping of models."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Final

from pydantic import BaseModel, ConfigDict

from spoolway.worker.config.options import nearest

_DEAREST: Final = Decimal(10**9)
_PLACES: Final = 12
"""Decimal places that a price may have: sums of such prices are exact, see `Rates`."""
_LONGEST_NAME: Final = 200


class ModelPrice(BaseModel):
    """Prices of one model: of a million tokens, and of a request. What is left out is None."""

    model_config = ConfigDict(frozen=True)

    input: Decimal | None = None
    cached_input: Decimal | None = None
    """Of input that was read from a cache. Default: as any input."""
    cache_write: Decimal | None = None
    """Of input that was written to one, where the provider says how much. Default: as any input."""
    output: Decimal | None = None
    reasoning: Decimal | None = None
    """Of output that is reasoning. Default: as any output."""
    request: Decimal | None = None
    """Of the request itself."""

    def shown(self) -> dict[str, float]:
        """Return what was given, as JSON has it."""
        return {name: float(value) for name, value in self if value is not None}


def checked_prices(given: object) -> dict[str, ModelPrice]:
    """Check what a file has under `prices`: names or patterns of models, and their prices.

    Raises:
        ValueError: what is wrong with which of them.
    """
    if not isinstance(given, Mapping):
        raise ValueError("is no mapping: give model: {input: …, output: …}")  # noqa: TRY004 - pydantic takes it
    return {_name(name): _price(_name(name), each) for name, each in given.items()}


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
        raise ValueError(f"has a model whose name is empty, or longer than {_LONGEST_NAME}")
    return name


def _price(model: str, given: object) -> ModelPrice:
    if isinstance(given, ModelPrice):
        return given
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"{model} has no prices: give {{input: …, output: …}}")
    for key in given:
        if key not in ModelPrice.model_fields:
            raise ValueError(
                f"{model} has an unknown key {str(key)[:40]}"
                f"{nearest(str(key), ModelPrice.model_fields)}"
            )
    return ModelPrice(**{key: _number(model, key, value) for key, value in given.items()})


def _number(model: str, key: str, value: object) -> Decimal:
    try:
        number = Decimal(str(value))
        places = -int(number.as_tuple().exponent)  # a text for NaN and Infinity
    except (InvalidOperation, ValueError):
        number, places = Decimal(-1), 0
    if not 0 <= number <= _DEAREST or places > _PLACES:
        per = "a request" if key == "request" else "a million tokens"
        raise ValueError(
            f"{model}: {key} is no price: give a number of 0 or more, per {per}, without a currency"
        )
    return number
