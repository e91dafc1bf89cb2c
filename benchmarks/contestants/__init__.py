"""The contestants, in the order of the table. A further one is a module and a line here."""

from typing import Final

from benchmarks.contestants.arq_job import ArqJobPerEvent
from benchmarks.contestants.base import Contestant
from benchmarks.contestants.copy import Copy
from benchmarks.contestants.orm import OrmCommitPerEvent
from benchmarks.contestants.replaying import SpoolwayReplay
from benchmarks.contestants.spooling import Append, Writer
from benchmarks.contestants.sqlite import SqliteExecutemany
from benchmarks.contestants.stream import SpoolingWorker, SpoolwayWorker

CONTESTANTS: Final[tuple[Contestant, ...]] = (
    Copy(),
    SpoolwayWorker("spoolway", "Spoolway, stream → committed rows", "postgres"),
    OrmCommitPerEvent(),
    ArqJobPerEvent(),
    SqliteExecutemany(),
    SpoolwayWorker("sqlite-spoolway", "Spoolway on SQLite", "sqlite"),
    Append(),
    Writer(),
    SpoolingWorker(),
    SpoolwayReplay("replay", "Spoolway, spool → committed rows", "worker"),
    SpoolwayReplay("replay-command", "spoolway replay, spool → committed rows", "replay"),
)

__all__ = ["CONTESTANTS", "Contestant"]
