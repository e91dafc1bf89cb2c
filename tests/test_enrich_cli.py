"""`spoolway enrich`: rows that are stored already get a cost and a footprint, and usage knows it."""

import asyncio
import re
import signal
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy.engine import URL

from spoolway.migrations.connection import connected
from spoolway.schema.usage import REQUEST_FACT
from spoolway.worker.config import Settings
from spoolway.worker.enrichment import Enricher, stored
from spoolway.worker.enrichment.aside import PATIENT, Aside
from spoolway.worker.enrichment.own import OwnPrices
from spoolway.worker.enrichment.stored import Postponed, Report, StoredRows
from spoolway.worker.stores import Item
from tests.commands import ended, refusal, run, start
from tests.servers import PostgresServer, eventually
from tests.stores import Database, id_at, request

pytest_plugins = ["tests.store_fixtures"]

FILLED = ("cost", "kwh_min", "kwh_max", "kgco2eq_min", "kgco2eq_max")
GRANTS = re.findall(
    r"<!-- tests/test_enrich_cli.py runs these -->\n```sql\n(.*?)```",
    (Path(__file__).parents[1] / "docs" / "cost.md").read_text(),
    re.DOTALL,
)


def enricher() -> Enricher:
    """Return an enricher of both libraries, which may take its time."""
    made = Enricher.of(Settings(), limits=PATIENT)
    assert made is not None
    return made


@asynccontextmanager
async def opened(logs: Database) -> AsyncIterator[StoredRows]:
    """Open a connection of the command's own."""
    async with connected(logs.url) as connection:
        yield StoredRows(connection)


def url_of(logs: Database) -> str:
    """Return the URL as an operator gives it."""
    return logs.url.render_as_string(hide_password=False)


def one(ago: timedelta = timedelta(), **fields: Any) -> Item:
    """Return a request whose model both libraries know, as old as that."""
    moment = datetime.now(UTC) - ago
    known = {
        "request_time": moment.isoformat(),
        "provider": "openai",
        "model_name": "gpt-4o",
        "user_id": "u1",
        "prompt_tokens": 1000,
        "completion_tokens": 100,
        "duration_ms": 1500.0,
    }
    return request(id_at(moment), **{**known, **fields})


def some() -> list[Item]:
    """Return requests of all kinds: to be filled in, in part, and not at all."""
    return [
        *(one() for _ in range(7)),
        one(cost=9.0),
        one(kwh_min=1.0),
        one(cost=0.0, kwh_min=0.0, kwh_max=0.0, kgco2eq_min=0.0, kgco2eq_max=0.0),
        one(model_name="our-own", provider=None),
        one(completion_tokens=None),
        one(
            provider="anthropic",
            model_name="claude-sonnet-4-20250514",
            prompt_tokens=4740,
            completion_tokens=255,
            usage_stats={"input_tokens": 5, "cache_creation_input_tokens": 4735},
        ),
        one(model_name="o3", response={"choices": [], "service_tier": "flex"}),
        one(model_name="o3", stream_chunks=[{}, {"service_tier": "flex"}]),
        one(model_name="o3", response="service_tier"),
    ]


async def write(logs: Database, items: Sequence[Item]) -> None:
    """Store them, as a worker that fills in nothing."""
    async with logs.opened() as store:
        await store.write(items)


def enriched_by_a_worker(items: Sequence[Item]) -> list[tuple[Any, ...]]:
    """Return what a worker would have filled in, in the ids' order."""
    by_id = sorted(enricher().enrich(items), key=lambda item: item.event.id)
    return [tuple(getattr(item.event, name) for name in FILLED) for item in by_id]


async def values(logs: Database) -> list[tuple[Any, ...]]:
    """Read what is in the rows, in the ids' order."""
    return [tuple(row[name] for name in FILLED) for row in await logs.rows()]


async def assert_usage_is_the_rows(logs: Database) -> None:
    """Compare the roll-ups' sums with those of the rows."""
    names = ("requests", "priced", "prompt_tokens", *FILLED)
    [usage] = await logs.sql(f"SELECT {', '.join(f'sum({n})' for n in names)} FROM usage_hourly")
    sums = ", ".join(f"sum({n})" for n in ("prompt_tokens", *FILLED))
    [rows] = await logs.sql(f"SELECT count(*), count(cost), {sums} FROM request_logs")
    assert [float(n) for n in usage] == pytest.approx([float(n) for n in rows])


