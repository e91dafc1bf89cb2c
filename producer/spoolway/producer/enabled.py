"""SPOOLWAY_ENABLED: whether anything is recorded at all, for producers and workers alike."""

import os
from typing import Final

# The words that the worker's settings take.
_NO: Final = frozenset({"0", "off", "f", "false", "n", "no"})
_YES: Final = frozenset({"1", "on", "t", "true", "y", "yes"})


def is_enabled() -> bool:
    """Return SPOOLWAY_ENABLED, or True. Raises ValueError: it is neither yes nor no."""
    told = (os.environ.get("SPOOLWAY_ENABLED") or "true").lower()
    if told not in _NO | _YES:
        raise ValueError(f"SPOOLWAY_ENABLED is true or false, got {told!r}")
    return told in _YES
