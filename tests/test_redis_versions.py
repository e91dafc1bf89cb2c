"""Every Valkey and Redis found, 6.2 among them, does for a worker what the worker asks of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis

from spoolway.schema import DEFAULT_STREAM
from spoolway.worker.intake import Intake
from spoolway.worker.outage import Outage
from spoolway.worker.progress import Totals
from spoolway.worker.stream import CLAIM_IDLE_MS, Entry, Stream, is_group_gone
from tests.servers import ValkeyServer, aeventually
from tests.workers import GROUP, pending, waiting


@pytest.fixture
async def stream(redis_server: ValkeyServer) -> AsyncIterator[Stream]:
    """The stream as one worker sees it."""
    made = Stream(redis_server.url, stream=DEFAULT_STREAM, group=GROUP, consumer="here")
    await made.prepare()
    yield made
    await made.close()


def push(server: ValkeyServer, number: int) -> list[bytes]:
    """Add so many entries, and return their ids."""
    with server.client() as client:
        return [client.xadd(DEFAULT_STREAM, {"n": str(n)}) for n in range(number)]


def abandon(server: ValkeyServer, count: int) -> list[bytes]:
    """Have another consumer read entries and go away; return their ids."""
    with server.client() as client:
        ((_, entries),) = client.xreadgroup(GROUP, "gone", {DEFAULT_STREAM: ">"}, count=count)
        ids = [entry_id for entry_id, _ in entries]
        client.xclaim(DEFAULT_STREAM, GROUP, "gone", 0, ids, idle=2 * CLAIM_IDLE_MS)
    return ids


def ids_of(entries: list[Entry]) -> list[bytes]:
    """The ids of entries."""
    return [entry.id for entry in entries]


async def test_what_a_worker_asks_of_a_stream(redis_server: ValkeyServer, stream: Stream) -> None:
    """Read, read again, claim, keep, acknowledge, sweep, forget, and make the group anew."""
    assert not await stream.create_group()
    pushed = push(redis_server, 4)
    left = abandon(redis_server, 1)
    assert left == pushed[:1]

    new = await stream.read_new(2, None)
    assert ids_of(new.entries) == pushed[1:3]
    assert new.entries[0].fields == {b"n": b"1"}
    assert ids_of((await stream.read_own(b"0-0", 10)).entries) == pushed[1:3]
    claimed = await stream.claim_abandoned(b"0-0", 10)
    assert (ids_of(claimed.entries), claimed.lost, claimed.next) == (left, [], b"0-0")
    await stream.keep(pushed[:3])
    await stream.acknowledge(pushed[:2])
    assert (waiting(redis_server), pending(redis_server)) == (2, 1)

    with redis_server.client() as client:
        client.xack(DEFAULT_STREAM, GROUP, pushed[2])  # and dies before XDEL
        assert await stream.sweep() == 1
        assert [entry_id for entry_id, _ in client.xrange(DEFAULT_STREAM)] == pushed[3:]
        assert await stream.forget_idle_consumers() == 0
        client.delete(DEFAULT_STREAM)
    with pytest.raises(redis.ResponseError) as gone:
        await stream.read_new(1, None)
    assert is_group_gone(gone.value)
    assert await stream.create_group()
    assert (await stream.read_new(1, 1)).entries == []


async def test_what_was_deleted_while_it_was_pending_is_counted(
    redis_server: ValkeyServer, stream: Stream
) -> None:
    """Redis 6.2 says that a claimed entry is gone, and not which: it is counted all the same."""
    push(redis_server, 5)
    abandoned = abandon(redis_server, 4)
    with redis_server.client() as client:
        client.xdel(DEFAULT_STREAM, *abandoned[:3])
    totals = Totals()
    held: set[bytes] = set()
    clock = asyncio.get_running_loop().time
    intake = Intake(stream, totals, held, Outage("Redis", clock), asyncio.Event())

    async def reads_on() -> bool:
        held.update(ids_of(await intake.next_entries(10, wait=False)))
        return len(held) == 2 and totals.lost_entries == 3

    await aeventually(reads_on, what="two entries, and three that are lost")
    assert abandoned[3] in held
    assert pending(redis_server) == 2
