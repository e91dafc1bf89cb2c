"""What a failure is to a client: a status, a word for programs, and a line for people."""

import logging

from spoolway.worker.reading.failures import BadQuery, TooSlow, Unavailable
from spoolway.worker.serve.answers import ApiError

log = logging.getLogger("spoolway.serve")


def api_error(error: BaseException) -> ApiError | None:
    """Return what to answer, None for what is a mistake of ours."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, BadQuery):
        return ApiError(400, "bad-query", str(error))
    if isinstance(error, TooSlow | TimeoutError):
        return ApiError(504, "too-slow", str(error) or "the answer takes too long: ask for less")
    if isinstance(error, Unavailable):
        return ApiError(503, "unavailable", str(error), {"retry-after": "5"})
    return None


def log_reason(error: BaseException) -> None:
    """Say in the log what no client is told: where the database is, and why it does not answer."""
    if isinstance(error, Unavailable):
        log.warning("the database cannot be asked: %s", error.reason)
