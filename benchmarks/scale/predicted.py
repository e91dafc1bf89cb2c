"""The model's lines, how far off they are, and what they foretell, as Markdown."""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.scale.costs import CHECKED, FITTED, Cost
from benchmarks.scale.fitting import checked, fitted
from benchmarks.scale.limits import Machine, limits
from benchmarks.scale.model import BUSY, Costs, Load, needs
from benchmarks.workload import key_of

_TITLES: Final = {
    "worker_us": "worker, CPU µs",
    "postgres_us": "PostgreSQL, CPU µs",
    "redis_us": "Redis, CPU µs",
    "wall_us": "one busy worker, µs",
    "packed_bytes": "in a frame, bytes",
    "redis_bytes": "in Redis, bytes (over KB in a frame)",
    "disk_bytes": "on disk with indexes, bytes",
    "table_bytes": "in the larger table, bytes",
    "wal_bytes": "WAL, bytes",
    "spool_bytes": "in the spool, bytes",
}


def as_markdown(measured: Sequence[Cost], loads: Sequence[Load]) -> str:
    """Fit, check, and predict for these loads."""
    costs = fitted(measured)
    parts = [
        "\n".join(_lines(costs, measured)),
        "\n".join(_needs(costs, loads)),
        *("\n".join(_limits(costs, size)) for size in sorted({load.kilobytes for load in loads})),
    ]
    return "\n\n".join(parts) + "\n"


def _lines(costs: Costs, measured: Sequence[Cost]) -> Iterator[str]:
    found = {(check.name, check.size): check for check in checked(measured, costs)}
    yield (
        f"Fitted to events of {', '.join(map(key_of, FITTED))}; the others were measured in the same "
        "run, and only checked."
    )
    yield ""
    headings = " | ".join(f"{key_of(size)}: predicted | measured | error" for size in CHECKED)
    yield f"| what an event costs | each | per KB | {headings} |"
    yield f"|---|---:|---:|{'---:|---:|---:|' * len(CHECKED)}"
    for name, title in _TITLES.items():
        line = getattr(costs, name)
        cells = []
        for size in CHECKED:
            check = found[name, size]
            error = f"{check.error:+.0%}" if check.measured else ""
            cells += [_short(check.predicted), _short(check.measured), error]
        yield (f"| {title} | {_short(line.base)} | {_short(line.per_kb)} | {' | '.join(cells)} |")


def _needs(costs: Costs, loads: Sequence[Load]) -> Iterator[str]:
    yield (
        f"Cores are those that are used; workers are as many as are {BUSY:.0%} busy. Redis' memory "
        "grows while no worker runs, the spool while PostgreSQL is away."
    )
    yield ""
    yield (
        "| events/s | KB | workers | cores: workers | PostgreSQL | Redis | Redis GB per minute "
        "| spool GB per minute | network MB/s | WAL MB/s | disk GB per day | kept: TB | days | to freeze: days |"
    )
    yield f"|{'---:|' * 14}"
    for load in loads:
        need = needs(costs, load)
        yield (
            f"| {load.events_per_second:,.0f} | {load.kilobytes:g} | {need.workers:,} "
            f"| {need.worker_cores:.2f} | {need.postgres_cores:.2f} | {need.redis_cores:.2f} "
            f"| {need.redis_bytes_per_minute / 1e9:,.2f} | {need.spool_bytes_per_minute / 1e9:,.2f} "
            f"| {need.network_bytes_per_second / 1e6:,.0f} | {need.wal_bytes_per_second / 1e6:,.0f} "
            f"| {need.disk_bytes_per_day / 1e9:,.0f} | {need.disk_bytes / 1e12:,.1f} "
            f"| {load.retention_days:g} | {need.days_to_freeze:,.1f} |"
        )


def _limits(costs: Costs, kilobytes: float) -> Iterator[str]:
    machine = Machine()
    yield (
        f"What breaks first with events of {kilobytes:g} KB, one Redis and one PostgreSQL. Assumed, not "
        f"measured: {machine.processors} processors, {machine.network_bytes * 8 / 1e9:.0f} Gbit/s and "
        f"{machine.disk_bytes / 1e9:g} GB/s of disk for each, and costs that stay as they are with so "
        "many processors."
    )
    yield ""
    yield "| at events/s | what | then |"
    yield "|---:|---|---|"
    for limit in limits(costs, kilobytes, machine):
        yield f"| {limit.events_per_second:,.0f} | {limit.what} | {limit.remedy} |"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
