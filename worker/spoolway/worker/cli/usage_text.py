"""Usage as text: totals with their trends, and a table of who or what it is of."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from spoolway.worker.cli.amounts import UNKNOWN, co2, duration, energy, money, share, whole
from spoolway.worker.cli.shown import cells, cut, padded, printable, table
from spoolway.worker.cli.sparkline import sparkline

_LABEL: Final = 13
_TREND: Final = 48
"""Cells of a trend: two days by the hour."""
_LEAST_TREND: Final = 8
_NAME: Final = 36
_KINDS: Final = 5
"""Types of errors and stop reasons that are named."""
_PERCENTILES: Final = ("p50", "p90", "p95", "p99")


@dataclass(slots=True, frozen=True)
class _Line:
    name: str
    said: str
    trend: Sequence[float | None] = ()


def usage_text(found: Mapping[str, Any], steps: str, width: int) -> Iterator[str]:
    """Yield the totals of a period, and trends of `steps` where `width` cells have room for them."""
    stats = found["total_stats"]
    yield (
        f"{_time(stats['start_time'])} to {_time(stats['end_time'])} UTC, "
        f"trends by the {found['interval']}"
    )
    yield ""
    lines = list(_lines(found))
    left = max(_LABEL + cells(line.said) for line in lines if line.trend) + 2
    for line in lines:
        start = f"{line.name:{_LABEL}}{line.said}"
        room = min(_TREND, width - left - 2)
        if line.trend and room >= _LEAST_TREND:
            # A moment in which nothing was has no percentile: that is nothing, not unknown.
            drawn = sparkline([value or 0.0 for value in line.trend], width=room, steps=steps)
            start = f"{padded(start, left)}|{drawn}|"
        yield start


def _lines(found: Mapping[str, Any]) -> Iterator[_Line]:
    def trend(name: str, key: str = "count") -> list[float | None]:
        return [step[key] for step in found[name]]

    stats, footprint = found["total_stats"], found["footprint_stats"]
    requests, failed = stats["total_requests"], stats["failed_requests"]
    yield _Line("requests", whole(requests), trend("usage_trends"))
    yield _Line("failed", f"{whole(failed)}, {share(failed, requests)}", trend("error_trends"))
    others = {name: stats[f"{name}_requests"] for name in ("cancelled", "unknown")}
    if any(others.values()):
        said = ", ".join(f"{whole(number)} {name}" for name, number in others.items())
        yield _Line("others", said)
    tokens = trend("token_trends", "total_tokens")
    yield _Line("tokens", _tokens(found["token_stats"]), tokens)
    yield _Line("cost", _cost(found["cost_stats"]), trend("cost_trends", "cost"))
    if footprint["kwh_max"]:
        yield _Line("energy", energy(footprint["kwh_min"], footprint["kwh_max"]))
    if footprint["kgco2eq_max"]:
        said = co2(footprint["kgco2eq_min"], footprint["kgco2eq_max"])
        yield _Line("CO2eq", said, trend("footprint_trends", "kgco2eq_max"))
    for name, of, key in (
        ("duration", "duration_ms", "p95"),
        ("first token", "ttft_ms", "ttft_p95"),
    ):
        known = found["percentiles"][of]
        if known["p50"] is not None:
            said = ", ".join(f"{one} {duration(known[one])}" for one in _PERCENTILES)
            yield _Line(name, said, trend("latency_trends", key))
    if found["errors_by_type"]:
        yield _Line("errors", _kinds(found["errors_by_type"], "error_type"))
    if found["stop_reasons"]:
        yield _Line("stopped by", _kinds(found["stop_reasons"], "reason"))


def breakdown_text(found: Mapping[str, Any], of_all: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the largest, of what is left, and of all, with its percentiles in ms."""
    names = ("requests", "failed", "tokens", "cost", "CO2eq", "mean", "p50", "p95")
    rows: list[tuple[str, ...]] = [(found["dimension"], *names)]
    rows += [(_name(one["value"]), *_row(one)) for one in found["data"]]
    if found["others"] is not None:
        rows.append((f"({whole(found['others']['values'])} others)", *_row(found["others"])))
    rows.append(("(all)", *_row({**found["total"], **of_all})))
    yield from table(rows, right=range(1, len(names) + 1))


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    is_known = one["kgco2eq_max"] > 0
    return (
        whole(one["requests"]),
        share(one["failed"], one["requests"]),
        whole(one["total_tokens"]),
        money(one["cost"] if one["priced_requests"] else None),
        co2(one["kgco2eq_min"], one["kgco2eq_max"]) if is_known else UNKNOWN,
        duration(one["avg_duration_ms"]),
        duration(one.get("p50")),
        duration(one.get("p95")),
    )


def _tokens(tokens: Mapping[str, Any]) -> str:
    return (
        f"{whole(tokens['total_tokens'])} in all, {whole(tokens['total_prompt_tokens'])} asked, "
        f"{whole(tokens['total_completion_tokens'])} answered"
    )


def _cost(priced: Mapping[str, Any]) -> str:
    if not priced["priced_requests"]:
        return UNKNOWN
    without = priced["unpriced_requests"]
    left = f"; {whole(without)} requests have none" if without else ""
    return f"{money(priced['total_cost'])}{left}"


def _kinds(counts: Sequence[Mapping[str, Any]], name: str) -> str:
    said = [f"{whole(one['count'])} {_name(one[name])}" for one in counts[:_KINDS]]
    if (left := len(counts) - _KINDS) > 0:
        said.append(f"{left} others")
    return ", ".join(said)


def _name(value: object) -> str:
    """Return a name on one line; a client may have chosen it."""
    return "(none)" if value is None else cut(printable(" ".join(str(value).split())), _NAME)


def _time(text: str) -> str:
    """Return 2026-01-31T23:00:00Z as people write it."""
    return text[:16].replace("T", " ")
