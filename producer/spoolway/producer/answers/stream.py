"""Splitting a streamed body into its payloads, wherever the network has cut it.

Server-sent events by the rules of the WHATWG (HTML, 9.2.6), as far as an LLM's answer needs them:
lines end in LF, CRLF or CR; `data:` lines of one event are joined by LF; comments and all other
fields are passed over, since providers name the type in the JSON as well. Or JSON lines.
"""

from dataclasses import dataclass
from typing import Final, Literal

_BOM: Final = b"\xef\xbb\xbf"
_DATA: Final = b"data:"
_FIELD_BYTES: Final = len(b"data: ")
"""So much of a line tells whether it is data, and where its value begins."""


@dataclass(frozen=True, slots=True)
class Ends:
    """A payload that was too long to be kept: how it began and how it ended."""

    head: bytes
    tail: bytes
    size: int
    """Bytes it had."""


Payload = bytes | Ends


class StreamReader:
    """Splits one body. Between two calls it holds at most `max_bytes`, plus a few."""

    __slots__ = ("_after_cr", "_begun", "_idle", "_inside", "_is_sse", "_kept", "_max", "_started")

    def __init__(self, form: Literal["sse", "ndjson"], max_bytes: int) -> None:
        """Split server-sent events or JSON lines.

        A payload of more than `max_bytes` comes out as `Ends`: its first and last max_bytes / 2.

        Raises:
            ValueError: `max_bytes` is less than 1.
        """
        if max_bytes < 1:
            raise ValueError(f"max_bytes is {max_bytes}: it must be at least 1")
        self._is_sse = form == "sse"
        self._max = max_bytes
        self._kept = _Kept(max_bytes)
        self._idle = not self._is_sse
        """Nothing is carried over, so that a chunk can be taken for itself. The first chunk of
        server-sent events may begin with a BOM."""
        self._started = False
        self._begun = b""
        """How a line begins of which too little is there to know its field."""
        self._inside: Literal["data", "other"] | None = None
        """The field of the line that was cut."""
        self._after_cr = False
        """The last byte was CR: an LF that comes next is the same line's end."""

    def feed(self, data: bytes) -> list[Payload]:
        """Take the body's next bytes; return the payloads that they complete."""
        # Most chunks are one event and nothing else, or several of them.
        if self._idle and len(data) <= self._max:
            payload = _only_event(data) if self._is_sse else _only_line(data)
            if payload:
                return [payload]
            if self._is_sse and (payloads := _only_events(data)):
                return payloads
        return self._events(data) if self._is_sse else self._lines(data)

    def close(self) -> list[Payload]:
        """Return what the body's last, unterminated event or line holds; it may be cut off."""
        self._inside = None
        self._begun = b""
        payload = self._take_line()
        return [payload] if payload else []

    def _take_line(self) -> Payload:
        payload = self._kept.take()
        return payload.rstrip() if isinstance(payload, bytes) else payload

    def _lines(self, data: bytes) -> list[Payload]:
        payloads: list[Payload] = []
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._kept.add(line)
            if payload := self._take_line():
                payloads.append(payload)
        self._kept.add(rest)
        self._idle = not rest
        return payloads

    def _events(self, data: bytes) -> list[Payload]:
        data = self._begun + data
        self._begun = b""
        if not self._started:
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._begun = data
                return []
            self._started = True
            data = data.removeprefix(_BOM)
        data = self._with_line_feeds(data)

        kept = self._kept
        payloads: list[Payload] = []
        *lines, rest = data.split(b"\n")
        if self._inside is not None and lines:
            if self._inside == "data":
                kept.add(lines[0])
            self._inside = None
            del lines[0]
        only = b""  # the data of an event that has one line, which need not be copied
        for line in lines:
            if line.startswith(_DATA):
                value = _value(line)
                if only:
                    self._keep_line(only)
                    only = b""
                if kept.size or len(value) > self._max:
                    self._keep_line(value)
                else:
                    only = value
            elif not line:
                if only:
                    payloads.append(only)
                    only = b""
                elif kept.size:
                    payloads.append(kept.take())
        if only:
            kept.add(only)
        if rest:
            self._begin(rest)
        self._idle = not (rest or self._inside or kept.size or self._after_cr)
        return payloads

    def _begin(self, rest: bytes) -> None:
        """Take the beginning of a line, or more of one that was begun."""
        if self._inside == "data":
            self._kept.add(rest)
        elif self._inside is None:
            if len(rest) < _FIELD_BYTES:
                self._begun = rest
            elif rest.startswith(_DATA):
                self._inside = "data"
                self._keep_line(_value(rest))
            else:
                self._inside = "other"

    def _keep_line(self, value: bytes) -> None:
        if self._kept.size:
            self._kept.add(b"\n")
        self._kept.add(value)

    def _with_line_feeds(self, data: bytes) -> bytes:
        """Return the bytes with LF for every line's end."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data


def _only_event(data: bytes) -> bytes | None:
    """Return the payload of what is exactly one event of one data line; None if it is not."""
    start = 0
    end = data.find(b"\n")
    if data.startswith(b"event:"):
        start = end + 1
        end = data.find(b"\n", start)
    if (
        end == len(data) - 2
        and data.startswith(b"data: ", start)
        and data.endswith(b"\n")
        and b"\r" not in data
    ):
        return data[start + _FIELD_BYTES : end]
    return None


def _only_events(data: bytes) -> list[Payload]:
    """Return the payloads of what is events of one data line each; none if it is anything else."""
    if not data.startswith(b"data: ") or not data.endswith(b"\n\n") or b"\r" in data:
        return []
    payloads: list[Payload] = [*data[_FIELD_BYTES:-2].split(b"\n\ndata: ")]
    # Two line feeds for each: so there is none inside of one, and no other line between them.
    return payloads if data.count(b"\n") == 2 * len(payloads) and b"" not in payloads else []


def _only_line(data: bytes) -> bytes | None:
    """Return the payload of what is exactly one JSON line; None if it is not."""
    return data.rstrip() if data.find(b"\n") == len(data) - 1 else None


def _value(line: bytes) -> bytes:
    """Return what a data line holds, without the one space that may come first."""
    return line[_FIELD_BYTES if line.startswith(b" ", len(_DATA)) else len(_DATA) :]


class _Kept:
    """A payload as it grows: all of it, or from `max_bytes` on its first and its last half."""

    __slots__ = ("_head", "_head_bytes", "_max", "_tail", "_tail_bytes", "size")

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes
        self._head_bytes = max_bytes // 2
        self._tail_bytes = max_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()
        self.size = 0

    def add(self, piece: bytes) -> None:
        was, self.size = self.size, self.size + len(piece)
        if self.size <= self._max:
            self._head += piece
            return
        if was <= self._max:
            self._tail = self._head[self._head_bytes :]
            del self._head[self._head_bytes :]
        missing = self._head_bytes - len(self._head)
        self._head += piece[:missing]
        self._tail += piece[max(missing, len(piece) - self._tail_bytes) :]
        del self._tail[: -self._tail_bytes]

    def take(self) -> Payload:
        """Return the payload, and begin anew; empty where nothing was added."""
        head = bytes(self._head)
        payload = head if self.size <= self._max else Ends(head, bytes(self._tail), self.size)
        self._head.clear()
        self._tail.clear()
        self.size = 0
        return payload
