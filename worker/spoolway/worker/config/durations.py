"""Spans of time as Go writes them: 1h30m, 300s, 1.5h, 100ms."""

import re
from typing import Final

_SECONDS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5
    "μs": 1e-6,  # U+03BC: Go takes both
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"
_WHOLE: Final = re.compile(rf"[+-]?(?:{_PART})+", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)


def seconds(text: str) -> float:
    """Return a span in seconds. A number without a unit is seconds, too; Go knows only 0.

    Raises:
        ValueError: it is neither.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise ValueError("is no duration: give it as 1h30m, 300s, 100ms, or 0")
    total = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    return -total if text.startswith("-") else total
