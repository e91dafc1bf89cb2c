"""All proxies at once, loaded one after the other, again and again: each beside all others."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.proxied.connection import Kind
from benchmarks.proxied.load import Loaded
from benchmarks.proxied.others import undisturbed
from benchmarks.proxied.processes import Serving, asked, serving, wait_for
from benchmarks.proxied.recording import Contestant, Recording, recording
from benchmarks.proxied.turns import KINDS, Turn, summed
from benchmarks.rounds import say
from tests.servers import PostgresServer

CONNECTIONS: Final = 32
"""That saturate a proxy: twice as many get no more out of it."""
OPEN_CONNECTIONS: Final = 128
"""Among which requests at a fixed rate find a free one."""
SLICE_S: Final = 1.0
"""Seconds for which one proxy is loaded before it is another one's turn: a machine that is slow for
a while is slow for all."""


@dataclass(slots=True, frozen=True)
class _Proxy:
    contestant: Contestant
    serving: Serving
    recording: Recording
    turn: Turn
    latencies: dict[Kind, list[float]] = field(default_factory=dict)


def play(
    contestants: Sequence[Contestant],
    folder: Path,
    upstream: str,
    postgres: PostgresServer | None,
    *,
    number: int,
    seconds: float,
) -> list[Turn]:
    """Play one round; the first contestant is who is not recorded.

    Every proxy is a new process, warmed up while what it records to works; then that breaks, if it
    is to. Each measure takes `seconds` of each proxy, in slices; one that others disturb is taken
    again.

    Raises:
        LostRequests: not every request that was answered is recorded.
    """
    slices = max(round(seconds / SLICE_S), 1)
    with _proxies(contestants, folder, upstream, postgres, number) as proxies:
        for proxy in proxies:
            asked(proxy.serving, connections=CONNECTIONS, seconds=min(seconds, 1.0))
        for proxy in proxies:
            proxy.recording.break_down()
        for part in range(slices):
            for proxy in _rotated(proxies, number + part):
                _saturate(proxy, seconds / slices, seed=number * 100 + part)
        rate = proxies[0].turn.throughput / 2
        for part in range(slices):
            for proxy in _rotated(proxies, number + part):
                _pace(proxy, seconds / slices, rate, seed=number * 100 + part)
        for proxy in proxies:
            proxy.turn.rate = rate
            for kind in KINDS:
                proxy.turn.latency[kind] = summed(proxy.latencies[kind])
            _say(proxy.contestant, proxy.turn)
    return [proxy.turn for proxy in proxies]


def _saturate(proxy: _Proxy, seconds: float, seed: int) -> None:
    def load() -> tuple[Loaded, float]:
        before = proxy.serving.cpu()
        loaded = asked(proxy.serving, connections=CONNECTIONS, seconds=seconds, seed=seed)
        return loaded, proxy.serving.cpu() - before

    (loaded, cpu_seconds), others = undisturbed(load)
    turn = proxy.turn
    turn.cpu_seconds += cpu_seconds
    turn.cpu_requests += loaded.in_all
    turn.answered += loaded.answered
    turn.seconds += loaded.seconds
    turn.others.append(others)


def _pace(proxy: _Proxy, seconds: float, rate: float, seed: int) -> None:
    loaded, others = undisturbed(
        lambda: asked(
            proxy.serving, connections=OPEN_CONNECTIONS, seconds=seconds, rate=rate, seed=seed
        )
    )
    for kind in KINDS:
        proxy.latencies.setdefault(kind, []).extend(loaded.latencies_ms[kind])
    proxy.turn.others.append(others)


@contextmanager
def _proxies(
    contestants: Sequence[Contestant],
    folder: Path,
    upstream: str,
    postgres: PostgresServer | None,
    number: int,
) -> Iterator[list[_Proxy]]:
    """Start all proxies; when they have ended, see that everything is recorded."""
    with ExitStack() as servers:
        proxies: list[_Proxy] = []
        with ExitStack() as serving_all:
            for contestant in contestants:
                ours = folder / f"{number}-{contestant.name}"
                ours.mkdir()
                to = servers.enter_context(recording(contestant, ours, postgres))
                arguments = ["--upstream", upstream, *to.arguments]
                log = ours / "proxy.log"
                proxy = serving_all.enter_context(serving("benchmarks.proxied.app", log, arguments))
                proxies.append(_Proxy(contestant, proxy, to, Turn(contestant.name, number)))
            for one in proxies:
                wait_for(one.serving)
            yield proxies
        for one in proxies:
            one.recording.check(one.serving.answered)


def _rotated(proxies: Sequence[_Proxy], by: int) -> list[_Proxy]:
    by %= len(proxies)
    return [*proxies[by:], *proxies[:by]]


def _say(contestant: Contestant, turn: Turn) -> None:
    p99 = ", ".join(f"{kind} {turn.latency[kind].p99:.1f} ms" for kind in KINDS)
    say(
        f"{contestant.title}: {turn.throughput:,.0f}/s, {turn.cpu_ms:.2f} ms CPU each; "
        f"p99 at {turn.rate:,.0f}/s: {p99}; others: {median(turn.others):.2f} processors"
    )
