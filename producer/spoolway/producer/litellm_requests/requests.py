"""Requests through LiteLLM, from their begin over their attempts to their end. Without LiteLLM.

A request is one row, however many backends were tried: each try that failed is in
`backend_attempts`, and is an error of its own.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from spoolway.producer.litellm_requests.call import (
    asked,
    identity,
    is_proxied,
    is_routed,
    is_same,
    key_metadata,
    metadata_of,
    problem,
    provider_of,
    received,
    tried_call,
)
from spoolway.producer.litellm_requests.payload import (
    DISCONNECTED,
    HUNG_UP,
    answered,
    hung_up,
    seen,
    start_time,
    times,
    tried,
)
from spoolway.producer.litellm_requests.pending import Pending, PendingRequests, weakly
from spoolway.producer.litellm_requests.shapes import Columns, known, mapping
from spoolway.producer.producer import Producer
from spoolway.producer.record import Outcome

SWEEP_S: Final = 2.0
MAX_ATTEMPTS: Final = 100
"""Kept of one request, so that retries without an end do not fill the memory."""
_ERROR_EXTRA: Final = ("provider", "model_group", "deployment", "api_base")
Fields = Mapping[str, Any]


class Requests:
    """All of a process. Its methods are told what LiteLLM's callbacks are told; any thread may."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._pending = PendingRequests()
        self._sweeper: threading.Thread | None = None

    def begun(self, data: Fields, key: object) -> None:
        """Note that the proxy has let a request in."""
        metadata = metadata_of(data)
        pending = self._new(data, metadata, key_metadata(key))
        pending.owner = weakly(data.get("litellm_logging_obj"))
        if DISCONNECTED in metadata:
            pending.metadata = {}  # the client says so itself, of a request that has just begun
        self._keep(_key(data, metadata), pending)

    def attempt_begun(self, call: Fields) -> None:
        """Note that a backend is asked."""
        pending = self._pending.get(_key(call, metadata_of(call)))
        if pending is not None and pending.attempt_began is None:
            pending.attempt_began = time.time()

    def attempt_failed(self, call: Fields, exception: Exception) -> None:
        """Note that a backend has failed."""
        metadata = metadata_of(call)
        key = _key(call, metadata)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._new(call, metadata)
            pending.may_go_on = is_routed(metadata) or bool(call.get("num_retries"))
            if is_proxied(metadata):
                pending.owner = weakly(call.get("litellm_logging_obj"))
            self._keep(key, pending)
        elif pending.attempt_began is None:
            return
        attempt = tried_call(call, metadata, pending.attempt_began, time.time())
        pending.attempt_began = None
        pending.noted = True
        _failed(pending, attempt, exception)

    def refused(self, data: Fields, exception: Exception, key: object) -> None:
        """Record a request that the proxy answers with an error, a backend's or its own."""
        metadata = metadata_of(data)
        payload = mapping(data.get("standard_logging_object"))
        pending = self._pending.get(_key(data, metadata)) or self._new(
            data, metadata, key_metadata(key)
        )
        error = problem(exception)
        columns = times(payload, pending.began) | seen(payload)
        columns.pop("duration_ms", None)  # a payload is about the first attempt that failed
        if error.get("http_status") == HUNG_UP:
            _finish(pending, "cancelled", columns)
            return
        if not any(is_same(error, attempt) for attempt in pending.attempts):
            # Of a backend in the middle of a stream; else the proxy's own.
            asked_one = pending.attempt_began is not None and provider_of(exception)
            _failed(pending, tried(payload, pending.attempt_began) if asked_one else {}, exception)
        # What the client has seen: a stream that has begun cannot change its status any more.
        status = 200 if "ttft_ms" in columns else error.get("http_status")
        _finish(pending, "error", {**columns, "http_status": status})

    def answered(self, call: Fields) -> None:
        """Record a request that a backend has answered, or had begun to."""
        params = mapping(call.get("litellm_params"))
        payload = mapping(call.get("standard_logging_object"))
        metadata = metadata_of(params)
        key = _key(call, metadata)
        pending = self._pending.get(key) or self._new({**params, **call}, metadata, metadata)
        if not is_proxied(metadata):
            self._pending.drop(key)  # whatever comes next is another request
        outcome: Outcome = "cancelled" if hung_up(payload, pending.metadata) else "success"
        if payload.get("cache_hit") is not True:
            attempt = tried(payload, pending.attempt_began)
            pending.attempts.append({**attempt, "outcome": outcome})
        pending.attempt_began = None
        columns = times(payload, pending.began) | seen(payload) | {"http_status": 200}
        _finish(pending, outcome, columns | answered(payload, whole=outcome == "success"))

    def call_failed(self, call: Fields) -> None:
        """Record a call by the SDK that has failed; by its router, once it does not try again."""
        params = mapping(call.get("litellm_params"))
        metadata = metadata_of(params)
        if is_proxied(metadata) or params.get("proxy_server_request"):
            return  # the proxy tells of each attempt, and of the end
        payload = mapping(call.get("standard_logging_object"))
        key = _key(call, metadata)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._new({**params, **call}, metadata)
            pending.may_go_on = is_routed(metadata)
            self._keep(key, pending)
        pending.record.set(**asked({**params, **call}, metadata))
        if not pending.noted:
            _failed(pending, tried(payload), call.get("exception"))
        pending.noted = False
        pending.touched = time.monotonic()
        if pending.began is None:
            pending.began = start_time(payload)
        pending.columns = times(payload, pending.began) | seen(payload)
        if not pending.may_go_on:
            self._pending.drop(key)
            _give_up([pending])

    def _new(self, call: Fields, metadata: Fields, key: Fields | None = None) -> Pending:
        columns = asked(call, metadata) | identity(key or {})
        return Pending(self._producer.record(**columns), metadata, received(metadata))

    def _keep(self, key: str | None, pending: Pending) -> None:
        if key is not None:
            _give_up(self._pending.add(key, pending))
            self._sweep_later()

    def _sweep_later(self) -> None:
        sweeper = self._sweeper
        if sweeper is None or not sweeper.is_alive():  # at first, and in a forked child
            sweeper = threading.Thread(target=self._sweep, name="spoolway-litellm", daemon=True)
            self._sweeper = sweeper
            sweeper.start()

    def _sweep(self) -> None:
        tick = threading.Event()
        while not tick.wait(SWEEP_S):
            _give_up(self._pending.take_over(time.monotonic()))

    def close(self) -> None:
        """Record what LiteLLM has not told the end of. More may come."""
        _give_up(self._pending.take_all())


