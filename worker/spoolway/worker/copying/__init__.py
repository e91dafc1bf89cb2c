"""One database's rows into another one: read, made events again, written by the stores, compared.

What is copied is recognised by its id in the target, and by nothing else: there is no file that
says how far a copy came, and none that could be wrong. It must not know the command line.
"""

from spoolway.worker.copying.copy import Copy
from spoolway.worker.copying.report import Compared, Copied, Side, total
from spoolway.worker.copying.source import Source, opened_source
from spoolway.worker.copying.target import Target, opened_target

__all__ = [
    "Compared",
    "Copied",
    "Copy",
    "Side",
    "Source",
    "Target",
    "opened_source",
    "opened_target",
    "total",
]
