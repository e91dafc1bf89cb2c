"""How long inserts wait while retention runs: a full database, a writer that never stops, and days to go.

.venv/bin/python benchmarks/retention.py --help
"""

import argparse
import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

BATCH: Final = 100
"""Events of one write: half of them requests, half of them their errors."""
LONGEST: Final = 1.0
"""Seconds that a write may take beside retention: what docs/retention.md promises."""
QUIET: Final = 10.0
"""Seconds of writing alone, to compare with."""

_EXAMPLES: Final = """
examples:
  python benchmarks/retention.py postgresql-15
  python benchmarks/retention.py sqlite --rows 1000000
  python benchmarks/retention.py postgresql-16 --same-store     as in the worker, not beside it
  python benchmarks/retention.py postgresql-16 --days 3         partitions of 3.3 M rows
"""

# Version and variant over random digits; one row in twenty is an error with its error.
_POSTGRES_ID: Final = """
(lpad(to_hex({ms}), 12, '0') || '7' || substr(md5(random()::text), 1, 3) || '8' ||
 substr(md5(random()::text), 1, 15))::uuid
"""
_POSTGRES_REQUESTS: Final = f"""
INSERT INTO request_logs (id, request_time, created_at, model_name, path, method, headers, body,
    response, outcome, duration_ms, http_status, prompt_tokens, total_tokens)
SELECT {_POSTGRES_ID.format(ms="ms")}, to_timestamp(ms / 1000.0), to_timestamp(ms / 1000.0),
    'model-' || i % 20, '/v1/chat/completions', 'POST', '{{"content-type": "application/json"}}',
    jsonb_build_object('content', repeat(md5(i::text), 4)), jsonb_build_object('text', md5(i::text)),
    CASE i % 20 WHEN 0 THEN 'error' ELSE 'success' END, i % 1000, 200, 12, 34
FROM (SELECT i, ($1::float8 + i * $2::float8)::bigint AS ms FROM generate_series(0, $3 - 1) AS i) AS n
"""
_POSTGRES_ERRORS: Final = f"""
INSERT INTO error_logs (id, timestamp, created_at, model_name, error_type, request_id, request_log_id)
SELECT {_POSTGRES_ID.format(ms="(extract(epoch FROM request_time) * 1000)::bigint")}, request_time,
    created_at, model_name, 'Timeout', id, id
FROM request_logs WHERE id >= $1 AND id < $2 AND outcome = 'error'
"""
_SQLITE_ID: Final = """
printf('%08x-%04x-7%03x-8%03x-%012x', ms >> 16, ms & 65535, abs(random()) % 4096,
    abs(random()) % 4096, abs(random()) % 281474976710656)
"""
_SQLITE_TIME: Final = "strftime('%Y-%m-%d %H:%M:%f000', ms / 1000.0, 'unixepoch')"
_SQLITE_REQUESTS: Final = f"""
INSERT INTO request_logs (id, request_time, created_at, model_name, path, method, headers, body,
    response, outcome, duration_ms, http_status, prompt_tokens, total_tokens)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n LIMIT :rows),
rows AS (SELECT i, CAST(:first + i * :step AS INTEGER) AS ms FROM n)
SELECT {_SQLITE_ID}, {_SQLITE_TIME}, {_SQLITE_TIME},
    'model-' || i % 20, '/v1/chat/completions', 'POST', '{{"content-type":"application/json"}}',
    json_object('content', hex(zeroblob(64))), json_object('text', hex(zeroblob(16))),
    CASE i % 20 WHEN 0 THEN 'error' ELSE 'success' END, i % 1000, 200, 12, 34 FROM rows
"""
_SQLITE_ERRORS: Final = """
INSERT INTO error_logs (id, timestamp, created_at, model_name, error_type, request_id, request_log_id)
SELECT substr(id, 1, 24) || printf('%012x', abs(random()) % 281474976710656), request_time,
    created_at, model_name, 'Timeout', id, id
FROM request_logs WHERE id >= :low AND outcome = 'error'
"""


def main() -> None:
    """Fill, measure, and print a row of a table."""
    # A script's own folder is what Python puts here; the repository holds `benchmarks` and `tests`.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from tests.servers import postgres_binaries

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", choices=["sqlite", *postgres_binaries()])
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests (default: 10 M)")
    parser.add_argument(
        "--days", type=int, default=30, help="that they are spread over (default: 30)"
    )
    parser.add_argument("--same-store", action="store_true", help="in the writer's own process")
    parser.add_argument("--dir", type=Path, help="where, on a real disk (default: a new folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spoolway-retention-", dir=options.dir) as folder:
        Path(folder).chmod(0o711)
        with _database(options.database, Path(folder)) as url:
            asyncio.run(_measure(url, options.rows, options.days, same_store=options.same_store))


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    from benchmarks.servers import POSTGRES_SETTINGS
    from tests.servers import PostgresServer, postgres_binaries

    if kind == "sqlite":
        yield f"sqlite:///{folder / 'spoolway.db'}"
        return
    # Autovacuum as it is by default: it is what retention lives with.
    settings = {**POSTGRES_SETTINGS, "autovacuum": "on", "checkpoint_timeout": "5min"}
    server = PostgresServer(postgres_binaries()[kind], folder, fsync=True, settings=settings)
    try:
        server.start()
        yield server.create_database("logs")
    finally:
        server.stop()


