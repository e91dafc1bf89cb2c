"""What a request pays: the time of `emit()`, with a real producer that pushes to a real Valkey.

With bodies and texts searched for secrets, by RE2 or by Python's own `re`, and not searched.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final, Literal, cast

import orjson

from benchmarks.events import Fields, raw_headers
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.producer import Producer, Redaction
from spoolway.schema import DEFAULT_STREAM, new_id

_BURST: Final = 500
"""Events emitted without a pause. Between bursts the buffer is flushed, so that it never fills."""
_WARM_UP: Final = 200


Search = Literal["re2", "re", "none"]
SEARCHES: Final[dict[Search, str]] = {
    "re2": "emit()",
    "re": "emit(), without RE2",
    "none": "emit(), only headers and query redacted",
}
"""What searches bodies and texts for secrets, and how the report names it."""


@dataclass(slots=True, frozen=True)
class Emitted:
    """Microseconds of one call, and of the bare `orjson.dumps` of the same events."""

    events: int
    median_us: float
    p99_us: float
    orjson_median_us: float
    search: Search = "re2"


def measure(servers: Servers, load: Workload, events: int, search: Search) -> Emitted:
    """Time each call; the producer's thread packs and pushes meanwhile, as in a proxy."""
    redaction = Redaction(scan=False) if search == "none" else Redaction(engine=search)
    batch = [{**raw_headers(event), "id": new_id()} for event in load.events(events + _WARM_UP)]
    warm_up, batch = batch[:_WARM_UP], batch[_WARM_UP:]
    with nothing_to_collect():
        bare = _timed(orjson.dumps, batch)
        with Producer(servers.redis_url, redaction=redaction) as producer:
            _timed(producer.emit, warm_up)
            taken: list[int] = []
            for start in range(0, events, _BURST):
                assert producer.flush(30)
                taken += _timed(producer.emit, batch[start : start + _BURST])
            assert producer.flush(30)
            stats = producer.stats
    assert (stats.pushed, stats.dropped, stats.rejected) == (events + _WARM_UP, 0, 0)
    assert _on_the_stream(servers) == events + _WARM_UP
    return Emitted(
        events=events,
        median_us=statistics.median(taken) / 1e3,
        p99_us=statistics.quantiles(taken, n=100)[98] / 1e3,
        orjson_median_us=statistics.median(bare) / 1e3,
        search=search,
    )


def _timed(call: Callable[[Fields], object], events: Sequence[Fields]) -> list[int]:
    """Return the nanoseconds of each call."""
    taken: list[int] = []
    for event in events:
        start = perf_counter_ns()
        call(event)
        taken.append(perf_counter_ns() - start)
    return taken


def _on_the_stream(servers: Servers) -> int:
    """Count the events that arrived."""
    with servers.valkey.client(timeout=60) as client:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrange(DEFAULT_STREAM))
        return sum(int(fields[b"n"]) for _, fields in entries)
