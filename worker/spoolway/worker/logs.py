"""Logging of the worker: lines for a person, or one JSON object per line."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from spoolway.worker.config import Settings

_QUIET: Final = ("arq.worker", "arq.connections", "alembic")
"""Loggers that would say every minute that a cron job ran, or each step of a migration."""


class JsonLines(logging.Formatter):
    """One JSON object per record: time, level, logger, message, and the exception if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, default=str).decode()


def configure_logging(settings: Settings) -> None:
    """Send the process's logs to stderr as the settings say."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in _QUIET:
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.handlers.clear()  # arq's command has set up its own
