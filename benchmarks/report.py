"""The result: one structure, as JSON for machines and as Markdown for people."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.judged import Judged, judged
from benchmarks.probes.base import Figure
from benchmarks.ratios import LIMITS, SATURATING, each_round, figures
from benchmarks.rounds import Run

LOAD_BEFORE: Final = os.getloadavg()[0]
"""Processes that wanted a processor in the minute before this one began."""


@dataclass(slots=True, frozen=True)
class Result:
    """Everything that was measured, and on what."""

    machine: dict[str, Any]
    servers: dict[str, Any]
    loads: list[dict[str, Any]]
    runs: list[Run]
    probed: list[Figure]
    is_quick: bool
    """Whether there were too few events to judge by."""

    @property
    def figures(self) -> list[Judged]:
        """Every figure that is no line of the table; without bounds after a quick run."""
        found = [*figures(self.runs, self.loads), *self.probed]
        if self.is_quick:
            found = [replace(figure, bound=None) for figure in found]
        return judged(found)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values: seconds, bytes, microseconds, events per second."""
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "quick": self.is_quick,
            "servers": self.servers,
            "loads": self.loads,
            "runs": [{**asdict(run), "rate": run.rate} for run in self.runs],
            "figures": [figure.as_json() for figure in self.figures],
        }

    def as_markdown(self) -> str:
        """Return it as tables, with what one must know to read them."""
        parts = [self._conditions()]
        if self.runs:
            parts.append(self._table())
        if found := self.figures:
            head = ["| what | measured | floor | aim | |", "|---|---:|---:|---:|---|"]
            parts.append("\n".join([*head, *(figure.as_row() for figure in found)]))
        if self.is_quick:
            parts.append("A quick run: it shows that everything works, and not how fast.")
        return "\n\n".join(parts) + "\n"

    def _conditions(self) -> str:
        ours, theirs = self.machine, self.servers
        redis = next(name for name in ("valkey", "redis") if name in theirs)
        sizes = "; ".join(
            f"{load['load']}: {load['bytes_per_event']:,} bytes of JSON, "
            f"{load['packed']:.2f} of that in a frame"
            for load in self.loads
        )
        return (
            f"{ours['processors']} processors ({ours['processor']}), Python {ours['python']}, "
            f"spoolway {ours['spoolway']}; PostgreSQL {theirs['postgresql']} "
            f"{'with' if theirs['lz4'] else 'without'} lz4, {redis.title()} {theirs[redis]}, "
            f"SQLite {theirs['sqlite']}; data on {theirs['file_system']}, everything synced; load "
            f"before: {ours['load_before']:.1f}."
            + (f"\nEvents, in the mean: {sizes}." if sizes else "")
        )

    def _table(self) -> str:
        count = max(run.round for run in self.runs)
        rounds = f"{count} rounds" if count > 1 else "one round"
        caption = (
            f"Events per second, median of {rounds} (lowest-highest), and MB of JSON per second. "
            "÷ limit: COPY on one connection, executemany, append; ÷ saturating: COPY on as many "
            "connections as the machine takes. In brackets behind the CPU time: who writes (client "
            "or workers), the database, Redis."
        )
        head = (
            "| events | contestant | events/s | spread | MB/s | ÷ limit | ÷ saturating | of events "
            "| CPU s per 10,000 |"
        )
        lines = [
            caption,
            "",
            head,
            "|---|---|---:|---:|---:|---:|---:|---:|---|",
        ]
        for load in self.loads:
            for contestant in CONTESTANTS:
                runs = [
                    run
                    for run in self.runs
                    if (run.contestant, run.load) == (contestant.name, load["load"])
                ]
                if runs:
                    lines.append(self._line(contestant, load, runs))
        return "\n".join(lines)

    def _line(self, contestant: Contestant, load: dict[str, Any], runs: Sequence[Run]) -> str:
        rates = [run.rate for run in runs]
        rate = median(rates)
        cells = [
            load["load"],
            contestant.title,
            f"{rate:,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{rate * load['bytes_per_event'] / 1e6:,.0f}",
            self._over(contestant, LIMITS[contestant.target], load),
            self._over(contestant, SATURATING, load) if contestant.target == "postgres" else "",
            f"{median(run.events for run in runs):,.0f}",
            _cpu(runs),
        ]
        return f"| {' | '.join(cells)} |"

    def _over(self, contestant: Contestant, limit: str, load: dict[str, Any]) -> str:
        if contestant.name == limit:
            return ""
        each = each_round(self.runs, contestant.name, limit, load["load"])
        return f"{median(each):.2f}" if each else ""


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
