"""One request and its answer, read while their bytes pass by, whatever server carries them."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Concatenate, Final, ParamSpec, TypeVar

from spoolway.producer.capture.question import Question
from spoolway.producer.capture.reply import Reply
from spoolway.producer.rarely import Rarely
from spoolway.producer.record import Outcome, Record
from spoolway.schema import Caps

UNFINISHED: Final = {
    "error_type": "unfinished_response",
    "error_message": "the proxy ended the request without ending its response",
}
_say_failed: Final = Rarely(logging.getLogger("spoolway.producer").warning)
_P = ParamSpec("_P")
_Self = TypeVar("_Self")


def _harmless(
    method: "Callable[Concatenate[_Self, _P], None]",
) -> "Callable[Concatenate[_Self, _P], None]":
    """Keep what goes wrong in here out of the request that passes by."""

    def call(self: _Self, /, *arguments: _P.args, **named: _P.kwargs) -> None:
        try:
            method(self, *arguments, **named)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong in here is the request's
            # Not its message, which may hold what is in the body.
            _say_failed("a request could not be read in full: %s", type(error).__name__)

    return call


class Exchange:
    """Fills a record from the bytes of a request and of its answer. Nothing in it raises or waits.

    Called by the server's adapter, in this order: `asking`, `asked` for each part of the body,
    `answering`, `answered` for each part of the answer, `finish` at the end of each.
    """

    __slots__ = ("_errors_before", "_is_finished", "_question", "_reply", "record")

    def __init__(self, record: Record, caps: Caps, path: str) -> None:
        self.record: Final = record
        self._question = Question(caps, path)
        self._reply = Reply(caps, record)
        self._errors_before = 0
        self._is_finished = False

    @_harmless
    def asking(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See the request's headers."""
        self._question.begin(headers)

    @_harmless
    def asked(self, data: bytes) -> None:
        """See a part of the request's body."""
        self._question.feed(data)

    @_harmless
    def answering(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See the answer's status and headers."""
        self._errors_before = self.record.error_count
        self._reply.begin(status, headers)

    @_harmless
    def answered(self, data: bytes) -> None:
        """See a part of the answer, as it was sent."""
        self._reply.feed(data)

    def finish(
        self,
        *,
        is_whole: bool,
        hung_up: bool = False,
        exception: BaseException | None = None,
        known: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """End the record, with what was seen. After that, only an exception is still recorded.

        `is_whole`: the answer was sent to its end. `hung_up`: the client was gone before that.
        `known` returns the columns that the proxy's owner knows.
        """
        record = self.record
        if self._is_finished:
            # As of a background task: it failed after the answer.
            if isinstance(exception, Exception) and not record.has_recorded(exception):
                record.error(exception)
            return
        self._is_finished = True
        record.fill(duration_ms=record.elapsed_ms)
        self._fill(known)
        self._fill(self._of_question)
        self._fill(self._reply.columns)
        if cut := ["body"] * self._question.is_cut + self._reply.cut:
            record.fill(truncated=cut)
        self._judge(is_whole=is_whole, hung_up=hung_up, exception=exception)
        record.finish()

    @_harmless
    def _fill(self, columns: Callable[[], Mapping[str, object]]) -> None:
        self.record.fill(**columns())

    def _of_question(self) -> dict[str, object]:
        columns = self._question.columns()
        columns["is_stream"] = columns["is_stream"] or self._reply.is_stream
        return columns

    @_harmless
    def _judge(self, *, is_whole: bool, hung_up: bool, exception: BaseException | None) -> None:
        """Decide on the outcome, and record the error if nobody has."""
        record, reply = self.record, self._reply
        if hung_up and reply.has_ended:  # some clients hang up on [DONE]
            is_whole, hung_up, exception = True, False, None
        status = reply.status
        if status is None and isinstance(exception, Exception) and not hung_up:
            status = 500  # what the server answers for the proxy
        problem = reply.problem()
        outcome = _outcome(exception, is_fine=is_whole and problem is None, is_gone=hung_up)
        record.fill(http_status=status, outcome=outcome)
        if outcome != "error":
            return
        # What fails after the status was sent has none.
        status = status if status is not None and status >= 400 else None
        if exception is not None:
            if not record.has_recorded(exception):
                record.error(exception, http_status=status)
        # What the proxy says of the attempts it has recorded is no other error.
        elif record.error_count == (0 if reply.is_refusal else self._errors_before):
            record.error(**(problem or UNFINISHED), http_status=status)


def _outcome(exception: BaseException | None, *, is_fine: bool, is_gone: bool) -> Outcome:
    """Decide: a client that is gone, or a task that was stopped, is no error of the proxy's."""
    if is_gone or (exception is not None and not isinstance(exception, Exception)):
        return "cancelled"
    return "success" if is_fine and exception is None else "error"
