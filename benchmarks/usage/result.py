"""What a run measured, as JSON and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final

import orjson

from benchmarks.usage.asked import OVERVIEW_MS, TARGET_MS
from benchmarks.usage.dashboards import DASHBOARDS, RELOAD_SECONDS, TAILS
from benchmarks.usage.ingest import Pair
from benchmarks.usage.kept import Kept
from benchmarks.usage.reading import Answered

_FOLDER: Final = Path(__file__).parent.parent / "results"
_MOST_LOST: Final = {"roll-ups": 0.05, "readers": 0.10}


@dataclass(slots=True)
class Result:
    """Everything. Milliseconds, seconds, bytes, events."""

    at: str
    machine: dict[str, Any]
    postgresql: str
    kept: Kept
    sizes: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """By database and table: rows and bytes, with indexes."""
    answered: list[Answered] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def write(self, path: Path | None) -> Path:
        """Write it to a file, by default a new one in results/; the tables go beside it."""
        path = path or _FOLDER / f"usage-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        path.write_bytes(orjson.dumps(asdict(self), option=option))
        path.with_suffix(".md").write_text(self.as_markdown())
        return path

    def as_markdown(self) -> str:
        """Return the tables."""
        conditions = (
            f"{self.at}: {self.machine['processors']} processors ({self.machine['processor']}), "
            f"Python {self.machine['python']}, spoolway {self.machine['spoolway']}, PostgreSQL "
            f"{self.postgresql}; load before: {self.machine['load_before']:.1f}. "
            f"{self.kept.stock.requests:,} requests."
        )
        parts = [conditions, "\n".join(self._stock())]
        if self.answered:
            parts.append("\n".join(_answers(self.answered)))
        if self.pairs:
            parts.append("\n".join(_pairs(self.pairs)))
        return "\n\n".join(parts) + "\n"

    def _stock(self) -> Iterator[str]:
        yield "| database | table | rows | MB |"
        yield "|---|---|---:|---:|"
        for database, tables in self.sizes.items():
            for table, (rows, size) in tables.items():
                yield f"| {database} | {table} | {rows:,} | {size / 1e6:,.0f} |"
        yield ""
        requests = self.kept.stock.requests
        for database, seconds in self.kept.rebuild_seconds.items():
            yield (
                f"`spoolway rollup rebuild` of all of it on {database}: {seconds:,.0f} s, "
                f"{seconds / requests * 1e6:.0f} µs a request."
            )


def _answers(answered: Sequence[Answered]) -> Iterator[str]:
    yield "| question | database | median | p95 | target | | CPU of the server |"
    yield "|---|---|---:|---:|---:|---|---:|"
    names = list(dict.fromkeys(one.name for one in answered))
    for one in sorted(answered, key=lambda one: names.index(one.name)):
        target = OVERVIEW_MS if "overview" in one.name else TARGET_MS[one.database]
        met = "met" if one.median <= target else "**missed**"
        goal = f"{target:,.0f} ms | {met}" if one.has_target else "|"
        yield (
            f"| {one.name} | {one.database} | {one.median:,.1f} ms | {one.p95:,.1f} ms | {goal} "
            f"| {one.server_ms:,.1f} ms |"
        )


def _pairs(pairs: Sequence[Pair]) -> Iterator[str]:
    yield (
        "Events stored per second by one worker, median of the turns; kept: median of the pairs' "
        "ratios (lowest-highest). CPU: microseconds of an event in worker and PostgreSQL, with all "
        f"merging. Readers: {DASHBOARDS} overviews of 30 days, each refreshed every "
        f"{RELOAD_SECONDS:.0f} s, and {TAILS} tails."
    )
    yield ""
    yield "| beside | event | pairs | without | with | kept | aim | | CPU without | CPU with |"
    yield "|---|---|---:|---:|---:|---:|---:|---|---:|---:|"
    order = sorted(pairs, key=lambda pair: (pair.what, pair.kilobytes))
    for (what, kilobytes), group in groupby(order, lambda pair: (pair.what, pair.kilobytes)):
        some = list(group)
        kept = [pair.kept for pair in some]
        aim = 1 - _MOST_LOST[what]
        yield (
            f"| {what} | {kilobytes} KB | {len(some)} "
            f"| {median(pair.without.rate for pair in some):,.0f} "
            f"| {median(pair.beside.rate for pair in some):,.0f} "
            f"| {median(kept):.3f} ({min(kept):.3f}-{max(kept):.3f}) | {aim:.2f} "
            f"| {'met' if median(kept) >= aim else '**missed**'} "
            f"| {median(pair.without.us for pair in some):.1f} "
            f"| {median(pair.beside.us for pair in some):.1f} |"
        )
