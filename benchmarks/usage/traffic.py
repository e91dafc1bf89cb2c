"""Requests and errors as a proxy of some teams has them: a few busy users, many who hardly ask.

Made from a seed. A stock of millions goes round a template of these, each time with new ids and times.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final

import orjson

from benchmarks.events import SEED, Events, Fields
from spoolway.schema.tables import JSON_COLUMNS, request_logs

TEMPLATE: Final = 250_000
"""Requests of a template: some hours' worth, so that an hour has as many groups as if it were new."""
USERS: Final = 2_000
ORGANIZATIONS: Final = 50
MODELS: Final = (
    ("gpt-4o-mini", "openai"),
    ("claude-sonnet-4", "anthropic"),
    ("llama-3.3-70b", "vllm"),
    ("gpt-4o", "openai"),
    ("mistral-small", "mistral"),
    ("claude-haiku-3.5", "anthropic"),
    ("qwen-2.5-coder", "vllm"),
    ("o3-mini", "openai"),
    ("mistral-large", "mistral"),
    ("bge-m3", "vllm"),
    ("claude-opus-4", "anthropic"),
    ("gpt-4.1", "openai"),
)
"""The most used first."""
OUTCOMES: Final = ("success", "error", "cancelled", None)
OUTCOME_WEIGHTS: Final = (94, 4, 1.5, 0.5)
STATUSES: Final = {"success": (200,), "error": (429, 500, 502, 504), "cancelled": (499,)}
ERROR_TYPES: Final = ("RateLimitError", "APIConnectionError", "APITimeoutError", "BadRequestError")
_WITH_ERROR: Final = 0.75
"""Of the failed requests: three in a hundred of all have an error of their own."""
SIZES: Final = (1_000, 1_700)
"""Bytes of JSON of a whole event, the least and the most."""
FOOTPRINT: Final = {"kwh_min": 2e-7, "kwh_max": 5e-7, "kgco2eq_min": 1e-8, "kgco2eq_max": 3e-8}
"""Of a token."""

NOT_COPIED: Final = frozenset({"id", "request_time", "created_at"})
COLUMNS: Final = tuple(c.name for c in request_logs.c if c.name not in NOT_COPIED)
"""Of a template's row, after its number and the type of its error, if it has one."""
_JSON: Final = frozenset(JSON_COLUMNS[request_logs.name])


def zipf(count: int) -> list[float]:
    """Return how often each of so many is chosen, cumulated: the second half as often as the first."""
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def user_of(rank: int) -> str:
    """Return a user by their rank; 1 asks most."""
    return f"user-{rank:04d}"


def key_of(rank: int, number: int = 1) -> str:
    """Return a user's first or second key."""
    return f"key-{rank:04d}-{number}"


class Traffic:
    """An endless supply of requests."""

    def __init__(self, seed: int = SEED, sizes: tuple[int, int] = SIZES) -> None:
        self._random = random.Random(seed)
        self._sizes = sizes
        self._events = Events(sizes[0], seed)
        self._by_rank = zipf(USERS)
        # Of everybody alike, whatever the seed is: who asks for what is no matter of chance.
        self._favourites = _favourites(random.Random(SEED))

    def events(self, count: int) -> Iterator[Fields]:
        """Yield so many, as a proxy has them."""
        ranks = self._random.choices(range(1, USERS + 1), cum_weights=self._by_rank, k=count)
        outcomes = self._random.choices(OUTCOMES, OUTCOME_WEIGHTS, k=count)
        return map(self._event, ranks, outcomes)

    def rows(self, count: int) -> Iterator[tuple[Any, ...]]:
        """Yield rows of a template, as both drivers take them: number, type of error, *COLUMNS."""
        for number, event in enumerate(self.events(count)):
            failed = event["outcome"] == "error" and self._random.random() < _WITH_ERROR
            yield (
                number,
                self._random.choice(ERROR_TYPES) if failed else None,
                *(_of_row(name, event.get(name)) for name in COLUMNS),
            )

    def _event(self, rank: int, outcome: str | None) -> Fields:
        rng = self._random
        event = self._events.request(rng.randint(*self._sizes))
        model, provider = rng.choice(self._favourites[rank])
        organization = rank % ORGANIZATIONS
        event |= {
            "model_name": model,
            "provider": provider,
            "provider_model": model,
            "outcome": outcome,
            "http_status": outcome and rng.choice(STATUSES[outcome]),
            "stop_reason": rng.choices(("stop", "length", "tool_calls"), (80, 8, 12))[0],
            "user_id": user_of(rank),
            # Every other user has two keys.
            "api_key_id": key_of(rank, 1 + (rank % 2 and rng.randint(0, 1))),
            "organization_id": f"org-{organization:02d}",
            "project_id": f"project-{organization:02d}-{rank // ORGANIZATIONS % 3}",
        }
        if outcome == "success":
            event |= {name: event["total_tokens"] * share for name, share in FOOTPRINT.items()}
        else:
            event |= dict.fromkeys(("completion_tokens", "cost", "stop_reason", "ttft_ms"))
            event["total_tokens"] = event["prompt_tokens"]
        return event


def _favourites(rng: random.Random) -> list[Sequence[tuple[str, str]]]:
    """Return the models of each rank, as often as they are used."""
    weights = zipf(len(MODELS))
    return [rng.choices(MODELS, cum_weights=weights, k=rng.randint(2, 6)) for _ in range(USERS + 1)]


def _of_row(name: str, value: Any) -> Any:
    return orjson.dumps(value).decode() if name in _JSON and value is not None else value
