"""A proxy's process: a real producer that is given events at a steady rate, each with its own time.

python -m benchmarks.probes.paced <redis url> <events/s> <seconds> <file for the result>
"""

import bisect
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import orjson

from benchmarks.events import KIB, Events, raw_headers
from benchmarks.servers import now
from benchmarks.workload import nothing_to_collect
from spoolway.producer import Producer, Redaction
from spoolway.schema import new_id

KILOBYTES: Final = 4
_MADE: Final = 2_000
_TICK: Final = 0.001


@dataclass(slots=True, frozen=True)
class Paced:
    """What was emitted, and how long events took until Redis had confirmed them (ms)."""

    events: int
    seconds: float
    pushed_p50_ms: float
    pushed_p99_ms: float


def main(arguments: Sequence[str]) -> None:
    """Emit, and write the result when Redis has everything."""
    redis_url, rate, seconds, file = arguments
    events = [raw_headers(event) for event in islice(Events(KILOBYTES * KIB), _MADE)]
    # Bodies are not searched for secrets: a real proxy pays that on its own processors.
    with nothing_to_collect(), Producer(redis_url, redaction=Redaction(scan=False)) as producer:
        paced = _emitted(producer, events, float(rate), float(seconds))
    path = Path(file)
    path.with_suffix(".tmp").write_bytes(orjson.dumps(asdict(paced)))
    path.with_suffix(".tmp").replace(path)


def _emitted(
    producer: Producer, events: Sequence[dict[str, object]], rate: float, seconds: float
) -> Paced:
    total = int(rate * seconds)
    left = cycle(events)
    emitted: list[float] = []
    # Events leave in the order in which they came: so many confirmed are the first so many.
    confirmed: list[int] = [0]
    confirmed_at: list[float] = [0.0]

    def note() -> None:
        if (pushed := producer.stats.pushed) > confirmed[-1]:
            confirmed.append(pushed)
            confirmed_at.append(now())

    began = now()
    while len(emitted) < total:
        due = min(int((now() - began) * rate), total)
        while len(emitted) < due:
            emitted.append(now())
            producer.emit({**next(left), "id": new_id(), "request_time": datetime.now(UTC)})
        note()
        time.sleep(_TICK)
    taken = now() - began
    assert producer.flush(30), "Redis did not take everything within 30 s"
    note()
    assert producer.stats.pushed == total, f"{producer.stats} after {total} events"
    waited = [
        confirmed_at[bisect.bisect_left(confirmed, number)] - at
        for number, at in enumerate(emitted, start=1)
    ]
    percentiles = statistics.quantiles(waited, n=100)
    return Paced(total, taken, percentiles[49] * 1e3, percentiles[98] * 1e3)


if __name__ == "__main__":
    main(sys.argv[1:])
