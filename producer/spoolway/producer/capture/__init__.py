"""What passes through a proxy, turned into the columns of a record; whatever server carries it.

Nothing here does I/O, holds more than its caps, or raises into a request.
"""

from spoolway.producer.capture.exchange import Exchange
from spoolway.producer.capture.paths import Paths

__all__ = ["Exchange", "Paths"]
