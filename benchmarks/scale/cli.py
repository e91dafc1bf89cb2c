"""The command line: measure, or predict from what was measured."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

from benchmarks.report import machine
from benchmarks.rounds import say
from benchmarks.scale import predicted, report
from benchmarks.scale.costs import costs
from benchmarks.scale.fitting import NoCosts
from benchmarks.scale.indexes import without_indexes
from benchmarks.scale.model import Load, NotEnoughSizes
from benchmarks.scale.result import Result, latest_with_costs, read, write
from benchmarks.scale.rows import by_rows
from benchmarks.scale.waiting import by_backlog
from benchmarks.scale.workers import by_workers
from benchmarks.servers import Servers, started

PARTS: Final = ("workers", "rows", "backlog", "indexes", "costs")
_RATES: Final = (1_000, 10_000, 100_000, 1_000_000)
_MORE_TURNS: Final = 2
"""Times as many turns for rows and indexes: what is looked for, a tenth and less, is as much as one
turn may be off."""
_QUICKLY: Final = 100
"""How many times fewer events, rows and waiting ones a quick run has."""

_EXAMPLES: Final = """
examples:
  make bench-scale                                         every part; about a quarter of an hour
  make bench-scale ARGS="--only rows --rows 0 --rows 1000000"
  python benchmarks/capacity.py measure --quick            does it run at all?
  python benchmarks/capacity.py predict                    from the newest run in results/
  python benchmarks/capacity.py predict --events 5000 --kilobytes 8 --retention-days 90
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, or 1 if there is nothing to predict from."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    return run(options)


def _measure(options: argparse.Namespace) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # which lets the servers stop, and their folder go
    with started(options.dir, options.postgres) as servers:
        result = _measured(servers, options)
    print(report.as_markdown(result), flush=True)
    if result.costs and not result.quick:  # of so few events most CPU times are zero
        print(predicted.as_markdown(result.costs, _loads(None, 4, None, 30)), flush=True)
    print(f"JSON: {write(result, options.json)}")
    return 0


def _measured(servers: Servers, options: argparse.Namespace) -> Result:
    wanted = set(options.only or PARTS)
    turns, share = (1, _QUICKLY) if options.quick else (options.turns, 1)
    result = Result(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        servers=servers.described(),
        quick=options.quick,
    )
    if "workers" in wanted:
        say("workers on one stream")
        result.workers.extend(by_workers(servers, turns, share))
    if "costs" in wanted:
        say("the costs of an event, by its size")
        result.costs.extend(costs(servers, turns, share))
    if "backlog" in wanted:
        say("events that wait")
        sizes = [size // share for size in options.backlog or (0, 1_000_000, 5_000_000)]
        result.backlog.extend(by_backlog(servers, sizes, turns, share))
    if "indexes" in wanted:
        say("the indexes of request_logs")
        often = turns if options.quick else turns * _MORE_TURNS
        result.indexes.extend(without_indexes(servers, often, share))
    if "rows" in wanted:
        say("rows in the table")
        sizes = [size // share for size in options.rows or (0, 1_000_000, 10_000_000)]
        often = turns if options.quick else turns * _MORE_TURNS
        result.rows.extend(by_rows(servers, sizes, often, share))
    return result


def _predict(options: argparse.Namespace) -> int:
    try:
        path = options.result or latest_with_costs()
        result = read(path)
        print(f"From {path.name}, measured {result.at}.\n")
        loads = _loads(options.events, options.kilobytes, options.packed, options.retention_days)
        print(predicted.as_markdown(result.costs, loads), flush=True)
    except (NoCosts, NotEnoughSizes) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1
    return 0


def _loads(
    events: float | None, kilobytes: float, packed: float | None, retention_days: float
) -> list[Load]:
    rates = (events,) if events else _RATES
    return [Load(rate, kilobytes, packed, retention_days) for rate in rates]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capacity.py",
        description="How the cost of an event grows with workers, rows, backlog and size, measured on "
        "real servers; and what a load needs, predicted from that.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="measure | predict")
    _add_measure(commands.add_parser("measure", help="print Markdown, write JSON"))
    _add_predict(
        commands.add_parser("predict", help="fit the model to a run, check it, and use it")
    )
    return parser


def _add_measure(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_measure)
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; may be repeated"
    )
    parser.add_argument("--turns", type=_positive, default=3, help="turns of each (default: 3)")
    parser.add_argument(
        "--rows",
        action="append",
        type=_whole,
        help="rows in the table; may be repeated (default: 0, 1000000 and 10000000)",
    )
    parser.add_argument(
        "--backlog",
        action="append",
        type=_whole,
        help="events waiting; may be repeated (default: 0, 1000000 and 5000000)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one turn, a hundredth of everything: a smoke test"
    )
    parser.add_argument(
        "--json", type=Path, help="where to write the result (default: a new file in results/)"
    )
    parser.add_argument(
        "--dir", type=Path, help="folder for the servers' data (default: the system's, /tmp)"
    )
    parser.add_argument("--postgres", help="which server (default: the newest with lz4)")


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_predict)
    parser.add_argument("--events", type=float, help="events per second (default: 1000 to 1000000)")
    parser.add_argument(
        "--kilobytes",
        type=_kilobytes,
        default=4,
        help="JSON of an event, the mean, 0.5 to 64 (default: 4)",
    )
    parser.add_argument(
        "--packed",
        type=float,
        help="share of its JSON that a frame has, as your logs compress (default: as measured)",
    )
    parser.add_argument(
        "--retention-days", type=float, default=30, help="days that rows are kept (default: 30)"
    )
    parser.add_argument(
        "--result", type=Path, help="run to fit to (default: the newest in results/)"
    )


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _kilobytes(text: str) -> float:
    size = float(text)
    if not 0.5 <= size <= 64:  # lines that were fitted to 1 to 32 KB
        raise argparse.ArgumentTypeError(f"{text} is not 0.5 to 64")
    return size


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
