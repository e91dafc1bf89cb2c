"""Looking at what is stored: read only, narrowed to what a token may see, never without an end."""

from spoolway.worker.reading.database import ReadDatabase
from spoolway.worker.reading.failures import BadQuery, TooSlow, Unavailable
from spoolway.worker.reading.filters import EVERYTHING, Filters, Scope
from spoolway.worker.reading.period import Period

__all__ = [
    "EVERYTHING",
    "BadQuery",
    "Filters",
    "Period",
    "ReadDatabase",
    "Scope",
    "TooSlow",
    "Unavailable",
]
