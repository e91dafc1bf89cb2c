"""Generated traffic to look at, and what each question must find in it, computed in plain Python."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from spoolway.schema import ErrorEvent, RequestEvent
from spoolway.worker.reading import Filters, Period, Scope
from spoolway.worker.reading.errors import ErrorQuery
from spoolway.worker.reading.logs import LogQuery
from spoolway.worker.stores import Item
from tests.stores import Database, id_at, item_of

NOW = datetime.now(UTC).replace(microsecond=0)
DAYS = 3

MODELS = [None, "gpt-4o", "claude", "llama_3", "rare", "50%"]
PROVIDERS = [None, "openai", "anthropic"]
OUTCOMES = [None, "success", "success", "success", "error", "cancelled"]
USERS = [None, "ann", "bob", "cid", "Ann"]
ORGANIZATIONS = [None, "acme", "corp"]
PATHS = [None, "/v1/chat/completions", "/v1/messages", "/V1/messages", "/health"]
STATUSES = [None, 200, 200, 404, 429, 500, 503]
ERROR_TYPES = [None, "Timeout", "RateLimit", "Boom"]
TEXTS = [
    "Über den Wolken",
    "naïve café",
    "line one\nline two",
    'he said "no"',
    "back\\slash C:\\users",
    "http://example.com/a,b",
    "100% of snake_case",
    "日本語のテキスト",
    "plain words only",
    "",
]
WORDS = [
    ["über"],
    ["ÜBER", "wolken"],
    ["CAFÉ"],
    ["café", "gpt"],
    ["e.com/a"],
    ["a,b"],
    ["1,2"],
    ["[1,"],
    ["100%"],
    ["%"],
    ["e_c"],
    ["_"],
    ["\\"],
    ["C:\\users"],
    ['"no"'],
    ["日本"],
    ["WORDS", "plain"],
    ["nothing-has-this"],
    ["text"],
    ["ex"],
    ['":'],
    ["lin", "wolk"],
]


@dataclass
class Traffic:
    """What is put into a database."""

    items: list[Item]

    @cached_property
    def requests(self) -> list[RequestEvent]:
        """Newest first."""
        found = [item.event for item in self.items if isinstance(item.event, RequestEvent)]
        return sorted(found, key=lambda event: event.id, reverse=True)

    @cached_property
    def errors(self) -> list[ErrorEvent]:
        """Newest first."""
        found = [item.event for item in self.items if isinstance(item.event, ErrorEvent)]
        return sorted(found, key=lambda event: event.id, reverse=True)

    @cached_property
    def links(self) -> dict[UUID, RequestEvent]:
        """The request that is there, of each error that has one."""
        by_id = {event.id: event for event in self.requests}
        return {
            error.id: by_id[error.request_id] for error in self.errors if error.request_id in by_id
        }


def make_traffic(seed: int, requests: int, errors: int) -> Traffic:
    """Generate requests and errors of the last days, in no order, with nulls and with all outcomes."""
    pick = random.Random(seed)
    lines: list[tuple[UUID, bytes]] = []
    for _ in range(requests):
        moment = _moment(pick)
        event_id = id_at(moment)
        lines.append((event_id, _line(pick, request_fields(pick, event_id, moment))))
    known = [event_id for event_id, _ in lines]
    for _ in range(errors):
        of = pick.choice([None, id_at(_moment(pick)), *[pick.choice(known)] * 4])
        moment = _moment(pick) if of is None else _time_of(of) + timedelta(seconds=pick.random())
        event_id = id_at(moment)
        lines.append((event_id, _line(pick, error_fields(pick, event_id, moment, of))))
    pick.shuffle(lines)
    return Traffic([item_of(line) for _, line in lines])


def request_fields(pick: random.Random, event_id: UUID, moment: datetime) -> dict[str, Any]:
    """Return one request's columns."""
    text = f"{pick.choice(TEXTS)} {pick.choice(['', 'extra', 'Text'])}".strip()
    known = {
        "type": "request",
        "id": str(event_id),
        # A clock that differs from the one that minted the id, within what is looked for.
        "request_time": (moment + timedelta(seconds=pick.choice([0, 0, 0.25, -30]))).isoformat(),
        "model_name": pick.choice(MODELS[:-2]) if pick.random() < 0.97 else pick.choice(MODELS),
        "provider": pick.choice(PROVIDERS),
        "outcome": pick.choice(OUTCOMES),
        "user_id": pick.choice(USERS),
        "api_key_id": pick.choice([None, "k1", "k2"]),
        "organization_id": pick.choice(ORGANIZATIONS),
        "project_id": pick.choice([None, "p"]),
        "path": pick.choice(PATHS),
        "http_status": pick.choice(STATUSES),
        "request_id": pick.choice([None, f"r-{pick.randrange(40)}"]),
        "is_stream": pick.choice([None, True, False]),
        "duration_ms": pick.choice([None, 0.0, 12.5, pick.uniform(1, 5_000)]),
        "cost": pick.choice([None, 0.25]),
        "body": pick.choice(
            [None, {"model": "gpt", "messages": [{"role": "user", "content": text}]}]
        ),
        "response": pick.choice([None, [1, 2, [3]], {"text": pick.choice(TEXTS)}]),
        "stream_chunks": pick.choice([None, None, ["a", pick.choice(TEXTS)]]),
        "errors": pick.choice([None, None, [{"message": pick.choice(TEXTS)}]]),
        "headers": pick.choice([None, {"x-not-searched": "hidden-words"}]),
    }
    return {name: value for name, value in known.items() if value is not None}


