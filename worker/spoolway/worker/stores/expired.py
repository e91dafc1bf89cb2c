"""Bodies that have expired: null, and told from those that never were.

A row whose bodies retention has taken lists them in `truncated`, as every column that does not hold
all it would, and `_expired` behind them. Such a row is the same as the event it was made of, when
that one comes again: as far as can be told by what is left of it.
"""

from typing import Any, Final

import msgspec

PAYLOAD: Final = ("body", "response", "stream_chunks")
"""What was said. Everything else is metadata, and stays as long as the row."""
MARK: Final = "_expired"
"""The element of `truncated` that only retention writes."""
GONE_WITH_IT: Final = (*PAYLOAD, "truncated")
"""Columns that are not compared with those of an expired row."""
IS_THERE: Final = "(body IS NOT NULL OR response IS NOT NULL OR stream_chunks IS NOT NULL)"
"""SQL: the row has bodies that may expire."""


def is_expired(truncated: str | msgspec.Raw | None) -> bool:
    """Tell from the column `truncated` whether the row's bodies have expired."""
    if truncated is None or MARK not in (text := _text(truncated)):
        return False
    try:
        names: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return isinstance(names, list) and MARK in names


def _text(value: str | msgspec.Raw) -> str:
    return value if isinstance(value, str) else str(value, "utf-8", "replace")
