"""The producer: what a proxy calls. It never waits, never raises into a request, never grows."""

import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from spoolway.producer.background import Background, renew_in_forked_children
from spoolway.producer.buffer import Bounds, Buffer
from spoolway.producer.enabled import is_enabled
from spoolway.producer.pusher import Pusher
from spoolway.producer.rarely import Rarely
from spoolway.producer.record import Record
from spoolway.producer.redaction import Redaction, said
from spoolway.producer.stats import ProducerStats
from spoolway.producer.stream import Stream, default_streams, default_url
from spoolway.schema import (
    DEFAULT_STREAM,
    BadEvent,
    BadInput,
    Caps,
    Codec,
    FrameEncoder,
)
from spoolway.schema.caps import MIB
from spoolway.schema.frame import MAX_FRAME_BYTES, MAX_FRAME_EVENTS

if TYPE_CHECKING:
    from spoolway.producer.spooling import Spooling

_log: Final = logging.getLogger("spoolway.producer")


class Producer:
    """Takes events from any thread and coroutine, and pushes them to a Redis stream.

    Everything slow happens on one background thread, started with the first event. While Redis is
    away, events go to a folder on this machine, and to the stream when it is back. Without a
    folder they wait in a bounded buffer; when that is full, new ones are dropped and counted.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        stream: str | None = None,
        streams: int | None = None,
        codec: Codec = "zstd",
        frame_events: int = 100,
        frame_bytes: int = MIB,
        linger: float = 0.05,
        max_buffer_bytes: int = 64 * MIB,
        max_buffer_events: int = 100_000,
        caps: Caps | None = None,
        redaction: Redaction | None = None,
        folder: str | os.PathLike[str] | None = None,
        max_spool_bytes: int = 1024 * MIB,
    ) -> None:
        """Check the settings; nothing is connected or started yet.

        `redis_url`: redis://, rediss:// or unix://, of a Sentinel redis+sentinel://, of a Cluster
        redis+cluster://; by default REDIS_URL, else Redis on this machine. `stream`: by default
        SPOOLWAY_STREAM, else "spoolway:events". `streams`: how many of them take turns; by default
        SPOOLWAY_STREAMS, else 1. A frame is closed by the number of its events, by the bytes of its
        JSON lines, or `linger` seconds after its first event. `folder` is that of this machine's state: segments go to <folder>/spool, damaged
        lines to <folder>/dead; by default SPOOLWAY_DIR, else nothing is spooled. Any number of
        producers and workers may share it. With SPOOLWAY_ENABLED=false nothing is recorded: no
        thread, no connection, no file.

        Raises:
            ValueError: a setting that cannot work; the message says which, and what would.
        """
        url = redis_url or default_url()
        name = stream or os.environ.get("SPOOLWAY_STREAM") or DEFAULT_STREAM
        number = default_streams() if streams is None else streams
        self.caps: Final = caps or Caps()
        """How much of one event is kept."""
        self._redaction = redaction or Redaction()
        self._bounds = Bounds(
            max_buffer_bytes, max_buffer_events, frame_bytes, frame_events, linger
        )
        if not 1 <= frame_events <= MAX_FRAME_EVENTS:
            raise ValueError(f"frame_events is 1 to {MAX_FRAME_EVENTS}, got {frame_events}")
        if not 1 <= frame_bytes <= MAX_FRAME_BYTES:
            raise ValueError(f"frame_bytes is 1 to {MAX_FRAME_BYTES}, got {frame_bytes}")
        if not 0 <= linger <= 60:
            raise ValueError(f"linger is 0 to 60 seconds, got {linger}")
        if max_buffer_bytes < 1 or max_buffer_events < 1:
            raise ValueError(
                "max_buffer_bytes and max_buffer_events are 1 or more, got "
                f"{max_buffer_bytes} and {max_buffer_events}"
            )
        FrameEncoder(codec)  # raises for a codec that does not exist
        Stream(url, name, number)  # raises for a URL that cannot work
        self._new_pusher = partial(
            _new_pusher,
            url=url,
            stream=name,
            streams=number,
            codec=codec,
            frame_events=frame_events,
            frame_bytes=frame_bytes,
            new_spooling=_spooling_in(folder, max_spool_bytes),
        )
        self._enabled = is_enabled()
        if not self._enabled:
            _log.info("SPOOLWAY_ENABLED is false: nothing is recorded")
        self._begin()
        renew_in_forked_children(self)

    def _begin(self) -> None:
        self._background = Background(self._bounds, self._new_pusher)
        self._say_dropped = Rarely(_log.warning)
        self._say_rejected = Rarely(_log.warning)
        self._say_reduced = Rarely(_log.warning)
        # A producer that nobody refers to any more is closed: its thread sends what is left.
        self._let_go = weakref.finalize(self, self._background.buffer.close)
        self._let_go.atexit = False  # at exit, `close_all` does it, and waits

    def start_over(self) -> None:
        """Forget the parent's events, thread and connection. Called in a forked child."""
        closed = self._background.buffer.closed
        self._let_go.detach()
        self._begin()
        if closed:
            self._background.buffer.close()

    def emit(self, event: Mapping[str, Any]) -> bool:
        """Take one event; return whether it is on its way.

        `event` holds columns of `request_logs` or `error_logs` and `"type"`, "request" or "error".
        `"id"`, a UUIDv7, is minted if it is missing. The mapping may be changed afterwards. Secrets
        are replaced before anything is buffered; a hook of the redaction may withhold the event.
        """
        if not self._enabled:
            return False
        try:
            line = self._line(event)
            return line is not None and self._put(line, 1)
        except Exception as error:  # noqa: BLE001 - nothing that goes wrong in here is the request's
            return self._reject(error)

    def record(self, **fields: Any) -> Record:
        """Start to record a request, now. `fields` are the columns known so far."""
        return Record(fields, self._send, self._drop)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until Redis, or the disk, has everything accepted so far; False after `timeout` s.

        Blocks: from a coroutine call `asyncio.to_thread(producer.flush)`.
        """
        return self._background.flush(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Take no more events, send what is left, end the thread. May be called again.

        What Redis does not confirm within `timeout` seconds goes to the spool. True if everything
        accepted is in Redis or synced on disk; else the rest counts as dropped. Blocks, as `flush`.
        """
        return self._background.close(timeout)

    @property
    def stats(self) -> ProducerStats:
        """Counts of this moment, of this process."""
        background = self._background
        counts, pusher = background.buffer.counts(), background.pusher
        return ProducerStats(
            accepted=counts.accepted,
            pushed=counts.pushed,
            spooled=counts.spooled,
            unspooled=background.spooling.returning.events if background.spooling else 0,
            dropped=counts.dropped,
            abandoned=counts.abandoned,
            rejected=counts.rejected,
            withheld=counts.withheld,
            reduced=counts.reduced,
            buffered_events=counts.events,
            buffered_bytes=counts.bytes,
            frames=pusher.frames if pusher else 0,
            push_failures=pusher.failures if pusher else 0,
            last_error=pusher.last_error if pusher else None,
        )

    def __enter__(self) -> Self:
        """Return the producer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _send(self, events: Sequence[Mapping[str, Any]]) -> bool:
        """Take events that stay together; return whether all of them are on their way."""
        if not self._enabled:
            return False
        lines: list[bytes] = []
        size = 0
        try:
            for event in events:
                try:
                    line = self._line(event)
                except Exception as error:  # noqa: BLE001 - as in emit; the others go on
                    self._reject(error)
                    continue
                if line is None:
                    continue
                size += len(line) + 1
                if size > MAX_FRAME_BYTES:  # no worker would take the frame
                    self._drop(1)
                else:
                    lines.append(line)
            taken = bool(lines) and self._put(b"\n".join(lines), len(lines))
        except Exception as error:  # noqa: BLE001 - as in emit
            return self._reject(error)
        return taken and len(lines) == len(events)

    def _line(self, event: Mapping[str, Any]) -> bytes | None:
        """Encode one event as it is now, without the secrets in it; None: it is withheld."""
        if type(event) is not dict and not isinstance(event, Mapping):
            raise BadEvent(f"an event is a mapping of columns, got {type(event).__name__}")
        line = self._redaction.encoded(event, self.caps, self._note_reduced)
        if line is None:
            self._background.buffer.count_withheld()
        return line

    def _note_reduced(self, error: Exception) -> None:
        self._background.buffer.count_reduced()
        # Not its message: that may hold what is in the event.
        self._say_reduced(
            "of an event only its metadata is recorded: what takes the secrets out failed (%s)",
            type(error).__name__,
        )

    def _put(self, lines: bytes, events: int) -> bool:
        background = self._background
        if not background.buffer.put(lines, events):
            self._note_dropped(events)
            return False
        if not background.started:
            background.start()
        return True

    def _drop(self, events: int) -> None:
        self._background.buffer.count_dropped(events)
        self._note_dropped(events)

    def _note_dropped(self, events: int) -> None:
        background = self._background
        if background.buffer.closed:
            self._say_dropped("%d events dropped: the producer is closed", events)
            return
        reason = background.pusher.why_it_waits if background.pusher else None
        self._say_dropped(
            "%d events dropped: the buffer is full (at most %d events, %d bytes): %s",
            events,
            self._bounds.max_events,
            self._bounds.max_bytes,
            reason or "events come faster than Redis takes them",
        )

    def _reject(self, error: Exception) -> Literal[False]:
        self._background.buffer.count_rejected()
        # Only what Spoolway says itself: another exception's message may hold what is in the event.
        reason = str(error) if isinstance(error, BadInput) else type(error).__name__
        self._say_rejected("an event was rejected: %s", said(reason, self._redaction))
        return False


def _new_pusher(
    buffer: Buffer,
    *,
    url: str,
    stream: str,
    streams: int,
    codec: Codec,
    frame_events: int,
    frame_bytes: int,
    new_spooling: "Callable[[], Spooling] | None",
) -> Pusher:
    """Make what the thread runs. A function, no method: a thread must not keep its producer."""
    return Pusher(
        buffer,
        Stream(url, stream, streams),
        FrameEncoder(codec),
        frame_events=frame_events,
        frame_bytes=frame_bytes,
        spooling=new_spooling() if new_spooling else None,
    )


def _spooling_in(
    folder: str | os.PathLike[str] | None, max_bytes: int
) -> "Callable[[], Spooling] | None":
    """Return what makes each process's way to the disk; None without a folder. Touches no disk."""
    if max_bytes < 1:
        raise ValueError(f"max_spool_bytes is 1 or more, got {max_bytes}")
    folder = folder or os.environ.get("SPOOLWAY_DIR")
    if not folder:
        return None
    if "\0" in os.fspath(folder):
        raise ValueError("folder is no path: it has a NUL character in it")
    # Not at the top: it needs locks on files, which not every system has that a producer runs on.
    from spoolway.producer.spooling import Spooling

    # Absolute: a server that daemonizes changes its working directory.
    return partial(Spooling, Path(folder).absolute(), max_bytes)
