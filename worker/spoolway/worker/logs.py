"""Logging of the worker: lines for a person, or one JSON object per line; never a password.

All that the process says goes this way: libraries, warnings, and what nobody caught. What is in a
message came from a client now and then: it begins no line of its own, and moves no cursor.
"""

import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import orjson

from spoolway.worker.cli.shown import printable
from spoolway.worker.config import Settings
from spoolway.worker.masking import Mask, secrets_of

log = logging.getLogger("spoolway.worker")

_QUIET: Final = {
    # They would say every minute that a cron job ran, or each step of a migration.
    "arq": logging.WARNING,
    "arq.worker": logging.WARNING,
    "arq.connections": logging.WARNING,
    "alembic": logging.WARNING,
    # It would say so of every client that does not speak HTTP.
    "uvicorn.error": logging.ERROR,
}
FOR_ARQ: Final[dict[str, Any]] = {"version": 1, "incremental": True}
"""For `arq --custom-log-dict spoolway.worker.logs.FOR_ARQ`: it changes nothing, where arq's own would
print two lines of its own before the worker is started."""


class TextLines(logging.Formatter):
    """A line for a person. Only a traceback has more, and they are indented."""

    def __init__(self, mask: Mask) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        self._mask = mask

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """Return the record's first line."""
        record.message = printable(self._mask(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's name
        """Return a traceback."""
        lines = self._mask(super().formatException(ei)).split("\n")
        return "\n".join(f"  {printable(line)}" for line in lines)


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the exception if there is one."""

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": self._text(record.getMessage()),
        }
        if record.exc_info:
            fields["exception"] = self._text(self.formatException(record.exc_info))
        return orjson.dumps(fields).decode()

    def _text(self, text: str) -> str:
        # orjson refuses lone surrogates, and a record is never to be lost for what is in it.
        return self._mask(text).encode(errors="backslashreplace").decode()


def configure_logging(settings: Settings) -> None:
    """Send all that this process says to stderr, as the settings say."""
    mask = Mask(secrets_of(settings))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(mask) if settings.log_format == "json" else TextLines(mask))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers.clear()  # arq's command has set up its own
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def complain(line: str) -> None:
    """Say on stderr why a command ends: as a line, or as a record where the log is JSON."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        log.critical("%s", line)
    else:
        print(f"spoolway: {printable(line)}", file=sys.stderr)  # noqa: T201 - for whoever started it


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
    else:
        log.critical("the process ends", exc_info=(kind, error, traceback))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None:  # it is None where the interpreter is almost gone
        name = caught.thread.name if caught.thread else "?"
        log.error("thread %s ended", name, exc_info=caught.exc_value)


def _unraisable(caught: "sys.UnraisableHookArgs") -> None:
    log.warning("%s: %r", caught.err_msg or "ignored in", caught.object, exc_info=caught.exc_value)