def error_fields(
    pick: random.Random, event_id: UUID, moment: datetime, of: UUID | None
) -> dict[str, Any]:
    """Return one error's columns."""
    known = {
        "type": "error",
        "id": str(event_id),
        "timestamp": moment.isoformat(),
        "model_name": pick.choice(MODELS),
        "error_type": pick.choice(ERROR_TYPES),
        "error_message": pick.choice([None, *TEXTS]),
        "backend_name": pick.choice([None, "b1", "b2"]),
        "http_status": pick.choice(STATUSES),
        "request_id": str(of) if of else None,
        "extra_context": pick.choice([None, {"attempt": 1}]),
    }
    return {name: value for name, value in known.items() if value is not None}


def _line(pick: random.Random, fields: dict[str, Any]) -> bytes:
    """Write JSON as one of many producers would."""
    escaped = json.dumps(
        fields,
        ensure_ascii=pick.random() < 0.5,
        separators=(",", ":") if pick.random() < 0.5 else None,
    )
    if pick.random() < 0.2:
        escaped = escaped.replace("/", "\\/")
    return escaped.encode()


def _moment(pick: random.Random) -> datetime:
    return NOW - timedelta(seconds=pick.uniform(60, DAYS * 86_400))


def _time_of(of: UUID) -> datetime:
    return datetime.fromtimestamp((of.int >> 80) / 1000, UTC)


