"""What a request pays in a running proxy: `emit()` on an event loop, 2,000 events a second.

A process of its own, with uvloop as proxies have it, whose tasks parse a request, wait, and emit it,
while the producer's thread packs and pushes to a real Valkey; garbage is collected as Python does by
default. At the same points a bare `orjson.dumps` is timed: how long its slowest take is what this
machine does to anything that runs on it.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from benchmarks.children import python_module
from benchmarks.probes.base import Bound, Figure
from benchmarks.servers import Servers

_PROXY: Final = "benchmarks.probes.emitting_proxy"
_SECONDS: Final = 10.0
_VARIANTS: Final = {"headers": "only headers and query redacted", "everything": "all redacted"}
_BOUNDS: Final = {"headers": Bound(floor=200, aim=100)}


class EmitLoop:
    """How long `emit()` keeps an event loop, in the median and in its tail."""

    name = "emit-loop"
    each_round = False

    def measure(self, servers: Servers, *, quick: bool) -> Sequence[Figure]:
        """Run a proxy for ten seconds with each amount of redaction."""
        figures: list[Figure] = []
        for variant, redacted in _VARIANTS.items():
            taken = _in_a_process(servers.redis_url, variant, _SECONDS / 100 if quick else _SECONDS)
            what = f"emit() in an event loop, {redacted}"
            figures += [
                Figure(f"{what}: median", taken["median"], "µs"),
                Figure(f"{what}: p99", taken["p99"], "µs"),
                Figure(f"{what}: p99.9", taken["p99.9"], "µs", _BOUNDS.get(variant)),
                Figure(f"{what}: p99.9 of bare orjson.dumps beside it", taken["bare"], "µs"),
                Figure(f"{what}: events", taken["rate"], "/s"),
            ]
        return figures


def _in_a_process(redis_url: str, variant: str, seconds: float) -> dict[str, float]:
    """Run the proxy, and return what it prints; raises CalledProcessError if it failed."""
    done = subprocess.run(
        [*python_module(_PROXY), redis_url, variant, str(seconds)],
        check=True,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        timeout=seconds + 60,
    )
    taken: dict[str, float] = orjson.loads(done.stdout)
    return taken
