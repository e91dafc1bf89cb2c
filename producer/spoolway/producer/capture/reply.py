"""What the client is answered: the other side of an exchange, whole or as a stream, as columns."""

from collections.abc import Iterable, Sequence
from typing import Final

from spoolway.producer.answers import Answer, Payload, StreamReader, problem_of
from spoolway.producer.capture.body import Body
from spoolway.producer.capture.content import content_of, form_of
from spoolway.producer.capture.message import Message
from spoolway.producer.capture.pieces import Pieces
from spoolway.producer.record import Record
from spoolway.schema import Caps
from spoolway.schema.caps import KIB
from spoolway.schema.jsonable import Parsed

Problem = dict[str, object]

BROKEN_OFF: Final[Problem] = {
    "error_type": "unfinished_stream",
    "error_message": "the stream ended without saying so: no [DONE], stop reason or the like",
}
_HOLD_BYTES: Final = 16 * KIB
"""Of a stream, held before they are read: forty chunks at once cost a third of forty times one."""


class Reply:
    """Takes an answer part by part."""

    __slots__ = (
        "_answer",
        "_body",
        "_held",
        "_held_bytes",
        "_hold_bytes",
        "_message",
        "_pieces",
        "_reader",
        "_record",
        "_stream_bytes",
        "_ttft_ms",
        "cut",
        "status",
    )

    def __init__(self, caps: Caps, record: Record) -> None:
        """`record` is the request's, and knows when it began."""
        self._record = record
        self._stream_bytes = caps.of("stream_chunks")
        self._message = Message()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._hold_bytes = min(_HOLD_BYTES, self._stream_bytes)
        self._body = Body(caps.of("response"))
        self._pieces = Pieces(self._stream_bytes)
        self._reader: StreamReader | None = None
        self._answer = Answer()
        self._ttft_ms: float | None = None
        self.status: int | None = None
        self.cut: list[str] = []
        """The column that does not hold all of it."""

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See status and headers."""
        self.status = status
        self._message.begin(headers)
        form = form_of(self._message.content_type)
        if form != "whole":
            self._reader = StreamReader(form, self._stream_bytes)

    def feed(self, data: bytes) -> None:
        """See a part, as it was sent."""
        if self._reader and self._ttft_ms is not None:
            # The first token was timed; what comes now can wait until there is more of it.
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes >= self._hold_bytes:
                self._read_held()
        else:
            self._read(data)

    def _read_held(self) -> None:
        held, self._held, self._held_bytes = b"".join(self._held), [], 0
        self._read(held)

    def _read(self, data: bytes) -> None:
        data = self._message.decoded(data)
        if not data:
            return
        if self._reader:
            self._pieces.feed(data)
            self._take(self._reader.feed(data))
        else:
            if self._ttft_ms is None:
                self._ttft_ms = self._record.elapsed_ms
            self._body.feed(data)

    def _take(self, payloads: Sequence[Payload]) -> None:
        answer = self._answer
        for payload in payloads:
            answer.read_piece(payload)
        self._pieces.keep([payload for payload in payloads if payload != b"[DONE]"])
        if self._ttft_ms is None and answer.has_token:
            self._ttft_ms = self._record.elapsed_ms

    @property
    def is_stream(self) -> bool:
        """Whether it came as a stream of JSON values."""
        return self._reader is not None

    @property
    def has_ended(self) -> bool:
        """Whether a stream has said that nothing follows, whatever the connection does."""
        return self._reader is not None and self._answer.ended

    def columns(self) -> dict[str, object]:
        """Return what is known of the answer, at its end."""
        columns: dict[str, object] = {"response_unread": self._message.unread}
        if self._reader:
            self._read_held()
            self._take(self._reader.close())
            columns["stream_chunks"] = self._pieces.content()
            is_cut, column = self._pieces.is_cut, "stream_chunks"
        else:
            body, column = self._body, "response"
            content, is_cut = None, False
            if body.is_over:
                self._answer.read_ends(body.head, body.tail)
            elif body.size:
                content = self._answer.read(body.whole())
            if content is None:
                content, is_cut = content_of(body, self._message.content_type)
            else:
                content = Parsed(content)
            columns["response"] = content
        self.cut = [column] if is_cut else []
        said = self._answer.columns()
        if self._answer.has_token or "stop_reason" in said:
            columns["ttft_ms"] = self._ttft_ms  # of a whole answer, all tokens come at once
        return columns | said

    @property
    def is_refusal(self) -> bool:
        """Whether the status is that of an error."""
        return self.status is not None and self.status >= 400

    def problem(self) -> Problem | None:
        """Return the error that the answer is, or that its end is."""
        if self.is_refusal:
            said = self._answer.problem or problem_of(self._body.head or self._body.whole())
            return {
                "error_type": said.get("error_type") or f"http_{self.status}",
                "error_message": said.get("error_message") or f"answered {self.status}",
            }
        return self._answer.problem or (BROKEN_OFF if self._is_broken_off() else None)

    def _is_broken_off(self) -> bool:
        """Tell whether a stream of tokens has neither an end of its own nor a stop reason."""
        answer = self._answer
        return (
            self._reader is not None
            and answer.has_token
            and not answer.ended
            and "stop_reason" not in answer.columns()
        )