async def fill(logs: Database, traffic: Traffic, *, batches: int = 3) -> None:
    """Write the traffic as a worker would, in several batches."""
    size = -(-len(traffic.items) // batches)
    async with logs.opened() as store:
        for first in range(0, len(traffic.items), size):
            await store.write(traffic.items[first : first + size])
        await store.link_errors()


# --- Questions, and their answers -------------------------------------------------


def some_of(pick: random.Random, values: Sequence[Any], chance: float = 0.2) -> tuple[str, ...]:
    """Return nothing mostly, else some values, "" for None."""
    if pick.random() > chance:
        return ()
    return tuple({"" if value is None else str(value) for value in pick.choices(values, k=2)})


def random_scope(pick: random.Random) -> Scope:
    """Return everything, mostly; else some users, some organizations, or both."""
    return Scope(some_of(pick, USERS, 0.3), some_of(pick, ORGANIZATIONS, 0.3))


def random_period(pick: random.Random) -> Period | None:
    """Return a period in the traffic's days, or none."""
    if pick.random() < 0.4:
        return None
    start = _moment(pick)
    return Period(start, start + timedelta(hours=pick.choice([1, 6, 30, 80])))


def random_log_query(pick: random.Random) -> LogQuery:
    """Return a question with few or many filters."""
    return LogQuery(
        period=random_period(pick),
        filters=Filters(
            model=some_of(pick, MODELS),
            provider=some_of(pick, PROVIDERS),
            outcome=some_of(pick, OUTCOMES),
            user=some_of(pick, USERS),
            key=some_of(pick, [None, "k1"], 0.1),
            organization=some_of(pick, ORGANIZATIONS, 0.1),
            project=some_of(pick, [None, "p"], 0.1),
        ),
        scope=random_scope(pick),
        status=some_of(pick, [None, "200", "4xx", "5xx", 500], 0.15),
        path=some_of(pick, [*PATHS, "/v1/*", "/*"], 0.15),
        request_id=some_of(pick, [f"r-{n}" for n in range(40)], 0.1),
        error_type=some_of(pick, ERROR_TYPES, 0.15),
        has_error=pick.choice([None] * 6 + [True, False]),
        is_stream=pick.choice([None] * 6 + [True, False]),
        min_duration_ms=pick.choice([None] * 6 + [12.5]),
        max_duration_ms=pick.choice([None] * 6 + [1000.0]),
        q=" ".join(pick.choice(WORDS)) if pick.random() < 0.25 else "",
    )


def random_error_query(pick: random.Random, traffic: Traffic) -> ErrorQuery:
    """Return a question about errors."""
    of = [error.request_id for error in traffic.errors if error.request_id]
    return ErrorQuery(
        period=random_period(pick),
        scope=random_scope(pick),
        model=some_of(pick, MODELS),
        error_type=some_of(pick, ERROR_TYPES),
        backend=some_of(pick, [None, "b1"]),
        status=some_of(pick, [None, "4xx", 500], 0.15),
        request=pick.choice(of) if pick.random() < 0.1 else None,
        q=" ".join(pick.choice(WORDS)) if pick.random() < 0.25 else "",
    )


def answers(traffic: Traffic, query: LogQuery) -> list[UUID]:
    """Return the ids of the requests asked for, newest first."""
    errors: dict[UUID, list[ErrorEvent]] = {}
    for error in traffic.errors:
        if error.id in traffic.links:
            errors.setdefault(traffic.links[error.id].id, []).append(error)
    return [
        event.id
        for event in traffic.requests
        if _is_asked(event, query) and _has_errors(errors.get(event.id, []), query)
    ]


def _is_asked(event: RequestEvent, query: LogQuery) -> bool:
    filters = query.filters
    return all(
        (
            _in_period(event.request_time, query.period),
            _is_one(event.model_name, filters.model),
            _is_one(event.provider, filters.provider),
            _is_one(event.outcome, filters.outcome),
            _is_one(event.user_id, filters.user),
            _is_one(event.api_key_id, filters.key),
            _is_one(event.organization_id, filters.organization),
            _is_one(event.project_id, filters.project),
            _is_in_scope(event, query.scope),
            _has_status(event.http_status, query.status),
            not query.path or any(_is_path(event.path, value) for value in query.path),
            _is_one(event.request_id, query.request_id),
            query.is_stream in (None, event.is_stream),
            query.min_duration_ms is None
            or (event.duration_ms is not None and event.duration_ms >= query.min_duration_ms),
            query.max_duration_ms is None
            or (event.duration_ms is not None and event.duration_ms <= query.max_duration_ms),
            _has_words([event.body, event.response, event.stream_chunks, event.errors], query.q),
        )
    )


def _has_errors(errors: list[ErrorEvent], query: LogQuery) -> bool:
    if query.has_error is not None and bool(errors) != query.has_error:
        return False
    return not query.error_type or any(
        _is_one(error.error_type, query.error_type) for error in errors
    )


def error_answers(traffic: Traffic, query: ErrorQuery) -> list[UUID]:
    """Return the ids of the errors asked for, newest first."""
    links = traffic.links
    return [
        error.id
        for error in traffic.errors
        if all(
            (
                _in_period(error.timestamp, query.period),
                query.scope == Scope()
                or (error.id in links and _is_in_scope(links[error.id], query.scope)),
                _is_one(error.model_name, query.model),
                _is_one(error.error_type, query.error_type),
                _is_one(error.backend_name, query.backend),
                _has_status(error.http_status, query.status),
                query.request in (None, error.request_id),
                not query.q or _holds([(error.error_message or "")], query.q, lambda word: word),
            )
        )
    ]


def _is_in_scope(event: RequestEvent, scope: Scope) -> bool:
    return _is_one(event.user_id, scope.users) and _is_one(
        event.organization_id, scope.organizations
    )


def _is_one(value: str | None, values: tuple[str, ...]) -> bool:
    return not values or (value or "") in values


def _in_period(moment: datetime | None, period: Period | None) -> bool:
    assert moment is not None
    return period is None or period.start <= moment < period.end


def _has_status(status: int | None, values: tuple[str, ...]) -> bool:
    text = "" if status is None else str(status)
    return not values or any(
        text == value or (value.endswith("xx") and text[:1] == value[0]) for value in values
    )


def _is_path(path: str | None, value: str) -> bool:
    if value.endswith("*"):
        return path is not None and path.startswith(value[:-1])
    return (path or "") == value


def _has_words(columns: Sequence[Any], q: str) -> bool:
    texts = [
        json.dumps(json.loads(bytes(column)), ensure_ascii=False, sort_keys=False)
        for column in columns
        if bytes(column)
    ]
    return not q or _holds(texts, q, lambda word: json.dumps(word, ensure_ascii=False)[1:-1])


def _holds(texts: list[str], q: str, quoted: Callable[[str], str]) -> bool:
    """Tell whether every word is in one of the texts; no word here mixes cases beyond a to z."""
    return all(
        any(quoted(word).casefold() in text.casefold() for text in texts) for word in q.split()
    )
