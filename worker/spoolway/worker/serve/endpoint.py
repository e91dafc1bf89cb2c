"""What an endpoint is: declared once, for the router and for the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.types import ASGIApp

from spoolway.worker.config import Settings
from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.serve.limits import Slots
from spoolway.worker.serve.parameters import Parameter
from spoolway.worker.serve.status import Status
from spoolway.worker.serve.tokens import Caller

NDJSON: Final = "application/x-ndjson"
CSV: Final = "text/csv; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where answers come from."""

    settings: Settings
    database: ReadDatabase
    status: Status
    slots: Slots
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, understood."""

    sources: Sources
    caller: Caller
    query: Mapping[str, Any]
    """Every parameter by its name."""
    path: Mapping[str, str]
    accept: str
    """What the client wants, as its header says."""
    now: datetime

    @classmethod
    def at_once(cls, **fields: Any) -> "Asked":
        """Return a request of this moment."""
        return cls(now=datetime.now(UTC), **fields)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path that answers GET and HEAD."""

    path: str
    name: str
    """Of the operation, for generated clients."""
    summary: str
    answer: Callable[[Asked], Awaitable[ASGIApp]]
    """Return what sends the answer. Raises ApiError, and what `reading` raises."""
    schema: Mapping[str, Any]
    """Of the JSON that is sent, as JSON Schema."""
    parameters: tuple[Parameter, ...] = ()
    path_parameters: tuple[Parameter, ...] = ()
    streams: bool = False
    """Whether it may be had as NDJSON and CSV, too."""
    asks_database: bool = True
    needs_all: bool = False
    """Only for those who see all rows: what it says is of everybody."""
    errors: tuple[int, ...] = ()
    """Statuses beyond those that every endpoint has."""
    is_polled: bool = False
    """Asked every second or two, and then not worth a line in the log."""
