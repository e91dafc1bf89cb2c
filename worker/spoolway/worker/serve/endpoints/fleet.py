"""How the fleet is: `/api/status`."""

from typing import Final

from starlette.types import ASGIApp

from spoolway.worker.serve.answers import json_response
from spoolway.worker.serve.endpoint import Asked, Endpoint
from spoolway.worker.serve.schemas import (
    COUNT,
    NUMBER,
    TEXT,
    TRUTH,
    any_keys,
    list_of,
    nullable,
    record,
)

_BACKLOG: Final = {
    "entries": COUNT,
    "waiting": nullable(COUNT),
    "pending": COUNT,
    "lag_seconds": NUMBER,
    "pending_seconds": NUMBER,
    "added": nullable(COUNT),
    "settled": nullable(COUNT),
}
_STATUS: Final = record(
    version=TEXT,
    database={"type": "string", "enum": ["available", "unavailable"]},
    queue=nullable(record(**_BACKLOG, streams=any_keys(record(**_BACKLOG)))),
    spool=nullable(
        record(segments=COUNT, events=COUNT, bytes=COUNT, oldest_seconds=nullable(NUMBER))
    ),
    dead=nullable(record(total=COUNT, reasons=any_keys(COUNT))),
    workers=list_of(
        {**record(consumer=TEXT, activity=TEXT, holds=TRUTH), "additionalProperties": True}
    ),
)


async def status(asked: Asked) -> ASGIApp:
    """Return the streams, and of this machine's folder spool, dead letters and workers."""
    return json_response(await asked.sources.status.all())


ENDPOINTS: Final = (
    Endpoint(
        "/api/status",
        "status",
        "Queue, spool, dead letters and workers at this moment; null is what cannot be had",
        status,
        _STATUS,
        asks_database=False,
        needs_all=True,
        is_polled=True,
    ),
)
