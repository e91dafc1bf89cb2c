"""What a backlog costs: the rate at which its head is drained, and Redis' memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.drained import make_group, push, stream_length
from benchmarks.rounds import say
from benchmarks.scale.drain import Drained, drain, used_memory
from benchmarks.scale.stock import frames
from benchmarks.servers import Servers
from benchmarks.workload import FRAME_EVENTS

KILOBYTES: Final = 1
HEAD: Final = 200_000
"""Events that are drained and timed; the others wait behind them."""


@dataclass(slots=True, frozen=True)
class ByBacklog:
    """One turn on a stream with this many events behind those that were drained."""

    waiting: int
    turn: int
    drained: Drained
    redis_bytes: int
    """Of all that was on the stream when the turn began: what waited, and what was drained."""


def by_backlog(
    servers: Servers, backlogs: Sequence[int], turns: int, share: int
) -> Iterator[ByBacklog]:
    """Let the backlog grow from the least to the most; drain its head some times at each."""
    head = HEAD // share
    with servers.valkey.client(timeout=60) as client:
        servers.clean()
        empty = used_memory(client)
        make_group(client)
        for waiting in sorted(backlogs):
            for turn in range(1, turns + 1):
                servers.postgres.sql("TRUNCATE request_logs, error_logs", "bench")
                servers.postgres.sql("CHECKPOINT")
                missing = waiting + head - stream_length(client) * FRAME_EVENTS
                push(client, frames(KILOBYTES, missing))
                redis_bytes = used_memory(client) - empty
                drained = drain(servers, client, head, leave=waiting // FRAME_EVENTS)
                say(f"{waiting:,} waiting: {drained.rate:,.0f}/s, {redis_bytes >> 20} MB in Redis")
                yield ByBacklog(waiting, turn, drained, redis_bytes)
