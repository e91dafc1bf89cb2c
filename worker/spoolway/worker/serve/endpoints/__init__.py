"""Every endpoint, by topic."""

from typing import Final

from spoolway.worker.serve.endpoint import Endpoint
from spoolway.worker.serve.endpoints import document, fleet, logs, usage

ENDPOINTS: Final[tuple[Endpoint, ...]] = document.with_document(
    (*usage.ENDPOINTS, *logs.ENDPOINTS, *fleet.ENDPOINTS)
)
"""In the order of the OpenAPI document."""