async def _measure(url: str, rows: int, days: int, *, same_store: bool) -> None:
    from spoolway.worker.config import load
    from spoolway.worker.opening import bring_up_to_date
    from spoolway.worker.stores import open_store
    from spoolway.worker.stores.partitions import utc_today

    settings = load(database_url=url)
    await bring_up_to_date(settings)
    store = open_store(settings)
    try:
        await store.prepare_days(utc_today() - timedelta(days=days), days + 2)
        began = time.monotonic()
        fill = _fill_sqlite if "sqlite" in url else _fill_postgres
        await fill(settings, rows, days)
        print(f"{rows:,} requests in {time.monotonic() - began:.0f} s", flush=True)
        quiet = await _written(store, asyncio.create_task(asyncio.sleep(QUIET)))
        retention = _in_this_process(store, days) if same_store else _command(url, days)
        task = asyncio.create_task(retention)
        began = time.monotonic()
        busy = await _written(store, task)
        print(f"retention took {time.monotonic() - began:.0f} s: {task.result()}")
        print("| writes of 100 events | number | median | p99 | longest |")
        print("|---|---:|---:|---:|---:|")
        for name, waits in (("alone", quiet), ("beside retention", busy)):
            milliseconds = [wait * 1000 for wait in waits]
            p99 = statistics.quantiles(milliseconds, n=100)[98]
            print(
                f"| {name} | {len(waits):,} | {statistics.median(milliseconds):.0f} ms "
                f"| {p99:.0f} ms | {max(milliseconds):.0f} ms |"
            )
        if max(busy) > LONGEST:
            raise SystemExit(f"a write waited for {max(busy):.1f} s: promised are {LONGEST} s")
    finally:
        await store.close()


async def _written(store: Any, until: "asyncio.Task[Any]") -> list[float]:
    """Write batches until the task ends; return the seconds that each took."""
    from tests.stores import error, request

    waits = []
    said = {"body": {"content": "x" * 128}, "response": {"text": "y" * 32}}
    while not until.done():
        requests = [request(**said) for _ in range(BATCH // 2)]
        batch = [*requests, *(error(one) for one in requests)]
        began = time.monotonic()
        written = await store.write(batch)
        waits.append(time.monotonic() - began)
        assert written.inserted == BATCH
        await asyncio.sleep(0.01)
    return waits


async def _in_this_process(store: Any, days: int) -> object:
    from spoolway.worker.retention import remove_old
    from spoolway.worker.stores.partitions import utc_today

    return await remove_old(store, _keep(days), utc_today())


async def _command(url: str, days: int) -> str:
    keep = _keep(days)
    flags = {"request": keep.requests, "error": keep.errors, "body": keep.bodies}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "spoolway"),
        "retention",
        "--json",
        *(f"--{name}-days={number}" for name, number in flags.items()),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DATABASE_URL": url},
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode().strip()


async def _fill_postgres(settings: Any, rows: int, days: int) -> None:
    import asyncpg

    url = settings.database.set(drivername="postgresql")
    connection: Any = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute("SET synchronous_commit = off")
        for midnight in _midnights(days):
            ms, step = midnight.timestamp() * 1000, 86_400_000 / (rows // days)
            await connection.execute(_POSTGRES_REQUESTS, ms, step, rows // days)
            await connection.execute(_POSTGRES_ERRORS, *_bounds(midnight))
        await connection.execute("VACUUM (ANALYZE) request_logs, error_logs")
    finally:
        await connection.close()


async def _fill_sqlite(settings: Any, rows: int, days: int) -> None:
    def fill() -> None:
        with closing(sqlite3.connect(settings.database.database)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA cache_size = -262144")
            for midnight in _midnights(days):
                ms = midnight.timestamp() * 1000
                step = 86_400_000 / (rows // days)
                numbers = {"first": ms, "step": step, "rows": rows // days}
                connection.execute(_SQLITE_REQUESTS, numbers)
                connection.execute(_SQLITE_ERRORS, {"low": str(_bounds(midnight)[0])})
                connection.commit()

    await asyncio.to_thread(fill)


def _keep(days: int) -> Any:
    """Keep two thirds of the requests, more of the errors, and fewer of the bodies."""
    from spoolway.worker.stores.retaining import Keep

    return Keep(days * 2 // 3, days * 5 // 6, days * 3 // 5)


def _midnights(days: int) -> list[datetime]:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [today - timedelta(days=day) for day in range(days, 0, -1)]


def _bounds(midnight: datetime) -> tuple[Any, Any]:
    from spoolway.schema import id_range

    return id_range(midnight, midnight + timedelta(days=1))


if __name__ == "__main__":
    main()
