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

from spoolway.schema import new_id

Outcome = Literal["success", "error", "cancelled"]
Fields = dict[str, object]

MAX_ERRORS: Final = 100
"""Errors kept of one request; further ones are counted as dropped. A retry loop without an end
must not fill the memory, nor a frame."""
_SUMMARY = ("id", "timestamp", "error_type", "error_message", "backend_name", "http_status")
_SUMMARY_CHARS: Final = 500


class Record:
    """One request. Made by `Producer.record`; may be used from any thread and coroutine.

    As a context manager it finishes by itself: "success" when the block ends, "cancelled" when it
    is left by an exception that stands for a stop (asyncio.CancelledError, GeneratorExit,
    KeyboardInterrupt), and "error", with an error event, for any other exception. The exception
    goes on its way. Where a response outlives the handler, call `finish` instead.
    """

    __slots__ = ("_drop", "_errors", "_fields", "_open", "_recorded", "_send", "_started", "id")

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

    def first_token(self) -> None:
        """Note that the first token is here (`ttft_ms`); only the first call counts."""
        self._fields.setdefault("ttft_ms", self._elapsed_ms())

    def error(self, exception: BaseException | None = None, /, **fields: object) -> None:
        """Record an error on the way, such as a backend's that is tried again elsewhere.

        `fields` are columns of `error_logs`; an unknown name goes to `extra_context`. `exception`
        fills in `error_type` (its class) and `error_message`. It, or else the one that is being
        handled right now, then counts as recorded: it does not make a second error when it, or one
        raised from it, leaves the `with` block. After the end the error is sent on its own.
        """
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

    def finish(self, outcome: Outcome | None = None, **fields: object) -> bool:
        """End the request and send it with its errors; False if it was not accepted.

        Sets `duration_ms` unless given, and `outcome` to "success" unless given or set. Only the
        first call counts; every other one returns False.
        """
        elapsed = self._elapsed_ms()
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
            if not self._is_recorded(exception):
                self.error(exception)
            self.finish("error")
        else:
            self.finish("cancelled")

    def _is_recorded(self, exception: BaseException) -> bool:
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

    def _elapsed_ms(self) -> float:
        return round((time.monotonic() - self._started) * 1e3, 3)


def _summary(error: Fields) -> Fields:
    """Return what of an error the request's own `errors` column shows."""
    summary = {name: error[name] for name in _SUMMARY if error.get(name) is not None}
    message = summary.get("error_message")
    if isinstance(message, str) and len(message) > _SUMMARY_CHARS:
        summary["error_message"] = message[:_SUMMARY_CHARS] + "…"
    return summary


def _message(exception: BaseException) -> str:
    try:
        return str(exception)
    except Exception:  # noqa: BLE001 - the proxy's own class; what cannot be said is no reason to fail
        return f"<{type(exception).__qualname__} without a message: its __str__ fails>"
