"""The load generator: a process that asks a proxy, and says how fast it was answered.

.venv/bin/python -m benchmarks.proxied.load --url http://127.0.0.1:8080 --seconds 2

Without `--rate` each connection asks again as soon as it is answered: how much does the proxy take?
With it requests are due at fixed times, whatever has become of those before, and an answer's time
counts from when its request was due: a proxy that stands still makes all of them wait.
"""

import argparse
import asyncio
import gc
import itertools
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import msgspec

from benchmarks.proxied import traffic
from benchmarks.proxied.connection import Connection, Kind
from spoolway.worker.cli.run import loop_factory

LEAD_S: Final = 0.3
"""Of load that is not counted, before that which is."""
PATIENCE_S: Final = 30.0
"""That the last answers may take."""


class Loaded(msgspec.Struct, frozen=True):
    """What came of a load."""

    seconds: float
    answered: int
    """Within those seconds."""
    in_all: int
    """Before and after them, too."""
    latencies_ms: dict[Kind, list[float]]


class Load:
    """Connections to one proxy, and the requests on their way."""

    def __init__(self, url: str, connections: int, seed: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._size = connections
        self._kinds = traffic.kinds(seed)
        host = f"{self._host}:{self._port}"
        self._requests: dict[Kind, Iterator[bytes]] = {
            "whole": itertools.cycle(traffic.requests(is_stream=False, host=host)),
            "stream": itertools.cycle(traffic.requests(is_stream=True, host=host)),
        }
        self._expected: dict[Kind, int] = {
            "whole": len(traffic.whole_answer()),
            "stream": sum(map(len, traffic.stream_events())),
        }
        self._connections: list[Connection] = []
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._asks_again = False
        self._in_all = self._on_the_way = self._answered = 0
        self._from = self._until = 0.0
        self._latencies: dict[Kind, list[float]] = {"whole": [], "stream": []}
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._is_closing = False

    async def run(self, seconds: float, rate: float | None) -> Loaded:
        """Ask for so many seconds, and then wait for the last answers.

        Raises:
            WrongAnswer: an answer is not what the upstream sends.
        """
        for _ in range(self._size):
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._take, self._fail), self._host, self._port
            )
            self._connections.append(connection)
        self._free.extend(self._connections)
        begin = monotonic()
        self._from, self._until = begin + LEAD_S, begin + LEAD_S + seconds
        if rate is None:
            self._asks_again = True
            for _ in range(self._size):
                self._ask(begin)
        else:
            self._on_the_way = 1  # the next to come: it is not over while all are answered
            self._arrive(begin, 0, rate)
        try:
            async with asyncio.timeout(LEAD_S + seconds + PATIENCE_S):
                await self._ended
        finally:
            self._is_closing = True
            for connection in self._connections:
                connection.close()
        return Loaded(seconds, self._answered, self._in_all, self._latencies)

    def _arrive(self, begin: float, number: int, rate: float) -> None:
        """Send all requests that are due, and come again for the next."""
        now = monotonic()  # the loop's own clock may stand still for a millisecond
        while (due := begin + number / rate) <= now and due < self._until:
            self._on_the_way += 1
            if self._free:
                self._ask(due, counted=True)
            else:
                self._waiting.append(due)
            number += 1
        if due < self._until:
            self._loop.call_later(due - now, self._arrive, begin, number, rate)
        else:
            self._settled()

    def _ask(self, since: float, *, counted: bool = False) -> None:
        if not counted:
            self._on_the_way += 1
        kind: Kind = "stream" if next(self._kinds) else "whole"
        connection = self._free.popleft()
        connection.ask(kind, next(self._requests[kind]), self._expected[kind], since)

    def _take(self, connection: Connection) -> None:
        """Count an answer, and use its connection again."""
        now = monotonic()
        self._in_all += 1
        self._answered += self._from <= now < self._until
        # By when it was due: what is late at the end has not missed its turn.
        if self._from <= connection.since < self._until:
            self._latencies[connection.kind].append((now - connection.since) * 1e3)
        self._free.append(connection)
        if self._waiting:
            self._ask(self._waiting.popleft(), counted=True)
        elif self._asks_again and now < self._until:
            self._ask(now)
        self._settled()

    def _settled(self) -> None:
        self._on_the_way -= 1
        if not self._on_the_way and not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: Exception) -> None:
        if not self._is_closing and not self._ended.done():
            self._ended.set_exception(error)


async def load(
    url: str, *, connections: int, seconds: float, rate: float | None, seed: int
) -> Loaded:
    """Ask a proxy; see the module. `rate` is in requests per second."""
    return await Load(url, connections, seed).run(seconds, rate)


def main() -> None:
    """Print what came of it, as JSON."""
    parser = argparse.ArgumentParser(description="The load of the benchmark of the proxy.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    gc.disable()  # a pause of this process would look like one of the proxy's
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        loaded = runner.run(
            load(
                options.url,
                connections=options.connections,
                seconds=options.seconds,
                rate=options.rate,
                seed=options.seed,
            )
        )
    print(msgspec.json.encode(loaded).decode())


if __name__ == "__main__":
    main()
