"""What a request pays: the time of `emit()`, with a real producer that pushes to a real Valkey.

With bodies and texts searched for secrets, by RE2 or by Python's own `re`, and not searched.
"""

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from time import perf_counter_ns
from typing import Final, NamedTuple, cast

import orjson

from benchmarks.events import Fields, raw_headers
from benchmarks.probes.base import Bound, Figure
from benchmarks.servers import Servers
from benchmarks.workload import Workload, nothing_to_collect
from spoolway.producer import Producer, Redaction
from spoolway.schema import DEFAULT_STREAM, new_id

_EVENTS: Final = 5_000
_BURST: Final = 500
"""Events emitted without a pause. Between bursts the buffer is flushed, so that it never fills."""
_WARM_UP: Final = 200


class _Variant(NamedTuple):
    what: str
    redaction: Callable[[], Redaction]
    bound: Bound | None


_VARIANTS: Final = (
    _Variant(
        "emit(), 4 KB, 8 headers, only headers and query redacted",
        lambda: Redaction(scan=False),
        Bound(floor=15, aim=6),
    ),
    _Variant(
        "emit(), 4 KB, 8 headers, all redacted",
        lambda: Redaction(engine="re2"),
        Bound(floor=60, aim=25),
    ),
    _Variant(
        "emit(), 4 KB, 8 headers, all redacted, without RE2", lambda: Redaction(engine="re"), None
    ),
)


class Emit:
    """Microseconds of one call; beside it those of the bare `orjson.dumps` of the same events."""

    name = "emit"
    each_round = True

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Emit the same events with each amount of redaction."""
        held = Workload(4).events(_WARM_UP + (_EVENTS // 10 if quick else _EVENTS))
        figures: list[Figure] = []
        bare: list[int] = []
        for what, redaction, bound in _VARIANTS:
            servers.clean()
            taken = _emitted(servers, held, redaction(), bare)
            figures += [
                Figure(f"{what}: median", median(taken) / 1e3, "µs", bound),
                Figure(f"{what}: p99", quantiles(taken, n=100)[98] / 1e3, "µs"),
            ]
        return [*figures, Figure("bare orjson.dumps of the same events", median(bare) / 1e3, "µs")]


def _emitted(
    servers: Servers, held: Sequence[Fields], redaction: Redaction, bare: list[int]
) -> list[int]:
    """Time each call; the producer's thread packs and pushes meanwhile, as in a proxy."""
    batch = [{**raw_headers(event), "id": new_id()} for event in held]
    warm_up, batch = batch[:_WARM_UP], batch[_WARM_UP:]
    taken: list[int] = []
    with nothing_to_collect():
        bare += _timed(orjson.dumps, batch)
        with Producer(servers.redis_url, redaction=redaction) as producer:
            _timed(producer.emit, warm_up)
            for start in range(0, len(batch), _BURST):
                assert producer.flush(30)
                taken += _timed(producer.emit, batch[start : start + _BURST])
            assert producer.flush(30)
            stats = producer.stats
    assert (stats.pushed, stats.dropped, stats.rejected) == (len(held), 0, 0)
    assert _on_the_stream(servers) == len(held)
    return taken


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