def test_stored_rows_get_what_a_worker_would_have_filled_in(logs: Database) -> None:
    """The same values, and the same in the roll-ups; a second run finds nothing to do."""
    items = some()
    asyncio.run(write(logs, items))
    wanted = enriched_by_a_worker(items)
    settings = {"DATABASE_URL": url_of(logs)}
    looked = run("enrich", "--since", "1d", "--dry-run", "--json", **settings)
    assert asyncio.run(values(logs)) != wanted, "--dry-run changes nothing"
    assert asyncio.run(logs.sql("SELECT count(*) FROM usage_pending")) == [(1,)]
    done = run("enrich", "--since", "1d", "--json", **settings)
    assert (looked.code, done.code) == (0, 0), done.err
    assert asyncio.run(values(logs)) == wanted
    for name in ("rows", "cost", "footprint", "unpriced", "next_since"):
        assert done.json[name] == looked.json[name], name
    sent = [tuple(getattr(item.event, name) for name in FILLED) for item in items]
    by_id = sorted(zip([item.event.id for item in items], sent, strict=True))
    new = [
        [after is not before for before, after in zip(old, now, strict=True)]
        for (_, old), now in zip(by_id, wanted, strict=True)
    ]
    assert done.json["rows"] == len(items) - 1
    assert done.json["cost"] == sum(cost for cost, *_ in new) == 12
    assert done.json["footprint"] == sum(kwh for _, kwh, *_ in new) >= 8
    assert sorted(done.json["unpriced"], key=itemgetter("model")) == [
        {"provider": "openai", "model": "gpt-4o", "rows": 1},
        {"provider": None, "model": "our-own", "rows": 1},
    ]
    asyncio.run(assert_usage_is_the_rows(logs))
    again = run("enrich", "--since", "1d", **settings)
    assert "0 costs and 0 footprints were filled in" in again.out
    asyncio.run(assert_usage_is_the_rows(logs))


async def test_facts_hold_what_was_filled_in_and_nothing_that_is_counted_already(
    logs: Database,
) -> None:
    """Time, dimensions, and the new values; `enriched` says where they are from, part by part."""
    await write(logs, [one(cost=2.0, outcome="error", stop_reason="stop", ttft_ms=5.0)])
    async with opened(logs) as rows:
        await rows.fill(enricher(), datetime.now(UTC) - timedelta(1), datetime.now(UTC))
    [row] = await logs.rows()
    facts = await logs.sql("SELECT facts FROM usage_pending WHERE kind = 'enrichment'")
    [[fact]] = [orjson.loads(text) for (text,) in facts]
    assert len(fact) == len(REQUEST_FACT)
    told = {
        name: value for name, value in zip(REQUEST_FACT, fact, strict=True) if value is not None
    }
    assert datetime.fromisoformat(told.pop("request_time")) == row["request_time"]
    assert told == {
        name: row[name] for name in ("model_name", "provider", "outcome", "user_id", *FILLED[1:])
    }
    assert list(row["enriched"]) == ["footprint"]
    async with opened(logs) as rows:
        await logs.sql("UPDATE request_logs SET cost = NULL")
        await rows.fill(enricher(), datetime.now(UTC) - timedelta(1), datetime.now(UTC))
    [after] = await logs.rows()
    assert after["enriched"].keys() == {"cost", "footprint"}
    assert after["enriched"]["footprint"] == row["enriched"]["footprint"]
    assert after["cost"] == 0.0035


