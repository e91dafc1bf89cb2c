"""`/openapi.json`: what can be asked here, for programs."""

from collections.abc import Sequence
from typing import Final

from starlette.types import ASGIApp

from spoolway.worker.serve.answers import json_response
from spoolway.worker.serve.endpoint import Asked, Endpoint
from spoolway.worker.serve.openapi import document_of

_PATH: Final = "/openapi.json"


def with_document(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints, and the one that describes them and itself."""

    async def openapi(_asked: Asked) -> ASGIApp:
        return json_response(document)

    described = Endpoint(
        _PATH,
        "openapi",
        "This document",
        openapi,
        {"type": "object"},
        asks_database=False,
    )
    document = document_of((*endpoints, described))
    return (*endpoints, described)
