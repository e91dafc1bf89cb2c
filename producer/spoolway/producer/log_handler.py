"""Errors that a proxy logs, as error events: a handler for the standard library's `logging`.

    logging.getLogger("my.proxy").addHandler(ErrorHandler(producer))

It reads a log record and hands an event to a `Producer`; it does no I/O of its own. It must not
raise into the code that logs, wait for anything, or feed on what it causes itself.
"""

import logging
import os
import re
import threading
import traceback
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from spoolway.producer.background import THREAD_NAME
from spoolway.producer.producer import Producer
from spoolway.producer.rarely import Rarely
from spoolway.schema.caps import KIB, capped_json
from spoolway.schema.jsonable import encode_any, free_name

COLUMNS: Final[tuple[str, ...]] = (
    "model_name",
    "backend_name",
    "http_status",
    "request_path",
    "request_id",
)
"""Names in a call's `extra=` that are columns of `error_logs`; the others go to `extra_context`."""
TRACEBACK_BYTES: Final = 16 * KIB
"""Most bytes of a traceback that are kept: its end, where the error is."""
FIELD_BYTES: Final = 16 * KIB
"""Most bytes of JSON of one other `extra=` field; a larger one must not crowd out the rest."""

_UNTAKEN: Final = ("spoolway", "redis")
"""Loggers that tell of a Redis that is away: as events they would wait for it, and be told of."""
_OF_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_TRACEBACK: Final = re.compile(
    r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE
)
_LAST_LINE: Final = re.compile(r"^(?:  \| )?(?:[\w<>]+\.)*(\w+)(?:: (.*))?$", re.MULTILINE)
"""What Python writes first and last of an exception; what is between is indented further."""

_log: Final = logging.getLogger("spoolway.producer")


class ErrorHandler(logging.Handler):
    """Records log records of level ERROR and above as `error` events.

    `error_type` is the exception's class, else the logger's name. A call's `extra=` fills the
    columns in `COLUMNS` (`extra={"request_id": record.id}` links the error to its request); a
    filter on this handler may set them, too. Not taken: records of the loggers "spoolway…" and
    "redis…", those made on the producer's thread, and those made while another one is read.
    """

    def __init__(
        self,
        producer: Producer | None = None,
        *,
        redis_url: str | None = None,
        stream: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        level: int | str = logging.ERROR,
    ) -> None:
        """Hand events to `producer`, or to one of its own with these settings.

        They are those of `Producer`, and come from the environment where they are not given. Only
        a producer of its own is closed by `close()`.

        Raises:
            ValueError: a setting that cannot work, or a producer and settings for another one.
        """
        super().__init__(level)
        if producer is not None and (redis_url or stream or folder):
            raise ValueError(
                "give ErrorHandler a producer, or redis_url, stream and folder for one of its own; "
                "got both"
            )
        self._is_owner = producer is None
        self._producer = producer or Producer(redis_url, stream=stream, folder=folder)
        self._reading = threading.local()
        self._say_rarely = Rarely(_log.warning)

    def handle(self, record: logging.LogRecord) -> bool:
        """Record it if it passes level and filters.

        Without the handler's lock, which would be held while a proxy's own `__str__` runs: that
        may wait for a lock whose holder logs. And with the level, which a QueueListener or a
        MemoryHandler does not look at.
        """
        try:
            if record.levelno < self.level:
                return False
            passed: Any = self.filter(record)  # since Python 3.12 maybe another record
        except Exception as error:  # noqa: BLE001 - a filter of the proxy's, or a record made by hand
            self._say_lost(error)
            return False
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it to the producer. Never raises, and never prints what is in it."""
        if getattr(self._reading, "on", False):
            return
        self._reading.on = True
        try:
            if not _is_of_ours(record):
                self._producer.emit(_event(record))
        except Exception as error:  # noqa: BLE001 - a record that cannot be read is no reason to fail
            self._say_lost(error)
        finally:
            self._reading.on = False

    def close(self) -> None:
        """Close a producer of its own, as `Producer.close` does; leave any other as it is."""
        if self._is_owner:
            self._producer.close()
        super().close()

    def _say_lost(self, error: Exception) -> None:
        self._say_rarely("an error that was logged is lost: %s", type(error).__name__)


def _is_of_ours(record: logging.LogRecord) -> bool:
    """Tell whether the producer itself may be what it is about: it must not feed itself."""
    return record.name.partition(".")[0] in _UNTAKEN or record.threadName == THREAD_NAME


def _event(record: logging.LogRecord) -> dict[str, Any]:
    """Return the error event of a record."""
    message, kind, trace = _told(record)
    extra = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD}
    columns = {name: extra.pop(name) for name in COLUMNS if name in extra}
    context = {
        "logger": record.name,
        "level": record.levelname,
        "module": record.module,
        "function": record.funcName,
        "line": record.lineno,
        "thread": record.threadName,
        "task": getattr(record, "taskName", None),  # since Python 3.12
        "traceback": _end(trace),
        "stack": _end(record.stack_info),
    }
    context = {name: value for name, value in context.items() if value is not None}
    for name, value in extra.items():
        context[free_name(name, context)] = _bounded(value)
    return {
        "type": "error",
        "timestamp": datetime.fromtimestamp(record.created, UTC),
        "error_type": kind or record.name,
        "error_message": message,
        **columns,
        "extra_context": context,
    }


def _told(record: logging.LogRecord) -> tuple[str, str | None, str | None]:
    """Return message, class of the exception and traceback, in whichever form a record has them."""
    message = _message(record)
    exception = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    if exception is not None:
        told = traceback.TracebackException.from_exception(exception)
        text = record.exc_text or "".join(told.format())
        return _joined(message, str(told)), type(exception).__name__, text.rstrip("\n")
    # A record that came through a queue or a socket: as text, or (QueueHandler) in its message.
    text = record.exc_text or ""
    if not text and (begin := _TRACEBACK.search(message)):
        message, text = message[: begin.start()].rstrip("\n"), message[begin.start() :]
    kind = reason = None
    for begin in _TRACEBACK.finditer(text):  # of those that led to one another the last is it
        if last := _LAST_LINE.search(text, begin.end()):
            kind, reason = last.groups()
    return _joined(message, reason or ""), kind, text


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit the message, or a proxy's own __str__
        # Better half of it than nothing; the arguments are where they may be found.
        return record.msg if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"


def _joined(message: str, reason: str) -> str:
    """Return what was logged and what the exception says, unless it is the same."""
    return message if reason in message else f"{message}: {reason}" if message else reason


def _end(text: str | None) -> str | None:
    """Return the end of a text, of at most TRACEBACK_BYTES and a note."""
    if not text:
        return None
    encoded = text.encode(errors="replace")
    if len(encoded) <= TRACEBACK_BYTES:
        return text
    kept = encoded[-TRACEBACK_BYTES:].decode(errors="ignore")
    return f"… [{len(encoded) - TRACEBACK_BYTES} bytes before this]\n{kept}"


def _bounded(value: object) -> object:
    json = encode_any(value).json
    return value if len(json) <= FIELD_BYTES else orjson.loads(capped_json(json))
