"""The command line of the benchmark: what runs, how long, and where the result goes."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import orjson

from benchmarks import backlog, emit, opening
from benchmarks.backlog import Backlog
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.base import ALL_SIZES, LARGE
from benchmarks.emit import Emitted
from benchmarks.opening import Opened
from benchmarks.report import Result
from benchmarks.rounds import FEW, rounds, say, warm_up
from benchmarks.servers import Servers, started
from benchmarks.workload import Workload
from tests.servers import postgres_binaries

_RESULTS: Final = Path(__file__).parent / "results"
_OTHERS: Final = ("emit", "backlog", "opening")
_NAMES: Final = (*(contestant.name for contestant in CONTESTANTS), *_OTHERS)
_QUICKLY: Final = 20
"""How many times fewer events than in a warm-up `--quick` gives to everyone."""
_SPOOLED: Final = 1_000_000
"""Events in the spool that is opened."""

_EXAMPLES: Final = """
examples:
  make bench                                        everything; about seven minutes
  make bench ARGS="--rounds 9 --check"              exit code 1 if a floor is missed
  python benchmarks/ingest.py --quick               does it run at all?
  python benchmarks/ingest.py --only copy --only spoolway --rounds 9
  python benchmarks/ingest.py --only append --only spool --only spoolway --only replay
  python benchmarks/ingest.py --postgres postgresql-16 --json /tmp/without-lz4.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or with `--check` 1 if a floor was missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check and options.quick:
        parser.error("--check needs more than the few events of --quick")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # which lets the servers stop, and their folder go
    with started(options.dir, options.postgres) as servers:
        result = _measured(servers, options)
    print(result.as_markdown(), flush=True)
    print(f"JSON: {_written(result, options.json)}")
    missed = [verdict for verdict in result.verdicts if not verdict.met]
    return 1 if options.check and missed else 0


def _measured(servers: Servers, options: argparse.Namespace) -> Result:
    wanted = set(options.only or _NAMES)
    contestants = [one for one in CONTESTANTS if one.name in wanted]
    loads = [Workload(kilobytes) for kilobytes in (LARGE if options.quick else ALL_SIZES)]
    large = loads[-1]
    say(
        f"PostgreSQL {servers.postgres.version}, lz4: {'yes' if servers.postgres.has_lz4 else 'no'}"
    )
    counts: dict[tuple[str, int], int] = {}
    if not options.quick:
        say("warm-up, not counted")
        counts = warm_up(servers, contestants, loads, options.seconds)
    emitted: list[Emitted] = []

    def measure_emit() -> None:
        for search, title in emit.SEARCHES.items() if "emit" in wanted else ():
            servers.clean()
            emitted.append(emit.measure(servers, large, 500 if options.quick else 5_000, search))
            say(f"{large.label}  {title}: median {emitted[-1].median_us:.1f} µs")

    runs = rounds(
        servers,
        contestants,
        loads,
        count=lambda one, load: counts.get((one.name, load.kilobytes), FEW[one.pace] // _QUICKLY),
        number_of_rounds=1 if options.quick else options.rounds,
        after_each=measure_emit,
    )
    waiting: Backlog | None = None
    if "backlog" in wanted:
        servers.clean()
        events = options.backlog // (100 if options.quick else 1)
        say(f"{large.label}  {events:,} events waiting")
        waiting = backlog.measure(servers, large, events)
    opened: Opened | None = None
    if "opening" in wanted:
        servers.clean()
        events = _SPOOLED // (100 if options.quick else 1)
        say(f"a spool of {events:,} events")
        opened = opening.measure(servers, events)
    return Result(
        servers=servers.described(),
        loads=[load.described() for load in loads],
        runs=runs,
        emitted=emitted,
        backlog=waiting,
        opened=opened,
        is_quick=options.quick,
    )


def _written(result: Result, path: Path | None) -> Path:
    if path is None:
        path = _RESULTS / f"ingest-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingest.py",
        description="How fast events become committed rows, beside COPY, an ORM, and one arq job "
        "per event; and how fast they reach the spool, and come back from it. On real servers, in "
        "one run, interleaved. Prints Markdown, writes JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_positive, default=5, help="turns of each (default: 5)")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=2.0,
        help="how long a turn should take; decides the number of events (default: 2)",
    )
    parser.add_argument(
        "--backlog",
        type=_positive,
        default=200_000,
        help="events waiting when the worker's memory is measured (default: 200000)",
    )
    parser.add_argument(
        "--only", action="append", choices=_NAMES, help="measure this one; may be repeated"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of very few events of one size: a smoke test",
    )
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if a floor of this run is missed"
    )
    parser.add_argument(
        "--json", type=Path, help="where to write the result (default: a new file in results/)"
    )
    parser.add_argument(
        "--dir", type=_folder, help="folder for the servers' data (default: the system's, /tmp)"
    )
    parser.add_argument(
        "--postgres",
        choices=list(postgres_binaries()),
        help="which server (default: the newest with lz4)",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and up to 60")
    return seconds


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    return folder


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
