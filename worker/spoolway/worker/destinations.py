"""Where a replay by hand puts events: into the database, or back onto the stream."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from redis.exceptions import OutOfMemoryError, RedisError

from spoolway import migrations
from spoolway.schema import FrameEncoder
from spoolway.schema.address import stream_names
from spoolway.schema.caps import MIB
from spoolway.schema.redis_errors import NotReplicated
from spoolway.spool import Chunk, DeadLetters
from spoolway.worker.archive import prepared_store
from spoolway.worker.batch import Window, assemble_chunk
from spoolway.worker.config import Settings, UsageError, shown_url
from spoolway.worker.connecting import explain
from spoolway.worker.opening import bring_up_to_date, window_of
from spoolway.worker.plan import Done, Halt, Skip
from spoolway.worker.redis_client import client_for, explain_redis, replicas_of
from spoolway.worker.replay import Replay
from spoolway.worker.stores import (
    Refusals,
    Refusing,
    Store,
    StoreError,
    Unreachable,
    is_away,
)

_FRAME_EVENTS: Final = 100
_FRAME_BYTES: Final = MIB
"""What a producer packs into one frame."""
_REPLICAS_MS: Final = 1_000
"""Milliseconds in which the replicas confirm what was pushed."""


async def opened_database(settings: Settings) -> Store:
    """Connect, and bring the tables up to date as a worker does.

    Raises:
        Halt: it is away, and may come back by itself.
        UsageError: it cannot be used, and will not mend itself.
    """
    url = settings.database

    store = prepared_store(settings, lambda _: bring_up_to_date(settings))
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

    def __init__(
        self, store: Store, dead: DeadLetters, settings: Settings, window: Window | None = None
    ) -> None:
        """Take which ids are taken, if not those that the settings say."""
        self._replay = Replay(
            store,
            dead,
            window or window_of(settings),
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
        self._names = stream_names(settings.stream, settings.streams)
        self._clients = {
            name: client_for(settings.redis_url, name, socket_timeout=10.0) for name in self._names
        }
        self._turns = count()

    async def check(self) -> None:
        """Raise Halt if Redis does not answer."""
        try:
            for client in self._clients.values():
                await client.ping()
        except (RedisError, OSError) as error:
            raise Halt(self._explained(error)) from error

    async def put(self, chunk: Chunk, segment: Path) -> Done:
        """Push a chunk; see `Destination`. What a checksum does not vouch for is not pushed."""
        damaged = Chunk(chunk.end, damaged=chunk.damaged)
        letters = assemble_chunk(damaged, segment.name, self._window).dead
        await asyncio.to_thread(self._dead.keep, letters)
        pipelines = {}
        for lines, turn in zip(frames(chunk.lines), self._turns, strict=False):
            name = self._names[turn % len(self._names)]
            if name not in pipelines:
                pipelines[name] = self._clients[name].pipeline(transaction=False)
            entry: dict[Any, Any] = {**self._encoder.encode(lines, len(lines))}
            pipelines[name].xadd(name, entry)
        try:
            for name, pipeline in pipelines.items():
                if replicas := await replicas_of(self._clients[name]):
                    pipeline.wait(replicas, _REPLICAS_MS)
                    if (confirmed := (await _sent(pipeline))[-1]) < replicas:
                        raise NotReplicated(confirmed, replicas)
                else:
                    await _sent(pipeline)
        except (RedisError, OSError) as error:
            raise Halt(self._explained(error)) from error
        return Done(len(chunk.lines) + len(letters), sent=len(chunk.lines), dead=len(letters))

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients.values():
            await client.aclose()

    def _explained(self, error: BaseException) -> str:
        if isinstance(error, OutOfMemoryError):
            return (
                f"Redis at {shown_url(self._settings.redis_url)} is full ({error}): let the "
                "workers drain it first, give it more memory, or replay into the database "
                "(--to database)"
            )
        return explain_redis(error, self._settings.redis_url)


async def _sent(pipeline: Any) -> list[Any]:
    """Send it, and return the replies; raises the first that is an error, as it came.

    redis-py would put the whole command into the error's text, and with it what is in the events.
    """
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


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
