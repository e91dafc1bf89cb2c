"""Amounts of usage for a person: how long, how much money, how many tokens, how much CO2.

Each fits a column of a table, and is a dash where it is not known: nothing is not zero.
"""

from decimal import Decimal
from typing import Final

UNKNOWN: Final = "-"

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 3_600_000
_LEAST: Final = 1e-6


def duration(milliseconds: float | None) -> str:
    """Return a span of at most three digits: 850 ms, 1.24 s, 12.4 s, 2 min 05 s, 1 h 10 min."""
    if milliseconds is None:
        return UNKNOWN
    if milliseconds < 0:
        return f"-{duration(-milliseconds)}"
    if milliseconds < 999.5:
        return f"{milliseconds:.3g} ms" if milliseconds < 99.5 else f"{milliseconds:.0f} ms"
    if milliseconds < 9_995:
        return f"{milliseconds / 1000:.2f} s"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    if milliseconds < _HOUR_MS - 500:
        minutes, seconds = divmod(round(milliseconds / 1000), 60)
        return f"{minutes} min {seconds:02} s"
    hours, minutes = divmod(round(milliseconds / _MINUTE_MS), 60)
    return f"{hours:,} h {minutes:02} min"


def whole(number: float | None) -> str:
    """Return a number to the unit: 1,234,567."""
    return UNKNOWN if number is None else f"{number:,.0f}"


def rate(per_second: float | None) -> str:
    """Return a rate: to the unit where that is enough, small ones with a digit more."""
    if per_second is None:
        return UNKNOWN
    if 0 < per_second < 9.95:
        return f"{per_second:.1f}" if per_second >= 0.05 else "<0.1"
    return f"{per_second:,.0f}"


def money(amount: float | None) -> str:
    """Return a cost as it was counted, in whatever currency the prices have.

    Two digits from 1 on. Below, where most requests are, two that are not zero: 0.0042.
    """
    if amount is None:
        return UNKNOWN
    if amount == 0 or abs(amount) >= 0.995:
        return f"{amount:,.2f}"
    return _digits(amount, 2)


def share(part: float | None, of: float | None) -> str:
    """Return a part in percent: 0.4 %. Some is never 0.0 %, and not all is never 100.0 %."""
    if part is None or not of:
        return UNKNOWN
    percent = 100 * part / of
    if 0 < percent < 0.05:
        return "<0.1 %"
    if 99.95 <= percent < 100:
        return ">99.9 %"
    return f"{percent:.1f} %"


def co2(kilograms_min: float | None, kilograms_max: float | None) -> str:
    """Return what an estimate lies between, in grams or kilograms: 1.2 to 3.4 g."""
    if kilograms_min is None or kilograms_max is None:
        return UNKNOWN
    unit, factor = ("kg", 1.0) if kilograms_max >= 1 else ("g", 1000.0)
    least, most = (_three(kilograms * factor) for kilograms in (kilograms_min, kilograms_max))
    return f"{most} {unit}" if least == most else f"{least} to {most} {unit}"


def energy(kwh_min: float | None, kwh_max: float | None) -> str:
    """Return what an estimate lies between, in watt-hours or kilowatt-hours."""
    if kwh_min is None or kwh_max is None:
        return UNKNOWN
    unit, factor = ("kWh", 1.0) if kwh_max >= 1 else ("Wh", 1000.0)
    least, most = (_three(kwh * factor) for kwh in (kwh_min, kwh_max))
    return f"{most} {unit}" if least == most else f"{least} to {most} {unit}"


def _three(number: float) -> str:
    """Return three digits that count, without an exponent."""
    if number >= 999.5:
        return f"{number:,.0f}"
    return _digits(number, 3)


def _digits(number: float, count: int) -> str:
    """Return so many digits that count, without an exponent."""
    if 0 < abs(number) < _LEAST:
        return f"<{_LEAST:f}"
    return f"{Decimal(f'{number:.{count}g}'):f}"
