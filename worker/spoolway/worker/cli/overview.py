"""One sample of everything that `spoolway top` shows: the fleet, how fast it goes, the last minute."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from spoolway.worker.backlog import in_all
from spoolway.worker.cli.asking import why
from spoolway.worker.cli.rates import Rates, Speeds, worker_key
from spoolway.worker.cli.wrong import what_is_wrong
from spoolway.worker.config import Settings
from spoolway.worker.fleet import Fleet, Look
from spoolway.worker.http.sample import Sample
from spoolway.worker.reading.database import ReadDatabase, TooSlow, Unavailable
from spoolway.worker.reading.last_minute import SECONDS, LastMinute, last_minute

_MINUTE_EVERY: Final = 5.0
"""Seconds between questions to the database: it has other things to do."""
_REMEMBERED: Final = 120
"""Samples whose rates are kept for the trend."""


@dataclass(slots=True)
class Shown:
    """One sample."""

    look: Look
    speeds: Speeds
    minute: LastMinute | None
    """Requests of the last minute; None while the database does not answer."""
    trouble: str | None
    """Why it does not."""
    added: Sequence[float | None] = field(default_factory=tuple)
    """Entries per second that came in, of this sample and those before it, the oldest first."""

    @property
    def wrong(self) -> list[str]:
        """Return what is wrong, one line each, as `spoolway status --check` says it."""
        queue = in_all(self.look.streams.values()) if self.look.streams else None
        return what_is_wrong(queue, self.look.trouble, self.look.folders)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        look, speeds = self.look, self.speeds
        queue = in_all(look.streams.values()) if look.streams else None
        return {
            "at": round(look.at, 3),
            "redis": {
                **(asdict(queue) if queue else {}),
                "streams": {name: asdict(one) for name, one in (look.streams or {}).items()},
                "error": look.trouble,
                "added_per_second": _rounded(speeds.added),
                "settled_per_second": _rounded(speeds.settled),
                "events_per_entry": _rounded(speeds.events_per_entry),
            },
            "database": {
                "state": "unavailable" if self.minute is None else "available",
                "error": self.trouble,
            },
            "last_minute": None
            if self.minute is None
            else {"seconds": SECONDS, **asdict(self.minute)},
            "events_per_second": _all_rounded(speeds.in_all),
            "folders": [
                {
                    **asdict(folder),
                    "workers": [
                        {
                            **worker,
                            "events_per_second": _all_rounded(
                                speeds.workers[worker_key(folder.dir, worker)]
                            ),
                        }
                        for worker in folder.workers
                    ],
                }
                for folder in look.folders
            ],
            "wrong": self.wrong,
        }


class Overview:
    """Takes the samples. Needs a running event loop; close it."""

    def __init__(self, settings: Settings, folders: Sequence[Path]) -> None:
        self._fleet = Fleet(settings, folders, every=0.0)
        self._rates = Rates()
        self._added: deque[float | None] = deque(maxlen=_REMEMBERED)
        self._database = ReadDatabase.open(settings)
        self._minute: Sample[LastMinute] = Sample("database", self._ask, every=_MINUTE_EVERY)

    async def sample(self, patience: float = 1.0) -> Shown:
        """Look at everything, and wait up to `patience` seconds for what does not answer."""
        look, _ = await asyncio.gather(self._fleet.look(patience), self._minute.look(patience))
        speeds = self._rates.of(look)
        self._added.append(speeds.added)
        return Shown(look, speeds, self._minute.value, self._why(), tuple(self._added))

    async def close(self) -> None:
        """Ask no more."""
        await self._fleet.close()
        await self._minute.close()
        await self._database.close()

    async def _ask(self) -> LastMinute:
        return await last_minute(self._database)

    def _why(self) -> str | None:
        if self._minute.value is not None:
            return None
        error = self._minute.error
        if isinstance(error, (Unavailable, TooSlow)):
            return why(error)
        if isinstance(error, TimeoutError):
            return str(error)
        return "it has not answered yet" if error is None else type(error).__name__


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 2)


def _all_rounded(rates: dict[str, float | None]) -> dict[str, float | None]:
    return {name: _rounded(rate) for name, rate in rates.items()}
