"""The result: one structure, as JSON for machines and as Markdown for people."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks.backlog import Backlog
from benchmarks.contestants import CONTESTANTS
from benchmarks.emit import SEARCHES, Emitted
from benchmarks.floors import LIMITS, MIB, Ratio, Verdict, ratios, verdicts
from benchmarks.opening import Opened
from benchmarks.rounds import Run

LOAD_BEFORE: Final = os.getloadavg()[0]
"""Processes that wanted a processor in the minute before this one began."""


@dataclass(slots=True, frozen=True)
class Result:
    """Everything that was measured, and on what."""

    servers: dict[str, Any]
    loads: list[dict[str, Any]]
    runs: list[Run]
    emitted: list[Emitted]
    backlog: Backlog | None
    opened: Opened | None
    is_quick: bool
    """Whether there were too few events to judge by."""

    @property
    def ratios(self) -> list[Ratio]:
        """Who is how many times as fast as whom."""
        return ratios(self.runs)

    @property
    def verdicts(self) -> list[Verdict]:
        """What was promised, and what was measured; nothing after a quick run."""
        if self.is_quick:
            return []
        return verdicts(self.runs, self.emitted, self.backlog, self.opened)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values: seconds, bytes, microseconds, events per second."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "quick": self.is_quick,
            "servers": self.servers,
            "loads": self.loads,
            "runs": [{**asdict(run), "rate": run.rate} for run in self.runs],
            "ratios": [asdict(ratio) for ratio in self.ratios],
            "emit": [asdict(one) for one in self.emitted],
            "backlog": asdict(self.backlog) if self.backlog else None,
            "opening": asdict(self.opened) if self.opened else None,
            "floors": [asdict(verdict) for verdict in self.verdicts],
        }

    def as_markdown(self) -> str:
        """Return it as tables, with what one must know to read them."""
        parts = [self._conditions()]
        if self.runs:
            parts.append(self._table())
        if self.emitted:
            parts.append(_emit(self.emitted))
        if self.backlog:
            parts.append(_backlog(self.backlog))
        if self.opened:
            parts.append(_opening(self.opened))
        if self.verdicts:
            parts.append(_floors(self.verdicts))
        if self.is_quick:
            parts.append("A quick run: it shows that everything works, and not how fast.")
        return "\n\n".join(parts) + "\n"

    def _conditions(self) -> str:
        ours, theirs = machine(), self.servers
        redis = next(name for name in ("valkey", "redis") if name in theirs)
        sizes = "; ".join(
            f"{load['kilobytes']} KB: {load['bytes_per_event']:,} bytes of JSON, "
            f"{load['packed']:.2f} of that in a frame"
            for load in self.loads
        )
        return (
            f"{ours['processors']} processors ({ours['processor']}), Python {ours['python']}, "
            f"spoolway {ours['spoolway']}; PostgreSQL {theirs['postgresql']} "
            f"{'with' if theirs['lz4'] else 'without'} lz4, {redis.title()} {theirs[redis]}, "
            f"SQLite {theirs['sqlite']}; data on {theirs['file_system']}, everything synced; load "
            f"before: {ours['load_before']:.1f}.\n"
            f"Events: {sizes}."
        )

    def _table(self) -> str:
        count = max(run.round for run in self.runs)
        rounds = f"{count} rounds" if count > 1 else "one round"
        caption = (
            f"Events per second, median of {rounds} (lowest-highest). In brackets behind the CPU "
            "time: who writes (client or worker), the database, Redis."
        )
        lines = [
            caption,
            "",
            "| events | contestant | events/s | spread | ÷ limit | of events | CPU s per 10,000 |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        for kilobytes in sorted({run.kilobytes for run in self.runs}):
            for contestant in CONTESTANTS:
                runs = [
                    run
                    for run in self.runs
                    if run.contestant == contestant.name and run.kilobytes == kilobytes
                ]
                if not runs:
                    continue
                rates = [run.rate for run in runs]
                lines.append(
                    f"| {kilobytes} KB | {contestant.title} | {median(rates):,.0f} "
                    f"| {min(rates):,.0f}-{max(rates):,.0f} "
                    f"| {self._to_limit(contestant.name, kilobytes)} "
                    f"| {median(run.events for run in runs):,.0f} | {_cpu(runs)} |"
                )
        return "\n".join(lines)

    def _to_limit(self, name: str, kilobytes: int) -> str:
        for ratio in self.ratios:
            if (ratio.of, ratio.kilobytes) == (name, kilobytes) and ratio.to in LIMITS:
                return f"{ratio.median:.2f}"
        return ""


def machine() -> dict[str, Any]:
    """Return what this runs on."""
    return {
        "processors": os.cpu_count(),
        "processor": _processor(),
        "load_before": LOAD_BEFORE,
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "spoolway": version("spoolway"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _cpu(runs: Sequence[Run]) -> str:
    used = {who: median(run.cpu[who] / run.events * 10_000 for run in runs) for who in runs[0].cpu}
    return f"{sum(used.values()):.2f} ({', '.join(f'{seconds:.2f}' for seconds in used.values())})"


def _emit(emitted: Sequence[Emitted]) -> str:
    lines = ["| 4 KB event, 8 headers | median | p99 |", "|---|---:|---:|"]
    for search, title in SEARCHES.items():
        ours = [one for one in emitted if one.search == search]
        if ours:
            middle = median(one.median_us for one in ours)
            lines.append(f"| {title} | {middle:.1f} µs | {median(o.p99_us for o in ours):.0f} µs |")
    bare = median(one.orjson_median_us for one in emitted)
    return "\n".join([*lines, f"| bare orjson.dumps | {bare:.1f} µs | |"])


def _backlog(backlog: Backlog) -> str:
    return (
        f"{backlog.events:,} events of 4 KB waiting: {backlog.redis_bytes / MIB:.0f} MB in Redis "
        f"({backlog.redis_bytes / backlog.json_bytes:.2f} of their JSON), worker's peak RSS "
        f"{backlog.worker_peak_rss / MIB:.0f} MB, drained at "
        f"{backlog.events / backlog.seconds:,.0f}/s."
    )


def _opening(opened: Opened) -> str:
    cold = "" if opened.cold_seconds is None else f", {opened.cold_seconds * 1e3:.1f} ms from disk"
    return (
        f"A spool of {opened.events:,} events of {opened.size / opened.events:.0f} bytes "
        f"({opened.segments} segments, {opened.size / MIB:.0f} MB), first events read: "
        f"{opened.cached_seconds * 1e3:.1f} ms from cache{cold}."
    )


def _floors(found: Sequence[Verdict]) -> str:
    lines = ["| floor | | measured | |", "|---|---:|---:|---|"]
    lines += [
        f"| {one.what} | {one.bound} | {one.measured} | {'pass' if one.met else 'FALLS SHORT'} |"
        for one in found
    ]
    return "\n".join(lines)
