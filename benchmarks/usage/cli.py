"""The command line: fill a folder once, and measure what is in it as often as you like."""

import argparse
import asyncio
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import asyncpg

from benchmarks.report import machine
from benchmarks.servers import VALKEY_SETTINGS
from benchmarks.usage.ingest import Place, readers, rollups
from benchmarks.usage.kept import KINDS, Kind, postgres, prepared, url_of
from benchmarks.usage.reading import Answered, answers
from benchmarks.usage.result import Result
from benchmarks.usage.serving import add_fresh, merge, serving
from spoolway.schema.usage import LEVELS
from tests.servers import ValkeyServer, postgres_binaries, redis_binaries

PARTS: Final = ("reading", "rollups", "readers")
_KILOBYTES: Final = (1, 4)
_EVENTS: Final = {1: 200_000, 4: 80_000}
"""Of a turn, by their size: some seconds, with a merge or two in them."""
_TABLES: Final = ("request_logs", "error_logs", *(str(level.table.name) for level in LEVELS))
_POSTGRES_SIZES: Final = """
SELECT sum(pg_total_relation_size(relid)), sum(greatest(reltuples, 0))
FROM (
    SELECT $1::regclass AS relid UNION SELECT relid FROM pg_partition_tree($1::regclass)
) AS tree JOIN pg_class ON pg_class.oid = relid AND relkind <> 'p'
"""

_EXAMPLES: Final = """
examples:
  make bench-usage                                     10 M requests: an hour, and 35 GB in /var/tmp
  make bench-usage ARGS="--requests 200000"            does it run at all? a few minutes
  python benchmarks/lookups.py --dir /data/usage       again, on what is there already
  python benchmarks/lookups.py --dir /data/usage --only reading --database sqlite
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # which lets the servers stop, and a new folder go
    options = _parser().parse_args(arguments)
    with _folder(options.dir) as folder:
        result = _measured(folder, options)
    print(result.as_markdown(), flush=True)
    print(f"JSON: {result.write(options.json)}")
    return 0


def _measured(folder: Path, options: argparse.Namespace) -> Result:
    kinds: tuple[Kind, ...] = (options.database,) if options.database else KINDS
    wanted = set(options.only or PARTS)
    binary = next(iter(redis_binaries().values()))
    with (
        postgres(folder, options.postgres) as server,
        ValkeyServer(
            binary, folder / "valkey", append_only="everysec", extra=VALKEY_SETTINGS
        ) as valkey,
    ):
        result = Result(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine(),
            postgresql=server.version,
            kept=prepared(folder, server, kinds, options.requests),
        )
        for kind in kinds:
            url = url_of(kind, folder, server)
            result.sizes[kind] = _sizes(kind, url)
            if "reading" in wanted:
                result.answered += _read(folder, valkey, kind, url, options.times)
        if "postgresql" in kinds:
            place = Place(folder, server, valkey, url_of("postgresql", folder, server))
            for kilobytes in _KILOBYTES:
                events = _EVENTS[kilobytes] // options.share
                for number in range(options.turns if "rollups" in wanted else 0):
                    result.pairs.append(rollups(place, kilobytes, events, number))
            for number in range(options.turns if "readers" in wanted else 0):
                events = _EVENTS[_KILOBYTES[0]] * 2 // options.share
                result.pairs.append(readers(place, _KILOBYTES[0], events, number))
    return result


def _read(folder: Path, valkey: ValkeyServer, kind: Kind, url: str, times: int) -> list[Answered]:
    add_fresh(url)
    with serving(folder, valkey.url, url) as (address, child):
        found = list(answers(address, child, kind, times))
    merge(url)
    return found


def _sizes(kind: Kind, url: str) -> dict[str, tuple[int, int]]:
    if kind == "postgresql":
        return asyncio.run(_postgres_sizes(url))
    path = Path(url.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute("SELECT max(rowid) FROM request_logs").fetchone()
    return {"the file": (rows, path.stat().st_size)}


async def _postgres_sizes(url: str) -> dict[str, tuple[int, int]]:
    connection: Any = await asyncpg.connect(url)
    try:
        found = {}
        for table in _TABLES:
            size, rows = await connection.fetchrow(_POSTGRES_SIZES, table)
            found[table] = int(rows), int(size)
        return found
    finally:
        await connection.close()


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    # /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="spoolway-usage-", dir="/var/tmp") as folder:
        yield Path(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lookups.py",
        description="How fast usage and logs are answered when there are ten million requests, and "
        "what roll-ups and readers cost a worker. On real servers, through the HTTP API. Prints "
        "Markdown, writes it and JSON.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--requests", type=_positive, default=10_000_000, help="in a new folder (default: 10 M)"
    )
    parser.add_argument("--dir", type=Path, help="folder that is kept (default: a new one)")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="measure this part; may be repeated"
    )
    parser.add_argument("--database", choices=KINDS, help="this one alone")
    parser.add_argument(
        "--times", type=_positive, default=40, help="that a question is asked (default: 40)"
    )
    parser.add_argument("--turns", type=_positive, default=7, help="pairs of turns (default: 7)")
    parser.add_argument(
        "--share", type=_positive, default=1, help="divides the events of a turn (default: 1)"
    )
    parser.add_argument("--json", type=Path, help="result (default: a new file in results/)")
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


def _leave(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