async def test_interrupted_and_run_again(logs: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after the batch in hand, says how far it came, and the next run does the rest once."""
    monkeypatch.setattr(stored, "BATCH", 4)
    await write(logs, items := [one(timedelta(minutes=n)) for n in range(10)])
    since, until = datetime.now(UTC) - timedelta(days=100), datetime.now(UTC)
    stop = asyncio.Event()
    report = Report()
    async with opened(logs) as rows:
        await rows.fill(
            enricher(), since, until, stop=stop, progressed=lambda _n: stop.set(), report=report
        )
    assert (report.rows, report.cost, report.is_whole) == (4, 4, False)
    assert report.reached is not None
    assert [row is None for row, *_ in await values(logs)] == [False] * 4 + [True] * 6
    async with opened(logs) as rows:
        rest = await rows.fill(enricher(), report.reached, until)
    assert (rest.rows, rest.cost, rest.is_whole) == (6, 6, True)
    assert await values(logs) == enriched_by_a_worker(items)
    await assert_usage_is_the_rows(logs)


async def test_two_at_once_fill_in_every_row_once(
    logs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a worker that writes meanwhile is not in their way."""
    monkeypatch.setattr(stored, "BATCH", 25)
    await write(logs, items := [one(timedelta(minutes=n)) for n in range(120)])
    since, until = datetime.now(UTC) - timedelta(days=2), datetime.now(UTC) + timedelta(1)

    async def fill() -> Report:
        async with opened(logs) as rows:
            return await rows.fill(enricher(), since, until)

    late = [one(cost=1.0) for _ in range(100)]
    one_report, other, _ = await asyncio.gather(fill(), fill(), write(logs, late))
    assert one_report.cost + other.cost == 120
    assert await values(logs) == enriched_by_a_worker([*items, *late])
    await assert_usage_is_the_rows(logs)


async def test_a_library_that_does_not_answer_ends_it(sqlite_logs: Database) -> None:
    """What would be left out is not passed over: the next run begins there."""
    await write(sqlite_logs, [one()])

    def load() -> Any:
        raise ImportError

    broken = Enricher(OwnPrices({}), Aside("genai-prices", load, PATIENT), None)
    report = Report()
    since = datetime.now(UTC) - timedelta(1)
    async with opened(sqlite_logs) as rows:
        with pytest.raises(Postponed):
            await rows.fill(broken, since, datetime.now(UTC), report=report)
    assert (report.reached, report.rows, report.is_whole) == (since, 0, False)


def test_what_it_needs_it_asks_for_in_one_line(
    sqlite_logs: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No time, no library, no database: exit code 2, and what to do."""
    url = url_of(sqlite_logs)
    assert "--since is no time" in refusal(run("enrich", "--since", "soon", DATABASE_URL=url))
    assert run("enrich", DATABASE_URL=url).code == 2
    for away in ("sqlite:////proc/none/rows.db", "postgresql://me@127.0.0.1:1/logs"):
        done = run("enrich", "--since", "1d", DATABASE_URL=away)
        assert done.code == 1
        assert done.out.startswith("stopped: ")
    monkeypatch.setattr("spoolway.worker.enrichment.enricher.find_spec", lambda _name: None)
    assert "pip install 'spoolway[prices,footprint]'" in refusal(
        run("enrich", "--since", "1d", DATABASE_URL=url)
    )
    # It was asked for: the setting is the workers'.
    asyncio.run(write(sqlite_logs, [one()]))
    config = tmp_path / "config.yaml"
    config.write_text("spoolway: {enrich: false, prices: {gpt-4o: {request: 0.25}}}")
    done = run("enrich", "--since", "1d", "--config", str(config), DATABASE_URL=url)
    assert "1 costs and 0 footprints were filled in" in done.out
    assert asyncio.run(sqlite_logs.sql("SELECT cost FROM request_logs")) == [(0.25,)]


async def test_the_documented_grants_are_enough(newest_logs: Database) -> None:
    """A role that may read and do what docs/cost.md grants fills in rows of its database."""
    [grants] = GRANTS
    server = newest_logs.server
    assert isinstance(server, PostgresServer)
    await write(newest_logs, items := [one()])
    await newest_logs.sql(
        "CREATE ROLE spoolway_enricher LOGIN PASSWORD 'secret'",
        *grants.replace("spoolway_worker", "spoolway_enricher").strip().split("\n"),
    )
    try:
        role = URL.create(
            "postgresql+asyncpg",
            "spoolway_enricher",
            "secret",
            "127.0.0.1",
            server.port,
            database=newest_logs.url.database,
        )
        async with connected(role) as connection:
            now = datetime.now(UTC)
            await StoredRows(connection).fill(enricher(), now - timedelta(1), now)
        assert await values(newest_logs) == enriched_by_a_worker(items)
    finally:
        await newest_logs.sql("DROP OWNED BY spoolway_enricher", "DROP ROLE spoolway_enricher")


@pytest.mark.chaos
def test_killed_in_the_middle_and_run_again(sqlite_logs: Database) -> None:
    """SIGKILL leaves whole batches, with their facts; Ctrl-C is code 130 and says how to go on."""
    items = [one(timedelta(minutes=n % 1000)) for n in range(20_000)]
    asyncio.run(write(sqlite_logs, items))

    def left() -> int:
        with closing(sqlite3.connect(sqlite_logs.path, timeout=10)) as connection:
            [(rows,)] = connection.execute("SELECT count(*) FROM request_logs WHERE cost IS NULL")
            return int(rows)

    def is_fewer(than: int) -> bool:
        return left() < than

    said = ""
    settings = {"DATABASE_URL": url_of(sqlite_logs)}
    for number in (signal.SIGKILL, signal.SIGINT):
        process = start("enrich", "--since", "2d", **settings)
        eventually(partial(is_fewer, left()), timeout=30, every=0.005)
        process.send_signal(number)
        done = ended(process)
        assert done.code == (-signal.SIGKILL if number == signal.SIGKILL else 130), done
        assert 0 < left() < len(items)
        said += done.out
        asyncio.run(assert_usage_is_the_rows(sqlite_logs))
    [since] = re.findall(r"stopped: interrupted; go on with --since (\S+)", said)
    assert run("enrich", "--since", since, **settings).code == 0
    assert left() == 0
    asyncio.run(assert_usage_is_the_rows(sqlite_logs))
