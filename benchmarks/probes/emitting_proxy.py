"""The process of the probe `emit-loop`: a proxy's event loop whose requests are recorded.

Called with the URL of a Redis, what is redacted, and for how many seconds; prints the figures as
JSON. The garbage collector has the thresholds that Python starts with, and nothing is frozen.
"""

import asyncio
import random
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median, quantiles
from time import perf_counter, perf_counter_ns
from typing import Any, Final

import orjson

from benchmarks.events import SEED, raw_headers
from benchmarks.workload import Workload
from spoolway.producer import Producer, Redaction
from spoolway.schema import new_id
from spoolway.worker.cli.run import loop_factory

PER_SECOND: Final = 2_000
_TASKS: Final = 100
_WARM_UP_S: Final = 1.0
"""Seconds that are not counted: the thread starts and connects, caches fill."""
_DIFFERENT: Final = 1_000
"""Requests that are emitted over and over. Kept as JSON, of which the collector sees nothing."""


class _Proxy:
    """Requests that come, and are recorded when they have been answered."""

    def __init__(self, producer: Producer, requests: Sequence[bytes]) -> None:
        self._producer = producer
        self._requests = requests
        self._random = random.Random(SEED)
        self.emit_ns: list[int] = []
        self.bare_ns: list[int] = []

    async def run(self, seconds: float) -> None:
        """Serve for so long, by many tasks that each have their share of the requests."""
        end = perf_counter() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_TASKS):
                tasks.create_task(self._serve(end))

    async def _serve(self, end: float) -> None:
        every = _TASKS / PER_SECOND
        due = perf_counter() + every * self._random.random()
        while due < end:
            request = orjson.loads(self._random.choice(self._requests))
            event = {**request, "id": new_id(), "request_time": datetime.now(UTC)}
            await asyncio.sleep(due - perf_counter())
            # In turns: what comes second finds the processor's caches warm.
            timed: list[tuple[list[int], Callable[[Any], object], object]] = [
                (self.emit_ns, self._producer.emit, event),
                (self.bare_ns, orjson.dumps, request),
            ]
            for taken, call, argument in timed[:: 1 if len(self.emit_ns) % 2 else -1]:
                start = perf_counter_ns()
                call(argument)
                taken.append(perf_counter_ns() - start)
            # One that is late does not hurry the next.
            due = max(due + every * self._random.uniform(0.5, 1.5), perf_counter())


def _measured(redis_url: str, variant: str, seconds: float) -> dict[str, float]:
    """Return the microseconds of `emit()`, and the rate that was kept."""
    redaction = Redaction(scan=variant == "everything")
    requests = [_as_json(raw_headers(event)) for event in Workload(4).events(_DIFFERENT)]
    with Producer(redis_url, redaction=redaction) as producer:
        proxy = _Proxy(producer, requests)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(proxy.run(_WARM_UP_S))
            proxy.emit_ns.clear()
            proxy.bare_ns.clear()
            runner.run(proxy.run(seconds))
        assert producer.flush(30)
        stats = producer.stats
    assert stats.pushed == stats.accepted
    assert (stats.dropped, stats.rejected, stats.reduced) == (0, 0, 0)
    percents = quantiles(proxy.emit_ns, n=1000)
    return {
        "median": median(proxy.emit_ns) / 1e3,
        "p99": percents[989] / 1e3,
        "p99.9": percents[998] / 1e3,
        "bare": quantiles(proxy.bare_ns, n=1000)[998] / 1e3,
        "rate": len(proxy.emit_ns) / seconds,
    }


def _as_json(event: dict[str, Any]) -> bytes:
    """Return what a request brings: all but what the proxy makes itself."""
    made = ("id", "request_time")
    return orjson.dumps({name: value for name, value in event.items() if name not in made})


if __name__ == "__main__":
    url, what, duration = sys.argv[1:]
    sys.stdout.buffer.write(orjson.dumps(_measured(url, what, float(duration))))
