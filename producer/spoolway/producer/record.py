"""One request as it goes: started, errors on the way, ended.

Its id is minted at the start, so that an error can name the request before its row exists. The
request and its errors leave together when it ends, in one frame. A record that is never finished
is never sent.
"""

import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self
from uuid import UUID

from spoolway.producer.answers import problem_in, problem_of
from spoolway.schema import new_id

Outcome = Literal["success", "error", "cancelled"]
Fields = dict[str, object]

MAX_ERRORS: Final = 100
"""Errors kept of one request; further ones are counted as dropped. A retry loop without an end
must not fill the memory, nor a frame."""
MAX_ATTEMPTS: Final = 100
"""Attempts kept of one request, for the same reason."""
_SUMMARY = ("id", "timestamp", "error_type", "error_message", "backend_name", "http_status")
_SUMMARY_CHARS: Final = 500


class Record:
    """One request. Made by `Producer.record`; may be used from any thread and coroutine.

    As a context manager it finishes by itself: "success" when the block ends, "cancelled" when it
    is left by an exception that stands for a stop (asyncio.CancelledError, GeneratorExit,
    KeyboardInterrupt), and "error", with an error event, for any other exception. The exception
    goes on its way. Where a response outlives the handler, call `finish` instead.
    """

    __slots__ = (
        "_attempts",
        "_drop",
        "_errors",
        "_fields",
        "_open",
        "_recorded",
        "_send",
        "_started",
        "error_count",
        "id",
    )

    def __init__(
        self,
        fields: Mapping[str, object],
        send: Callable[[list[Fields]], bool],
        drop: Callable[[int], None],
    ) -> None:
        now_ns = time.time_ns()
        self._started = time.monotonic()
        self.id: UUID = new_id(lambda: now_ns)
        """UUIDv7: the key of the request's row, and what its errors refer to."""
        self._fields: Fields = {"request_time": datetime.fromtimestamp(now_ns / 1e9, UTC), **fields}
        self.error_count = 0
        """Errors recorded so far, by whomever."""
        self._attempts: list[Fields] = []
        self._errors: list[Fields] = []
        self._recorded: list[BaseException] = []
        self._send = send
        self._drop = drop
        # Whoever pops this ends the record. No lock: a fork may copy it while it is held, and a
        # generator that the garbage collector closes may finish on the thread that holds it.
        self._open: list[None] = [None]

    def set(self, **fields: object) -> None:
        """Set columns of the request; an unknown name goes to `extra`. Ignored after the end."""
        self._fields.update(fields)

    def fill(self, **fields: object) -> None:
        """Set those columns that nobody has set; None is no value. Ignored after the end."""
        for name, value in fields.items():
            if value is not None:
                self._fields.setdefault(name, value)

    @property
    def elapsed_ms(self) -> float:
        """Milliseconds since the start."""
        return round((time.monotonic() - self._started) * 1e3, 3)

    def first_token(self) -> None:
        """Note that the first token is here (`ttft_ms`); only the first call counts."""
        self._fields.setdefault("ttft_ms", self.elapsed_ms)

    def error(self, exception: BaseException | None = None, /, **fields: object) -> None:
        """Record an error on the way, such as a backend's that is tried again elsewhere.

        `fields` are columns of `error_logs`; an unknown name goes to `extra_context`. `exception`
        fills in `error_type` (its class) and `error_message`. It, or else the one that is being
        handled right now, then counts as recorded: it does not make a second error when it, or one
        raised from it, leaves the `with` block. After the end the error is sent on its own.
        """
        self.error_count += 1
        if len(self._errors) >= MAX_ERRORS:
            self._drop(1)
            return
        handled = exception if exception is not None else sys.exc_info()[1]
        if handled is not None:
            self._recorded.append(handled)
        event: Fields = {"timestamp": datetime.now(UTC)}
        if exception is not None:
            event |= {"error_type": type(exception).__name__, "error_message": _message(exception)}
        event |= fields
        event |= {"type": "error", "id": new_id(), "request_id": self.id}
        self._errors.append(event)
        if not self._open:
            self._send(self._take_errors())

    def attempt(
        self,
        backend: str,
        exception: BaseException | None = None,
        *,
        http_status: int | None = None,
        duration_ms: float | None = None,
        response: object = None,
        **fields: object,
    ) -> None:
        """Note a try at a backend, in `backend_attempts`; one that failed is an error, too.

        It failed if there is an `exception`, or a status of 400 and above. `response` is what the
        backend answered, parsed, or as text; what it says of its error becomes the error's type
        and message. Other `fields` are kept as they are. Further attempts than 100 are left out.
        """
        noted = {"http_status": http_status, "duration_ms": duration_ms, "response": response}
        attempt: Fields = {"backend": backend, **_known(noted), **fields}
        failed = exception is not None or (http_status is not None and http_status >= 400)
        if failed:
            problem = _problem(exception, response, http_status)
            attempt |= problem
            self.error(
                exception, backend_name=backend, **problem, **_known({"http_status": http_status})
            )
        if len(self._attempts) < MAX_ATTEMPTS:
            self._attempts.append(attempt)

    def finish(self, outcome: Outcome | None = None, **fields: object) -> bool:
        """End the request and send it with its errors; False if it was not accepted.

        Sets `duration_ms` unless given, and `outcome` to "success" unless given or set. Only the
        first call counts; every other one returns False.
        """
        elapsed = self.elapsed_ms
        try:
            self._open.pop()
        except IndexError:
            return False
        errors = self._take_errors()
        request = {"duration_ms": elapsed, "outcome": "success", **self._fields, **fields}
        if outcome is not None:
            request["outcome"] = outcome
        if errors:
            request.setdefault("errors", [_summary(error) for error in errors])
        if self._attempts:
            request.setdefault("backend_attempts", self._attempts)
            request.setdefault("provider", self._attempts[-1]["backend"])
        request |= {"type": "request", "id": self.id}
        self._recorded.clear()  # an exception keeps its frames, and all that is in them, alive
        return self._send([request, *errors])

    def __enter__(self) -> Self:
        """Return the record."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish it, unless it is finished."""
        if not self._open:
            return
        if exception is None:
            self.finish()
        elif isinstance(exception, Exception):
            if not self.has_recorded(exception):
                self.error(exception)
            self.finish("error")
        else:
            self.finish("cancelled")

    def has_recorded(self, exception: BaseException) -> bool:
        """Tell whether this exception, or one that it was raised from, is recorded already."""
        # Its cause, not its context: what a second attempt raises while the first one's error is
        # handled is an error of its own.
        cause: BaseException | None = exception
        for _ in range(MAX_ERRORS):
            if cause is None:
                break
            if any(cause is recorded for recorded in self._recorded):
                return True
            cause = cause.__cause__
        return False

    def _take_errors(self) -> list[Fields]:
        """Take each error once, whoever comes: `finish`, or an `error` that came at the same time."""
        taken: list[Fields] = []
        try:
            while True:
                error = self._errors.pop(0)
                for column, of_request in (("model_name", "model_name"), ("request_path", "path")):
                    if of_request in self._fields:
                        error.setdefault(column, self._fields[of_request])
                taken.append(error)
        except IndexError:
            return taken


def _summary(error: Fields) -> Fields:
    """Return what of an error the request's own `errors` column shows."""
    summary = {name: error[name] for name in _SUMMARY if error.get(name) is not None}
    message = summary.get("error_message")
    if isinstance(message, str) and len(message) > _SUMMARY_CHARS:
        cut = message[:_SUMMARY_CHARS]
        # Between words: half a secret could no longer be recognised as one.
        summary["error_message"] = (cut.rpartition(" ")[0] or cut) + "…"
    return summary


def _known(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _problem(exception: BaseException | None, response: object, status: int | None) -> Fields:
    """Return the type and the message of a failed attempt's error."""
    if exception is not None:
        return {"error_type": type(exception).__name__, "error_message": _message(exception)}
    text = response.encode(errors="replace") if isinstance(response, str) else response
    said = problem_of(text) if isinstance(text, bytes) else problem_in(response) or {}
    return {
        "error_type": said.get("error_type") or f"http_{status}",
        "error_message": said.get("error_message") or f"answered {status}",
    }


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - the proxy's own class; what cannot be said is no reason to fail
        return f"<{type(exception).__qualname__} without a message: its __str__ fails>"
