"""Where a replay by hand puts events: into the database, or back onto the stream."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError

from spoolway import migrations
from spoolway.schema import FrameEncoder
from spoolway.schema.caps import MIB
from spoolway.spool import Chunk, DeadLetters
from spoolway.worker.batch import assemble_chunk
from spoolway.worker.config import Settings, UsageError, shown_url
from spoolway.worker.connecting import explain
from spoolway.worker.opening import bring_up_to_date, window_of
from spoolway.worker.plan import Done, Halt, Skip
from spoolway.worker.replay import Replay
from spoolway.worker.stores import (
    Refusals,
    Refusing,
    Store,
    StoreError,
    Unreachable,
    is_away,
    open_store,
)
from spoolway.worker.stores.prepared import PreparedStore

_FRAME_EVENTS: Final = 100
_FRAME_BYTES: Final = MIB
"""What a producer packs into one frame."""


async def opened_database(settings: Settings) -> Store:
    """Connect, and bring the tables up to date as a worker does.

    Raises:
        Halt: it is away, and may come back by itself.
        UsageError: it cannot be used, and will not mend itself.
    """
    url = settings.database

    store = PreparedStore(open_store(settings), lambda _: bring_up_to_date(settings))
    try:
        await store.prepare()
    except Exception as error:
        await store.close()
        explained = str(error) if isinstance(error, migrations.MigrationError) else None
        explained = explained or explain(error, url)
        if is_away(error):
            raise Halt(explained or f"the database does not answer: {error}") from None
        if explained is None:
            raise
        raise UsageError(explained) from None
    return store


class ToDatabase:
    """Rows: every event becomes one, is recognised as one, or is a dead letter."""

    def __init__(self, store: Store, dead: DeadLetters, settings: Settings) -> None:
        self._replay = Replay(
            store,
            dead,
            window_of(settings),
            Refusals(settings.refused_count, settings.refused_ratio),
            batch_events=settings.batch_events,
            batch_bytes=settings.batch_bytes,
        )
        self._database = shown_url(settings.database)

    async def put(self, chunk: Chunk, segment: Path) -> Done:
        """Write a chunk; see `Destination`."""
        try:
            done = await self._replay.put_back(chunk, segment)
        except Refusing as error:
            raise Halt(str(error)) from error
        except Unreachable as error:
            raise Halt(f"the database {self._database} went away: {error}") from error
        except StoreError as error:
            raise Skip(f"the database {self._database} does not take it: {error}") from error
        return Done(done.events, done.inserted, done.duplicate, dead=done.dead)


class ToStream:
    """Frames, as a producer pushes them; the workers do the rest."""

    def __init__(self, settings: Settings, dead: DeadLetters) -> None:
        self._settings = settings
        self._dead = dead
        self._window = window_of(settings)
        self._encoder = FrameEncoder()
        self._redis: Redis = Redis.from_url(
            settings.redis_url, socket_timeout=10.0, socket_connect_timeout=2.0
        )

    async def check(self) -> None:
        """Raise Halt if Redis does not answer."""
        try:
            await self._redis.ping()
        except (RedisError, OSError) as error:
            raise Halt(self._explained(error)) from error

    async def put(self, chunk: Chunk, segment: Path) -> Done:
        """Push a chunk; see `Destination`. What a checksum does not vouch for is not pushed."""
        damaged = Chunk(chunk.end, damaged=chunk.damaged)
        letters = assemble_chunk(damaged, segment.name, self._window).dead
        await asyncio.to_thread(self._dead.keep, letters)
        pipeline = self._redis.pipeline(transaction=False)
        for lines in frames(chunk.lines):
            entry: dict[Any, Any] = {**self._encoder.encode(lines, len(lines))}
            pipeline.xadd(self._settings.stream, entry)
        try:
            await pipeline.execute()
        except (RedisError, OSError) as error:
            raise Halt(self._explained(error)) from error
        return Done(len(chunk.lines) + len(letters), sent=len(chunk.lines), dead=len(letters))

    async def close(self) -> None:
        """Close every connection."""
        await self._redis.aclose()

    def _explained(self, error: BaseException) -> str:
        where = f"Redis at {shown_url(self._settings.redis_url)}"
        if isinstance(error, OutOfMemoryError):
            return (
                f"{where} is full ({error}): let the workers drain it first, give it more memory, "
                "or replay into the database (--to database)"
            )
        if isinstance(error, ReadOnlyError):
            return f"{where} is a read-only replica: give the primary's address in REDIS_URL"
        return (
            f"{where} cannot be used ({type(error).__name__}: {error}): check REDIS_URL and that "
            "it is running"
        )


def frames(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Split events into what goes into one frame each."""
    frame: list[bytes] = []
    size = 0
    for line in lines:
        if frame and (len(frame) >= _FRAME_EVENTS or size + len(line) > _FRAME_BYTES):
            yield frame
            frame, size = [], 0
        frame.append(line)
        size += len(line)
    if frame:
        yield frame
