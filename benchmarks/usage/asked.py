"""What is asked: the questions of the page and of those who look for one request, with their targets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from benchmarks.usage.kept import Kind
from benchmarks.usage.traffic import MODELS, USERS, key_of, user_of

PERIOD: Final = {"from": "30d"}
PAGE: Final = 50
"""Rows of a page of requests, as the page in the browser shows them."""
DEEP: Final = 1_000
"""The number of the page that is looked at after the first."""
TARGET_MS: Final[Mapping[Kind, float]] = {"postgresql": 50, "sqlite": 200}
OVERVIEW_MS: Final = 1_000
"""The overview with everything on it, on either database."""

MODEL: Final = MODELS[3][0]
BUSY: Final = 1
RARE: Final = USERS
"""Users by rank."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request to the API."""

    name: str
    path: str
    has_target: bool = False


def questions() -> Iterator[Question]:
    """Yield all but those of pages further on."""
    usage, logs = "/api/usage", "/api/logs"
    yield Question("usage, 30 days", _to(usage, **PERIOD), has_target=True)
    yield Question("usage of a model", _to(usage, **PERIOD, model=MODEL), has_target=True)
    yield Question("usage of a busy user", _to(usage, **PERIOD, user=user_of(BUSY)))
    yield Question("usage of a rare user", _to(usage, **PERIOD, user=user_of(RARE)))
    yield Question("usage of a busy key", _to(usage, **PERIOD, key=key_of(BUSY)))
    yield Question("usage, one day", usage)
    for dimension in ("model", "user", "key"):
        yield Question(f"30 days by {dimension}", _by(dimension))
    yield Question("values to filter by, 30 days", FIRST)
    yield Question("requests, page 1", _to(logs, limit=PAGE), has_target=True)
    yield Question("requests of a busy user", _to(logs, limit=PAGE, user=user_of(BUSY)))
    yield Question("requests of a rare user", _to(logs, limit=PAGE, user=user_of(RARE)))
    yield Question("requests that failed", _to(logs, limit=PAGE, outcome="error"))
    yield Question("requests with status 502", _to(logs, limit=PAGE, status=502))
    yield Question("errors, page 1", _to("/api/errors", limit=PAGE))
    yield Question("tail, a minute", _to("/api/tail", since="1m"))


FIRST: Final = f"/api/filters?{urlencode(PERIOD)}"
"""What the page asks for when it is loaded, and not again when it is refreshed."""


def overview() -> list[str]:
    """Return what the page asks for whenever its overview is shown."""
    return [
        _to("/api/usage", **PERIOD),
        *map(_by, ("model", "user", "key")),
        _to("/api/logs", **PERIOD, outcome="error", limit=8),
        _to("/api/errors", **PERIOD, limit=40),
        "/api/status",
    ]


def _by(dimension: str) -> str:
    return _to("/api/usage/by", **PERIOD, dimension=dimension, order="requests", limit=10)


def _to(path: str, **query: object) -> str:
    return f"{path}?{urlencode(query)}"
