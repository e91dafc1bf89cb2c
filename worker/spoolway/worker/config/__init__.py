"""Configuration: CLI flag > environment > `.env` > YAML > default. Zero configuration works."""

from spoolway.worker.config.addresses import database_url, shown_url
from spoolway.worker.config.errors import UsageError
from spoolway.worker.config.load import COMMAND_LINE, Configuration, load, read_configuration
from spoolway.worker.config.settings import Settings

__all__ = [
    "COMMAND_LINE",
    "Configuration",
    "Settings",
    "UsageError",
    "database_url",
    "load",
    "read_configuration",
    "shown_url",
]
