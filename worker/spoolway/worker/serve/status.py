"""How the fleet is: streams, spool, dead letters, workers, and whether the database answers."""

import asyncio
import logging
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from sqlalchemy import literal, select

from spoolway.worker.backlog import Backlog, in_all
from spoolway.worker.config import Settings
from spoolway.worker.fleet import Fleet, Folder, Look
from spoolway.worker.http.sample import Sample
from spoolway.worker.reading.database import ReadDatabase

log = logging.getLogger("spoolway.serve")

VERSION: Final = version("spoolway")
_EVERY: Final = 1.0
"""Seconds for which an answer is good, however many look."""
_DATABASE_EVERY: Final = 5.0
_PATIENCE: Final = 1.0
_WORKER: Final = (
    *("consumer", "activity", "state", "breaker", "age", "last_commit", "last_settled"),
    *("read", "inserted", "duplicate", "dead", "spooled", "given_back", "in_flight"),
    *("replayed", "replay_inserted", "replay_duplicate", "replay_dead", "holds"),
    *("lost_entries", "entries_claimed", "write_failures", "redis_failures"),
)
"""What is told of a worker: not its process, its host or its own port."""


class Status:
    """One who looks for all who ask. Needs a running event loop."""

    def __init__(self, settings: Settings, database: ReadDatabase) -> None:
        self._folder = settings.dir
        self._fleet = Fleet(settings, [settings.dir], every=_EVERY)
        self._asked = database
        self._database = Sample("database", self._ask_database, every=_DATABASE_EVERY)
        self._trouble: str | None = None

    async def all(self) -> dict[str, Any]:
        """Return everything. What cannot be had is null."""
        look, _ = await asyncio.gather(self.look(), self._database.look(_PATIENCE))
        [folder] = look.folders
        return {
            "version": VERSION,
            "database": "available" if self._database.value else "unavailable",
            "queue": queue_of(look.streams),
            **_of_folder(folder, self._folder),
        }

    async def look(self) -> Look:
        """Return the fleet as it is now."""
        look = await self._fleet.look(_PATIENCE)
        if look.trouble != self._trouble:
            # Once for each outage: who asks gets no host and no port, the log has them.
            self._trouble = look.trouble
            if look.trouble is not None:
                log.warning("the queue cannot be shown: %s", look.trouble)
        return look

    async def warn_of_database(self) -> None:
        """Say in the log if the database does not answer."""
        await self._database.look(_PATIENCE)
        error = self._database.error
        if self._database.value is None:
            reason = getattr(error, "reason", None) or error or "it does not answer"
            log.warning("the database cannot be read, until it can be: %s", reason)

    async def close(self) -> None:
        """Ask no more."""
        await asyncio.gather(self._fleet.close(), self._database.close())

    async def _ask_database(self) -> bool:
        await self._asked.fetch(select(literal(1)))
        return True


def queue_of(streams: dict[str, Backlog] | None) -> dict[str, Any] | None:
    """Return the backlog of all streams and of each, None while Redis cannot be asked."""
    if streams is None:
        return None
    return {
        **_of_backlog(in_all(streams.values())),
        "streams": {name: _of_backlog(one) for name, one in streams.items()},
    }


def _of_backlog(backlog: Backlog) -> dict[str, Any]:
    return {
        "entries": backlog.length,
        "waiting": backlog.undelivered,
        "pending": backlog.pending,
        "lag_seconds": round(backlog.lag_seconds, 3),
        "pending_seconds": round(backlog.pending_seconds, 3),
        "added": backlog.added,
        "settled": backlog.settled,
    }


def _of_folder(folder: Folder, path: Path) -> dict[str, Any]:
    """Return what this machine's state folder holds: nulls where there is none."""
    workers = [{name: worker.get(name) for name in _WORKER} for worker in folder.workers]
    if not path.is_dir():
        return {"spool": None, "dead": None, "workers": workers}
    dead = folder.dead
    return {
        "spool": None if folder.spool is None else asdict(folder.spool),
        "dead": None if dead is None else {"total": sum(dead.values()), "reasons": dead},
        "workers": workers,
    }
