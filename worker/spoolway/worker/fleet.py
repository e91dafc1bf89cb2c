"""The fleet as it looks from here: the streams, and of each state folder spool, dead letters, workers.

Reads only, and without the database: it is asked for when something is away. What cannot be had is
missing from the answer with the reason beside it, and the rest is there.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from redis.exceptions import RedisError

from spoolway.spool import DeadLetters, SpoolFolder
from spoolway.worker.backlog import Backlog, backlogs
from spoolway.worker.config import Settings
from spoolway.worker.http.sample import Sample
from spoolway.worker.http.sources import DeadLetterCounts
from spoolway.worker.progress import is_alive, read_all
from spoolway.worker.redis_client import explain_redis
from spoolway.worker.replaying import count_events

STREAM: Final = ("inserted", "duplicate", "dead", "spooled", "given_back", "in_flight")
"""What became of the events that a worker has read: at any time they add up to `read`."""
REPLAY: Final = ("replay_inserted", "replay_duplicate", "replay_dead")
"""The same of `replayed`."""

_BUSY_SECONDS: Final = 4.0
"""A worker that settled events so short a while ago drains: its status is up to 2 s old."""
_DEAD_EVERY: Final = 5.0
"""Seconds between looks at the dead letters, whose files may be long."""

Activity = Literal["starting", "idle", "draining", "spooling", "refusing", "disabled", "wedged"]


@dataclass(slots=True, frozen=True)
class Spooled:
    """What waits in a folder's spool."""

    segments: int
    events: int
    bytes: int
    oldest_seconds: float | None
    """Age of the oldest event; None if there is none."""


@dataclass(slots=True)
class Folder:
    """What a state folder, of workers or of a proxy, holds."""

    dir: str
    spool: Spooled | None = None
    dead: dict[str, int] | None = None
    """Dead letters by reason, the most frequent first."""
    workers: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Why something of it is missing here."""


@dataclass(slots=True)
class Look:
    """The fleet at one moment."""

    at: float
    """Unix seconds."""
    streams: dict[str, Backlog] | None
    """None while Redis cannot be asked."""
    trouble: str | None
    """Why, in one line without a password."""
    folders: list[Folder]


class Fleet:
    """One who looks again and again. A look never waits long for what hangs."""

    def __init__(self, settings: Settings, folders: Sequence[Path], *, every: float) -> None:
        """`every`: seconds for which an answer is good. Needs a running event loop."""
        self._settings = settings
        self._streams = Sample("redis", self._ask_redis, every=every)
        self._folders = [_Watched(folder, every=every) for folder in folders]

    async def look(self, patience: float = 1.0) -> Look:
        """Ask what is due, all at once, and wait up to `patience` seconds for the answers."""
        folders, _ = await asyncio.gather(
            asyncio.gather(*(folder.look(patience) for folder in self._folders)),
            self._streams.look(patience),
        )
        return Look(time.time(), self._streams.value, self._why(), folders)

    async def close(self) -> None:
        """Ask no more."""
        await asyncio.gather(self._streams.close(), *(folder.close() for folder in self._folders))

    async def _ask_redis(self) -> dict[str, Backlog]:
        return await backlogs(self._settings)

    def _why(self) -> str | None:
        if self._streams.value is not None:
            return None
        error = self._streams.error or TimeoutError("it has not answered yet")
        if isinstance(error, (RedisError, OSError)):
            return explain_redis(error, self._settings.redis_url)
        return f"Redis cannot be asked: {type(error).__name__}"


class _Watched:
    """A state folder, looked at again and again."""

    def __init__(self, path: Path, *, every: float) -> None:
        self._path = path
        letters = DeadLetterCounts(path / "dead")
        self._spool = Sample("spool", partial(asyncio.to_thread, spool_in, path), every=every)
        self._dead = Sample("dead_letters", letters.ask, every=max(every, _DEAD_EVERY))

    async def look(self, patience: float) -> Folder:
        folder, *_ = await asyncio.gather(
            asyncio.to_thread(_begun, self._path),
            self._spool.look(patience),
            self._dead.look(patience),
        )
        folder.spool = self._spool.value
        if self._dead.value is not None:
            folder.dead = dict(self._dead.value.most_common())
        for what, sample in (("spool", self._spool), ("dead letters", self._dead)):
            if sample.value is None:
                folder.errors.append(_unreadable(what, sample.error))
        return folder

    async def close(self) -> None:
        await asyncio.gather(self._spool.close(), self._dead.close())


def folder_in(path: Path) -> Folder:
    """Look at a state folder once."""
    folder = _begun(path)
    try:
        folder.spool = spool_in(path)
    except OSError as error:
        folder.errors.append(_unreadable("spool", error))
    try:
        reasons = Counter(kept.reason for kept in DeadLetters(path / "dead").letters())
        folder.dead = dict(reasons.most_common())
    except OSError as error:
        folder.errors.append(_unreadable("dead letters", error))
    return folder


def spool_in(folder: Path) -> Spooled:
    """Return what waits in a state folder's spool. Raises OSError."""
    files = SpoolFolder(folder / "spool").segments()
    began = min((file.began.timestamp() for file in files), default=None)
    return Spooled(
        len(files),
        sum(map(count_events, files)),
        sum(file.size for file in files),
        None if began is None else max(0.0, round(time.time() - began, 3)),
    )


def workers_in(folder: Path) -> list[dict[str, Any]]:
    """Return each worker's status with `activity`, its equations, and whether they hold."""
    return [_checked(status) for status in read_all(folder)]


def activity(status: dict[str, Any], now: float) -> Activity:
    """Return in one word what a worker does, from its status."""
    breaker = status.get("breaker")
    if not is_alive(status["age"]):
        return "wedged"
    if breaker == "refusing":
        return "refusing"
    if status.get("state") == "disabled":
        return "disabled"
    if status.get("state") == "starting":
        return "starting"
    if breaker != "closed":
        return "spooling"
    is_busy = status.get("in_flight") or now - (status.get("last_settled") or 0.0) < _BUSY_SECONDS
    return "draining" if is_busy else "idle"


def _begun(path: Path) -> Folder:
    errors = [] if path.is_dir() else [f"there is no folder {path.absolute()}"]
    return Folder(str(path), workers=workers_in(path), errors=errors)


def _unreadable(what: str, error: Exception | None) -> str:
    reason = error.strerror or error if isinstance(error, OSError) else error
    return f"the {what} cannot be read: {reason or 'it does not answer'}"


def _checked(status: dict[str, Any]) -> dict[str, Any]:
    stream, replay = _sum(status, STREAM), _sum(status, REPLAY)
    return {
        **status,
        "activity": activity(status, time.time()),
        "equation": _equation(status, "read", STREAM),
        "replay_equation": _equation(status, "replayed", REPLAY),
        "holds": status.get("read", 0) == stream and status.get("replayed", 0) == replay,
    }


def _sum(status: dict[str, Any], names: tuple[str, ...]) -> int:
    return sum(int(status.get(name, 0)) for name in names)


def _equation(status: dict[str, Any], whole: str, names: tuple[str, ...]) -> str:
    total, parts = int(status.get(whole, 0)), _sum(status, names)
    spelled = " + ".join(
        f"{int(status.get(name, 0))} {name.removeprefix('replay_').replace('_', ' ')}"
        for name in names
    )
    verdict = "holds" if total == parts else f"does not hold, they are {parts}"
    return f"{total} {whole} = {spelled}: {verdict}"
