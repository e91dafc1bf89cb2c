"""The command line of the benchmark of the proxy: what runs, how long, where the result goes."""

import argparse
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn

import orjson

from benchmarks.proxied.floors import BARE
from benchmarks.proxied.memory import Held
from benchmarks.proxied.processes import held_by, serving
from benchmarks.proxied.recording import CONTESTANTS
from benchmarks.proxied.report import Result
from benchmarks.proxied.rounds import play
from benchmarks.proxied.servers import folder_of_run, postgres
from benchmarks.proxied.turns import Turn
from benchmarks.rounds import say
from tests.servers import ValkeyServer, redis_binaries

_RESULTS: Final = Path(__file__).parent.parent / "results"
_MEMORY: Final = "memory"
_NAMES: Final = (*(contestant.name for contestant in CONTESTANTS), _MEMORY)
_STREAMS: Final = 1_000
_MEGABYTES: Final = 10

_EXAMPLES: Final = """
examples:
  make bench-proxy                                  everything; about twelve minutes
  make bench-proxy ARGS="--rounds 9 --check"        exit code 1 if a floor is missed
  python benchmarks/proxy.py --quick                does it run at all?
  python benchmarks/proxy.py --contestant spoolway --rounds 15
  python benchmarks/proxy.py --contestant memory
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or with `--check` 1 if a floor was missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.check and options.quick:
        parser.error("--check needs more than the few requests of --quick")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # which lets the processes stop, and their folder go
    with folder_of_run(options.dir) as folder:
        result = _measured(folder, options)
    print(result.as_markdown(), flush=True)
    print(f"JSON: {_written(result, options.json)}")
    missed = [verdict for verdict in result.verdicts if not verdict.met]
    return 1 if options.check and missed else 0


def _measured(folder: Path, options: argparse.Namespace) -> Result:
    wanted = set(options.contestant or _NAMES)
    valkey = ValkeyServer(next(iter(redis_binaries().values())), folder / "valkey")
    servers = {"valkey" if "valkey" in valkey.binary.name else "redis": valkey.version}
    held: Held | None = None
    if _MEMORY in wanted:
        streams = _STREAMS // (20 if options.quick else 1)
        say(f"{streams:,} streams of {_MEGABYTES} MB at once")
        with valkey:
            held = held_by(valkey.url, folder, streams, _MEGABYTES)
    turns: list[Turn] = []
    if wanted != {_MEMORY}:
        turns = _rounds(folder, wanted, servers, options)
    return Result(servers, turns, held, options.quick)


def _rounds(
    folder: Path, wanted: set[str], servers: dict[str, str], options: argparse.Namespace
) -> list[Turn]:
    # All are compared with the proxy that is not recorded, which comes first.
    contestants = [one for one in CONTESTANTS if one.name in wanted or one.name == BARE]
    rounds = 1 if options.quick else options.rounds
    turns: list[Turn] = []
    with (
        postgres(folder, contestants) as database,
        serving("benchmarks.proxied.upstream", folder / "upstream.log") as upstream,
    ):
        if database is not None:
            servers["postgresql"] = database.version
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            seconds = 0.5 if options.quick else options.seconds
            turns += play(
                contestants, folder, upstream.url, database, number=number, seconds=seconds
            )
    return turns


def _written(result: Result, path: Path | None) -> Path:
    if path is None:
        path = _RESULTS / f"proxy-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        orjson.dumps(result.as_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="proxy.py",
        description="What a proxy loses by being recorded: answers per second, the time that each "
        "takes, and memory. A real proxy between a real upstream and real clients; in one run, "
        "interleaved. Prints Markdown, writes JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=_positive, default=7, help="turns of each (default: 7)")
    parser.add_argument(
        "--seconds",
        type=_seconds,
        default=6.0,
        help="of each measure, of each proxy, in each round (default: 6)",
    )
    parser.add_argument(
        "--contestant",
        action="append",
        choices=_NAMES,
        help="measure this one, beside the proxy that is not recorded; may be repeated",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of half a second each: a smoke test"
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
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not 1 or more")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.5 <= seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text} is not 0.5 to 600")
    return seconds


def _folder(text: str) -> Path:
    folder = Path(text).absolute()
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    return folder


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
