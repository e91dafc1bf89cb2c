"""What the client asks: its side of an exchange, as columns."""

from collections.abc import Iterable

from spoolway.producer.answers import asked_of
from spoolway.producer.capture.body import Body
from spoolway.producer.capture.content import content_of
from spoolway.producer.capture.message import Message
from spoolway.schema import Caps
from spoolway.schema.jsonable import Parsed


class Question:
    """Takes a request part by part."""

    __slots__ = ("_body", "_message", "_path", "is_cut")

    def __init__(self, caps: Caps, path: str) -> None:
        self._path = path
        self._body = Body(caps.of("body"))
        self._message = Message()
        self.is_cut = False
        """Whether the body is not all in its column."""

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """See the headers."""
        self._message.begin(headers)

    def feed(self, data: bytes) -> None:
        """See a part of the body."""
        self._body.feed(self._message.decoded(data))

    def columns(self) -> dict[str, object]:
        """Return what is known of the request, at its end."""
        body, kind = self._body, self._message.content_type
        if body.is_over:
            asked = asked_of(body.head, kind, self._path, body.tail)
        else:
            asked = asked_of(body.whole(), kind, self._path)
        content: object
        if isinstance(asked.content, (dict, list)) and not body.is_over:
            content = Parsed(asked.content)  # of a form: its fields; of files, names and sizes
        else:
            content, self.is_cut = content_of(body, kind)
        return {
            "request_id": self._message.request_id,
            "model_name": asked.model_name,
            "is_stream": asked.is_stream,
            "user_id": asked.user,
            "body": content,
            "body_unread": self._message.unread,
        }
