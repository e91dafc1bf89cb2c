"""The contestants, in the order of the table. A further one is a module and a line here."""

from typing import Final

from benchmarks.contestants.arq_job import ArqJobPerEvent
from benchmarks.contestants.base import ALL, Contestant
from benchmarks.contestants.bulk import SqlalchemyBulk
from benchmarks.contestants.copy import SATURATING, Copy
from benchmarks.contestants.orm import OrmCommitPerEvent
from benchmarks.contestants.redis_list import RedisList
from benchmarks.contestants.replaying import SpoolwayReplay
from benchmarks.contestants.spooling import Append, Writer
from benchmarks.contestants.sqlite import LOADS, SqliteExecutemany
from benchmarks.contestants.stream import SpoolingWorker, SpoolwayWorkers

CONTESTANTS: Final[tuple[Contestant, ...]] = (
    Copy("copy", 1),
    Copy("copy-saturating", SATURATING),
    SpoolwayWorkers("spoolway", "Spoolway, stream → committed rows", "postgres", ALL),
    SpoolwayWorkers("spoolway-2", "Spoolway, 2 workers", "postgres", ALL, workers=2),
    OrmCommitPerEvent(),
    SqlalchemyBulk(),
    ArqJobPerEvent(),
    RedisList(),
    SqliteExecutemany(),
    SpoolwayWorkers("sqlite-spoolway", "Spoolway on SQLite", "sqlite", LOADS),
    Append(),
    Writer(),
    SpoolingWorker(),
    SpoolwayReplay("replay", "Spoolway, spool → committed rows", "worker"),
    SpoolwayReplay("replay-command", "spoolway replay, spool → committed rows", "replay"),
)

__all__ = ["CONTESTANTS", "Contestant"]
