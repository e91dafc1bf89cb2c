"""The command line of the benchmark: what may be asked of it."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.contestants import CONTESTANTS
from benchmarks.probes.order import PROBES
from benchmarks.recorded import RECORDED
from tests.servers import postgres_binaries

NAMES: Final = (*(one.name for one in CONTESTANTS), *(one.name for one in PROBES))
_ROUNDS: Final = 5
_ROUNDS_OF_CHECK: Final = 3

_EXAMPLES: Final = """
examples:
  make bench                                        everything; a quarter of an hour
  make bench-check                                  exit code 1 if a recorded ratio has fallen
  make bench ARGS="--record"                        record what is reached
  python benchmarks/ingest.py --quick               does it run at all?
  python benchmarks/ingest.py --only copy --only spoolway --rounds 9
  python benchmarks/ingest.py --only append --only spool --only spoolway --only replay
  python benchmarks/ingest.py --postgres postgresql-16 --json /tmp/without-lz4.json
"""


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; exits with 2 where they contradict each other."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.quick and (options.check or options.record):
        parser.error("--check and --record need more than the few events of --quick")
    if options.check and options.record:
        parser.error("--check compares with what --record would replace: one of them")
    if options.rounds is None:
        options.rounds = _ROUNDS_OF_CHECK if options.check else _ROUNDS
    options.only = set(options.only or NAMES)
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ingest.py",
        description="How fast events become committed rows, beside COPY, SQLAlchemy, a Redis list, "
        "and one arq job per event; how fast they reach the spool, and come back from it; and what "
        "a request pays. On real servers, in one run, interleaved. Prints Markdown, writes it and "
        "JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=_positive,
        help=f"turns of each (default: {_ROUNDS}, with --check {_ROUNDS_OF_CHECK})",
    )
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=1.5,
        help="how long a turn should take; decides the number of events (default: 1.5)",
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="measure this one; may be repeated"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of very few events, 4 KB and mixed: a smoke test",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="measure what is recorded, and exit with 1 if a ratio has fallen under its floor",
    )
    parser.add_argument("--record", action="store_true", help="record the ratios that are reached")
    parser.add_argument(
        "--recorded",
        type=Path,
        default=RECORDED,
        help="where ratios are recorded (default: benchmarks/recorded.json)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        help="where to write the result, with a .md beside it (default: a new file in results/)",
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
