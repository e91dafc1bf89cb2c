"""A run of the benchmark: what is measured, in which order, and where the result goes."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import orjson

from benchmarks import recorded
from benchmarks.contestants import CONTESTANTS
from benchmarks.judged import judged
from benchmarks.options import parsed
from benchmarks.probes.base import Figure, Probe
from benchmarks.probes.order import PROBES
from benchmarks.recorded import Recorded, compared
from benchmarks.report import Result, machine
from benchmarks.rounds import Turn, few, rounds, say, warm_up
from benchmarks.servers import Servers, started
from benchmarks.workload import SIZES, Workload, key_of

_RESULTS: Final = Path(__file__).parent / "results"
_QUICK: Final = ("4 KB", "mixed")
_QUICKLY: Final = 20
"""How many times fewer events than in a warm-up `--quick` gives to everyone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or with `--check` 1 if a ratio has fallen under its recorded floor."""
    options = parsed(arguments)
    to_check = recorded.among(recorded.read(options.recorded), options.only)
    if options.check and not to_check:
        say(f"nothing is recorded in {options.recorded}: make bench ARGS=--record")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # which lets the servers stop, and their folder go
    with started(options.dir, options.postgres) as servers:
        result = _measured(servers, options, to_check)
    print(result.as_markdown(), flush=True)
    print(f"JSON: {_written(result, options.json)}")
    if options.record:
        where = f"{result.machine['processors']} processors, {result.machine['processor']}"
        recorded.write(options.recorded, result.runs, where, f"{datetime.now(UTC):%Y-%m-%d}")
        print(f"recorded: {options.recorded}")
    return judgement(to_check, result) if options.check else 0


def judgement(to_check: Sequence[Recorded], result: Result) -> int:
    """Name each ratio that has fallen; 1 if there is one."""
    fallen = [one for one in compared(to_check, result.runs) if one.has_fallen]
    for one in fallen:
        print(f"fallen: {one}")
    if not fallen:
        print(f"none of {len(to_check)} recorded ratios has fallen")
    return 1 if fallen else 0


def _measured(
    servers: Servers, options: argparse.Namespace, to_check: Sequence[Recorded]
) -> Result:
    loads = {key_of(size): Workload(size) for size in SIZES}
    turns = _turns(options, loads, to_check)
    probes = [one for one in PROBES if one.name in options.only and not options.check]
    say(
        f"PostgreSQL {servers.postgres.version}, lz4: {'yes' if servers.postgres.has_lz4 else 'no'}"
    )
    counts: dict[tuple[str, str], int] = {}
    if not options.quick:
        say("warm-up, not counted")
        counts = warm_up(servers, turns, options.seconds)
    figures: list[Figure] = []

    def probe(*, each_round: bool) -> None:
        for one in probes:
            if one.each_round == each_round:
                figures.extend(_probed(servers, one, is_quick=options.quick))

    runs = rounds(
        servers,
        turns,
        count=lambda one, load: counts.get((one.name, load.key), few(one, load) // _QUICKLY),
        number_of_rounds=1 if options.quick else options.rounds,
        after_each=lambda: probe(each_round=True),
    )
    probe(each_round=False)
    used = dict.fromkeys(load.key for _, load in turns)
    return Result(
        machine=machine(),
        servers=servers.described(),
        loads=[loads[key].described() for key in used],
        runs=runs,
        probed=figures,
        is_quick=options.quick,
    )


def _turns(
    options: argparse.Namespace, loads: dict[str, Workload], to_check: Sequence[Recorded]
) -> list[Turn]:
    """Return who has a turn in each round, and with what."""
    needed = recorded.needed(to_check)
    return [
        (one, load)
        for key, load in loads.items()
        for one in CONTESTANTS
        if one.name in options.only and key in one.loads
        if not options.quick or key in _QUICK
        if not options.check or (one.name, key) in needed
    ]


def _probed(servers: Servers, probe: Probe, *, is_quick: bool) -> Sequence[Figure]:
    servers.clean()
    figures = probe.measure(servers, quick=is_quick)
    for one in judged(figures):
        say(f"{probe.name}  {one.what}: {one.shown}")
    return figures


def _written(result: Result, path: Path | None) -> Path:
    """Write it as JSON, and beside that as Markdown."""
    if path is None:
        path = _RESULTS / f"ingest-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(result.as_markdown())
    path.write_bytes(
        orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return path


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
