"""The contestants, in the order of the table. A further one is a module and a line here."""

from typing import Final

from benchmarks.contestants.arq_job import ArqJobPerEvent
from benchmarks.contestants.base import Contestant
from benchmarks.contestants.copy import Copy
from benchmarks.contestants.orm import OrmCommitPerEvent
from benchmarks.contestants.sqlite import SqliteExecutemany
from benchmarks.contestants.stream import SpoolwayWorker

CONTESTANTS: Final[tuple[Contestant, ...]] = (
    Copy(),
    SpoolwayWorker("spoolway", "Spoolway, stream → committed rows", "postgres"),
    OrmCommitPerEvent(),
    ArqJobPerEvent(),
    SqliteExecutemany(),
    SpoolwayWorker("sqlite-spoolway", "Spoolway on SQLite", "sqlite"),
)

__all__ = ["CONTESTANTS", "Contestant"]
