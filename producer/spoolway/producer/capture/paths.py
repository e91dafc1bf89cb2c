"""Which paths are recorded."""

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final

ALL: Final = ("*",)
PROBES: Final = ("/health*", "/livez", "/readyz", "/ping", "/metrics", "/favicon.ico")
"""What load balancers and monitoring ask for, all day long."""


class Paths:
    """Patterns as of a shell: `*` stands for any characters, also slashes."""

    def __init__(self, only: Iterable[str] = ALL, skip: Iterable[str] = PROBES) -> None:
        self._only = _either(only)
        self._skip = _either(skip)

    def __contains__(self, path: str) -> bool:
        """Tell whether requests to this path are recorded."""
        return self._only.match(path) is not None and self._skip.match(path) is None


def _either(patterns: Iterable[str]) -> re.Pattern[str]:
    if isinstance(patterns, str):
        raise TypeError(f"paths are a list of patterns, got the text {patterns!r}")
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")
