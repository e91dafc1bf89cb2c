"""The result of the benchmark of the proxy: JSON for machines, Markdown for people."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from statistics import median
from typing import Any

import msgspec

from benchmarks.floors import MIB, Verdict
from benchmarks.proxied.floors import Cost, Spread, costs, spread, verdicts
from benchmarks.proxied.memory import Held
from benchmarks.proxied.recording import CONTESTANTS
from benchmarks.proxied.rounds import CONNECTIONS
from benchmarks.proxied.turns import KINDS, Turn
from benchmarks.report import machine


@dataclass(slots=True, frozen=True)
class Result:
    """Everything that was measured, and on what."""

    servers: dict[str, str]
    turns: list[Turn]
    held: Held | None
    is_quick: bool
    """Whether there were too few requests to judge by."""

    @property
    def verdicts(self) -> list[Verdict]:
        """What was promised, and what was measured; nothing after a quick run."""
        return [] if self.is_quick else verdicts(self.turns, self.held)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values: seconds, milliseconds where the name says so, bytes."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {**machine(), "load_after": os.getloadavg()[0]},
            "quick": self.is_quick,
            "servers": {**self.servers, **http()},
            "turns": [
                {**asdict(turn), "throughput": turn.throughput, "cpu_ms": turn.cpu_ms}
                for turn in self.turns
            ],
            "costs": [asdict(cost) for cost in costs(self.turns)],
            "memory": None
            if self.held is None
            else {
                **msgspec.to_builtins(self.held),
                "growth": self.held.growth,
                "bound": self.held.bound,
            },
            "floors": [asdict(verdict) for verdict in self.verdicts],
        }

    def as_markdown(self) -> str:
        """Return it as tables, with what one must know to read them."""
        parts = [self._conditions()]
        if self.turns:
            parts.append(_table(self.turns))
        if self.held:
            parts.append(_memory(self.held))
        if self.verdicts:
            parts.append(_floors(self.verdicts))
        if self.is_quick:
            parts.append("A quick run: it shows that everything works, and not what it costs.")
        return "\n\n".join(parts) + "\n"

    def _conditions(self) -> str:
        ours, serves = machine(), http()
        others = [used for turn in self.turns for used in turn.others] or [0.0]
        servers = ", ".join(f"{name} {version}" for name, version in self.servers.items())
        return (
            f"{ours['processors']} processors ({ours['processor']}), Python {ours['python']}, "
            f"spoolway {ours['spoolway']}, uvicorn with {serves['loop']} and {serves['http']}, "
            f"secrets found by {serves['search']}; {servers}; load before: "
            f"{ours['load_before']:.1f}. Proxy, upstream, clients and servers share them all; other "
            f"processes used {median(others):.2f} of them in the median, {max(others):.2f} at most."
        )


def http() -> dict[str, str]:
    """Return what uvicorn and the producer choose by themselves, of what is installed."""
    return {
        "loop": "uvloop" if find_spec("uvloop") else "asyncio",
        "http": "httptools" if find_spec("httptools") else "h11",
        "search": "RE2" if find_spec("re2") else "re",
    }


def _table(turns: Sequence[Turn]) -> str:
    by_name = {cost.contestant: cost for cost in costs(turns)}
    count = max(turn.round for turn in turns)
    rate = median(turn.rate for turn in turns)
    caption = (
        f"Median of {f'{count} rounds' if count > 1 else 'one round'} (lowest-highest); half of "
        f"the answers are whole, half are streams. Answers per second with {CONNECTIONS} "
        f"connections that never rest; milliseconds at {rate:,.0f} requests per second, half of "
        f"what the proxy takes that is not recorded. In brackets: the difference to it."
    )
    lines = [
        caption,
        "",
        "| proxy | answers/s | ÷ not recorded | CPU ms each | whole p50 | whole p99 | stream p50 | stream p99 |",
        "|---|---:|---|---:|---:|---|---:|---|",
    ]
    for contestant in CONTESTANTS:
        ours = [turn for turn in turns if turn.contestant == contestant.name]
        if ours:
            lines.append(_row(contestant.title, ours, by_name.get(contestant.name)))
    return "\n".join(lines)


def _row(title: str, turns: Sequence[Turn], cost: Cost | None) -> str:
    rates = spread([turn.throughput for turn in turns])
    cells = [
        title,
        f"{rates.median:,.0f} ({rates.lowest:,.0f}-{rates.highest:,.0f})",
        _share(cost.throughput) if cost else "",
        f"{median(turn.cpu_ms for turn in turns):.2f}"
        + (f" ({cost.cpu_ms.median:+.2f})" if cost else ""),
    ]
    for kind in KINDS:
        middle = median(turn.latency[kind].p50 for turn in turns)
        cells.append(f"{middle:.1f}" + (f" ({cost.p50_ms[kind].median:+.1f})" if cost else ""))
        slowest = median(turn.latency[kind].p99 for turn in turns)
        cells.append(f"{slowest:.1f}" + (f" ({_later(cost.p99_ms[kind])})" if cost else ""))
    return f"| {' | '.join(cells)} |"


def _share(share: Spread) -> str:
    return f"{share.median:.3f} ({share.lowest:.3f}-{share.highest:.3f})"


def _later(later: Spread) -> str:
    return f"{later.median:+.1f}; {later.lowest:+.1f} to {later.highest:+.1f}"


def _memory(held: Held) -> str:
    return (
        f"{held.streams:,} streams of {held.stream_bytes / 1e6:g} MB at once, in one process: peak "
        f"RSS {held.bare_peak / MIB:,.0f} MB without the middleware, "
        f"{held.recorded_peak / MIB:,.0f} MB with it: {held.growth / held.streams / 1024:,.0f} KiB "
        f"for each, of which {held.kept_bytes / 1024:,.0f} KiB may be kept; "
        f"{held.bare_seconds:.1f} s and {held.recorded_seconds:.1f} s."
    )


def _floors(found: Sequence[Verdict]) -> str:
    lines = ["| floor | | measured | |", "|---|---:|---:|---|"]
    lines += [
        f"| {one.what} | {one.bound} | {one.measured} | {'pass' if one.met else 'FALLS SHORT'} |"
        for one in found
    ]
    return "\n".join(lines)
