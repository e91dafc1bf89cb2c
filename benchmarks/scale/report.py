"""The results of a run as Markdown."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from statistics import median
from typing import Any, Final

from benchmarks.scale import indexes
from benchmarks.scale.drain import Drained
from benchmarks.scale.indexes import WithoutIndex
from benchmarks.scale.result import Result
from benchmarks.scale.rows import ByRows
from benchmarks.scale.waiting import KILOBYTES, ByBacklog
from benchmarks.scale.workers import ByWorkers

_MB: Final = 1 << 20
_FULL: Final = 0.9
"""Share of all processors from which on they are what there is too little of."""


def as_markdown(result: Result) -> str:
    """Return what was measured as tables; predictions are `predicted.py`'s."""
    parts = [_conditions(result)]
    processors = int(result.machine["processors"])
    if result.workers:
        parts.append("\n".join(_workers(result.workers, processors)))
    if result.rows:
        parts.append("\n".join(_rows(result.rows)))
    if result.backlog:
        parts.append("\n".join(_backlog(result.backlog)))
    if result.indexes:
        parts.append("\n".join(_indexes(result.indexes)))
    if result.quick:
        parts.append("A quick run: it shows that everything works, and not how fast.")
    return "\n\n".join(parts) + "\n"


def _conditions(result: Result) -> str:
    ours, theirs = result.machine, result.servers
    redis = next(name for name in ("valkey", "redis") if name in theirs)
    return (
        f"{result.at}: {ours['processors']} processors ({ours['processor']}), Python "
        f"{ours['python']}, spoolway {ours['spoolway']}; PostgreSQL {theirs['postgresql']} "
        f"{'with' if theirs['lz4'] else 'without'} lz4, {redis.title()} {theirs[redis]}; data on "
        f"{theirs['file_system']}, everything synced; load before: {ours['load_before']:.1f}."
    )


def _workers(turns: Sequence[ByWorkers], processors: int) -> Iterator[str]:
    yield (
        "Workers on one stream. CPU: microseconds of an event by who used them; busy: share of all "
        f"{processors} processors."
    )
    yield ""
    yield "| events | workers | events/s | spread | ÷ 1 worker | workers | PostgreSQL | Redis | busy |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    notes: list[str] = []
    for kilobytes, of_size in _grouped(turns, lambda turn: turn.kilobytes):
        alone = {turn.turn: turn.drained.rate for turn in of_size if turn.workers == 1}
        best = ""
        fastest = 0.0
        for workers, ours in _grouped(of_size, lambda turn: turn.workers):
            drained = [turn.drained for turn in ours]
            gain = median(turn.drained.rate / alone[turn.turn] for turn in ours)
            busy = _busy(drained, processors)
            yield (
                f"| {kilobytes} KB | {workers} | {_rates(drained)} | {gain:.2f} | "
                f"{' | '.join(f'{us:.1f}' for us in _microseconds(drained).values())} | {busy:.0%} |"
            )
            if (rate := median(one.rate for one in drained)) > fastest:
                fastest = rate
                best = _limit(kilobytes, workers, drained, processors)
        notes.append(best)
    yield ""
    yield "\n".join(notes)


def _limit(kilobytes: int, workers: int, drained: Sequence[Drained], processors: int) -> str:
    """Say what the fastest number of workers ran into."""
    postgres_us = _microseconds(drained)["postgresql"]
    alone = processors / postgres_us * 1e6
    said = f"{kilobytes} KB: fastest with {workers}"
    busy = _busy(drained, processors)
    if busy < _FULL:
        return f"{said}, and the processors are {busy:.0%} busy: they are not the limit."
    share = postgres_us / sum(_microseconds(drained).values())
    return (
        f"{said}, and the processors are full ({busy:.0%}), {share:.0%} of that by PostgreSQL. With "
        f"workers and Redis elsewhere, its own CPU would be the limit: at most {alone:,.0f}/s on "
        f"{processors}."
    )


def _rows(turns: Sequence[ByRows]) -> Iterator[str]:
    yield (
        "Rows that are in the table already, 1 KB each; in each turn an empty database is measured "
        "beside it."
    )
    yield ""
    yield "| rows | of | events/s | ÷ empty | spread | PostgreSQL µs | empty: µs |"
    yield "|---:|---|---:|---:|---:|---:|---:|"
    for (rows, where), ours in _grouped(turns, lambda turn: (turn.rows, turn.where)):
        ratios = [turn.ratio for turn in ours]
        full, empty = ([getattr(turn, which) for turn in ours] for which in ("full", "empty"))
        yield (
            f"| {rows:,} | {where} | {median(one.rate for one in full):,.0f} | {median(ratios):.3f} "
            f"| {min(ratios):.3f}-{max(ratios):.3f} | {_microseconds(full)['postgresql']:.1f} "
            f"| {_microseconds(empty)['postgresql']:.1f} |"
        )


def _backlog(turns: Sequence[ByBacklog]) -> Iterator[str]:
    head = turns[0].drained.events
    yield (f"Events of {KILOBYTES} KB that wait behind the {head:,} that are drained and timed.")
    yield ""
    yield "| waiting | events/s | spread | worker µs | Redis µs | Redis MB | bytes of an event |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for waiting, ours in _grouped(turns, lambda turn: turn.waiting):
        drained = [turn.drained for turn in ours]
        used = _microseconds(drained)
        memory = median(turn.redis_bytes for turn in ours)
        yield (
            f"| {waiting:,} | {_rates(drained)} | {used['workers']:.1f} | {used['redis']:.2f} "
            f"| {memory / _MB:,.0f} | {memory / (waiting + head):.0f} |"
        )


def _indexes(turns: Sequence[WithoutIndex]) -> Iterator[str]:
    yield (
        f"COPY of {indexes.KILOBYTES} KB events on one connection, with every index of "
        "`request_logs`, and without one of them."
    )
    yield ""
    yield "| without | events/s | ÷ with all | spread | PostgreSQL µs | bytes of a row in it |"
    yield "|---|---:|---:|---:|---:|---:|"
    with_all = {turn.turn: turn.seconds for turn in turns if turn.index == indexes.ALL}
    for index, ours in _grouped(turns, lambda turn: turn.index):
        gains = [with_all[turn.turn] / turn.seconds for turn in ours]
        rate = median(turn.events / turn.seconds for turn in ours)
        used = median(turn.database_seconds / turn.events for turn in ours) * 1e6
        size = median(turn.size / turn.events for turn in ours)
        yield (
            f"| {index or 'none'} | {rate:,.0f} | {median(gains):.3f} "
            f"| {min(gains):.3f}-{max(gains):.3f} | {used:.1f} | {size:.1f} |"
        )


def _grouped(turns: Iterable[Any], key: Any) -> Iterator[tuple[Any, list[Any]]]:
    for value, ours in groupby(sorted(turns, key=key), key=key):
        yield value, list(ours)


def _rates(drained: Sequence[Drained]) -> str:
    rates = [one.rate for one in drained]
    return f"{median(rates):,.0f} | {min(rates):,.0f}-{max(rates):,.0f}"


def _microseconds(drained: Sequence[Drained]) -> dict[str, float]:
    return {
        who: median(one.cpu[who] / one.events for one in drained) * 1e6 for who in drained[0].cpu
    }


def _busy(drained: Sequence[Drained], processors: int) -> float:
    return median(sum(one.cpu.values()) / one.seconds / processors for one in drained)
