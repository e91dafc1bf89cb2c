"""How much of an event is kept: all of it, or its numbers and names without what was said."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any, Final, Literal
from uuid import UUID

from spoolway.schema.columns import COLUMNS
from spoolway.schema.events import OVERFLOW_COLUMN

HowMuch = Literal["everything", "metadata"]
Keep = HowMuch | Mapping[str, HowMuch]

_CONTENT: Final = frozenset(
    {
        *("query", "headers", "body", "response", "stream_chunks", "error_message"),
        *OVERFLOW_COLUMN.values(),
    }
)
_LISTS: Final = ("backend_attempts", "errors")
_FACTS: Final = frozenset(
    {
        *("id", "timestamp", "request_time", "attempt", "backend", "backend_name", "provider"),
        *("model", "model_name", "provider_model", "deployment", "region", "status"),
        *("status_code", "http_status", "error_type", "outcome", "stop_reason", "is_stream"),
        *("ms", "duration_ms", "ttft_ms", "retry", "retries", "prompt_tokens"),
        *("completion_tokens", "total_tokens", "cached_tokens", "reasoning_tokens", "cost"),
    }
)
"""What is kept of an attempt or an error in a list; all else may hold what was said."""
_SCALARS: Final = (str, int, float, Decimal, datetime, UUID)
_LONGEST_FACT: Final = 200


def how_much(keep: Keep) -> Callable[[Mapping[str, Any]], HowMuch]:
    """Return what tells how much of an event is kept; the first pattern that matches its path does.

    Raises:
        ValueError: it says something else than "everything" or "metadata".
    """
    rules: dict[str, HowMuch] = {"*": keep} if isinstance(keep, str) else dict(keep)
    for pattern, value in rules.items():
        if value not in ("everything", "metadata"):
            raise ValueError(
                f'what to keep of {pattern} is "everything" or "metadata", got {value!r}'
            )

    def always(_event: Mapping[str, Any]) -> HowMuch:
        return rules["*"]

    def by_path(event: Mapping[str, Any]) -> HowMuch:
        path = str(event.get("path") or event.get("request_path") or "")
        return next(
            (value for pattern, value in rules.items() if fnmatchcase(path, pattern)), "everything"
        )

    return always if isinstance(keep, str) else by_path


def metadata_of(event: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an event without what was said in it, and without what has no column."""
    kind = event.get("type")
    columns = COLUMNS.get(kind.value if isinstance(kind, Enum) else str(kind), {})
    kept = {
        name: value
        for name, value in event.items()
        if name == "type" or (name in columns and name not in _CONTENT)
    }
    for name in _LISTS:
        if name in kept:
            kept[name] = _facts(kept[name])
    return kept


def _facts(entries: object) -> list[dict[str, Any]] | None:
    """Return what is known of attempts or errors; None where they are no list of mappings."""
    if not isinstance(entries, (list, tuple)):
        return None
    return [
        {name: value for name, value in entry.items() if name in _FACTS and _is_fact(value)}
        for entry in entries
        if isinstance(entry, Mapping)
    ]


def _is_fact(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_FACT
    return value is None or isinstance(value, _SCALARS)