def _key(call: Fields, metadata: Fields) -> str | None:
    """Return what all attempts of one request have in common, and no other request has."""
    if is_proxied(metadata):
        # The id may be the client's own, who may use it twice at a time.
        name, value = str(metadata.get("litellm_received_at")), call.get("litellm_call_id")
    elif is_routed(metadata):
        name, value = "trace", call.get("litellm_trace_id")  # each attempt has an id of its own
    else:
        name, value = "call", call.get("litellm_call_id")
    return f"{name} {value}" if value else None


def _failed(pending: Pending, attempt: Columns, exception: object) -> None:
    """Note an error; `attempt` is empty if no backend was asked."""
    error = pending.error = problem(exception)
    if attempt:
        attempt = known(provider=provider_of(exception)) | attempt
        if len(pending.attempts) < MAX_ATTEMPTS:
            pending.attempts.append({**attempt, **error, "outcome": "error"})
    extra = {name: attempt[name] for name in _ERROR_EXTRA if name in attempt}
    pending.record.error(None, **error, backend_name=attempt.get("backend"), **extra)


def _finish(pending: Pending, outcome: Outcome | None, columns: Columns) -> None:
    pending.ended = True
    pending.touched = time.monotonic()
    if pending.attempts:
        columns = columns | {"backend_attempts": pending.attempts}
    pending.record.set(outcome=outcome)  # None: not even that is known
    pending.record.finish(None, **columns)


def _give_up(given_up: list[Pending]) -> None:
    """Record those of which LiteLLM has not told the end."""
    for pending in given_up:
        if pending.ended:
            continue
        if pending.error is not None:
            status = known(http_status=pending.error.get("http_status"))
            _finish(pending, "error", pending.columns | status)
        elif pending.metadata.get(DISCONNECTED) is True:
            _finish(pending, "cancelled", pending.columns)
        else:
            _finish(pending, None, pending.columns)
