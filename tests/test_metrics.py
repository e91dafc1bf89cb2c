"""/metrics of real workers: every metric there is, the right numbers, and nothing that hangs."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from spoolway.schema import DEFAULT_STREAM
from spoolway.spool import DeadLetter, DeadLetters
from spoolway.worker.http.families import FAMILIES
from spoolway.worker.http.metrics import REASONS
from spoolway.worker.http.sample import Sample
from spoolway.worker.http.sources import DeadLetterCounts
from spoolway.worker.observed import Distribution, Observed
from tests.scraped import Scraped, scrape
from tests.servers import PostgresServer, ValkeyServer, aeventually, eventually
from tests.stores import request
from tests.workers import WorkerProcess, drained, ending, push, request_line, waiting

SETTLED = ("inserted", "duplicate", "dead", "spooled")


def add_up(found: Scraped) -> float:
    """Assert that a worker's sums hold; return how many events it has accepted."""
    settled = "spoolway_settled_events_total"
    accepted = found("spoolway_read_events_total") - found(settled, result="given_back")
    accounted = sum(found(settled, result=result) for result in SETTLED)
    assert accepted == accounted + found("spoolway_in_flight_events")
    assert found.total("spoolway_dead_events_total") == found(settled, result="dead")
    return accepted


def test_metrics_say_what_became_of_every_event_and_how_everything_stands(
    tmp_path: Path,
    private_postgres: PostgresServer,
    start_valkey: Callable[..., ValkeyServer],
) -> None:
    """Counts to the unit, every declared metric, and through an outage that the spool sits out."""
    valkey = start_valkey(max_memory="200mb")
    folder = tmp_path / "var"
    worker = WorkerProcess(
        private_postgres.create_database("metrics"),
        valkey.url,
        folder,
        SPOOLWAY_HTTP_PORT="0",
        SPOOLWAY_WRITE_TIMEOUT="2",
        DATABASE_MAX_OVERFLOW="2",
    )
    # What somebody else has left there: no label may come from it.
    DeadLetters(folder / "dead").keep([DeadLetter('x"} 1\nevil 2', "m", b"r")])
    lines = [request_line(duration_ms=10) for _ in range(250)]
    with ending(worker):
        worker.started()
        push(valkey, lines)
        push(valkey, [*lines[:30], b"no json\n"])
        drained(valkey, worker)
        found = eventually(
            lambda: done if add_up(done := scrape(worker)) == 281 else None, timeout=10
        )
        assert found is not None
        settled = "spoolway_settled_events_total"
        assert found(settled, result="inserted") == 250
        assert found(settled, result="duplicate") == 30
        assert found("spoolway_dead_events_total", reason="undecodable") == 1
        assert found("spoolway_batch_events_sum") == 281
        size = sum(map(len, [*lines, *lines[:30]]))
        assert size < found("spoolway_batch_bytes_sum") < size + 300, "their line ends, and a bit"
        assert found("spoolway_batch_seconds_count") == found("spoolway_batch_events_count") >= 1
        assert found("spoolway_commit_latency_seconds_count") == 280
        assert found("spoolway_commit_latency_seconds_bucket", le="3600.0") == 280
        assert found("spoolway_commit_latency_seconds_sum") > 0
        assert found("spoolway_breaker_state", state="closed") == 1
        assert found("spoolway_pool_limit_connections") == 7
        assert 1 <= found.total("spoolway_pool_connections") <= 7
        assert found("spoolway_dead_letters", reason="other") == 1
        assert found("spoolway_dead_letters", reason="undecodable") <= 1, "asked every 15 s"
        assert "evil" not in found.text
        assert found("spoolway_stream_entries", stream=DEFAULT_STREAM) == 0
        assert found("spoolway_redis_memory_limit_bytes") == 200 << 20
        assert found("spoolway_table_bytes", table="request_logs") > 8192
        assert found("spoolway_table_bytes", table="error_logs") > 8192
        assert found("spoolway_partition_days_ready", table="request_logs") == 3
        assert found("spoolway_partitions", table="request_logs") >= 3
        assert 20e6 < found("process_resident_memory_bytes") < 500e6
        assert 0 <= time.time() - found("process_start_time_seconds") < 120
        assert set(found.names()) == FAMILIES.keys() - {"spoolway_database_free_bytes"}
        for family in found.families.values():
            assert (
                family.documentation
                == FAMILIES[family.name + ("_total" if family.type == "counter" else "")].help
            )

        private_postgres.suspend()
        began = time.monotonic()
        push(valkey, [request_line() for _ in range(120)])
        eventually(lambda: waiting(valkey) == 0, timeout=30)
        away = scrape(worker)
        assert time.monotonic() - began < 30
        began = time.monotonic()
        away = scrape(worker)
        assert time.monotonic() - began < 5, "a scrape waits a second at most"
        assert add_up(away) == 401
        assert away(settled, result="spooled") == 120
        assert away("spoolway_outage_seconds", of="database") > 0
        assert away("spoolway_ready") == 1, "events are taken, and kept"
        spooled = eventually(
            lambda: one if (one := scrape(worker))("spoolway_spool_bytes") else None, timeout=10
        )
        assert spooled is not None
        eventually(lambda: not scrape(worker)("spoolway_breaker_state", state="closed"), timeout=10)
        assert spooled("spoolway_spool_oldest_seconds") > 0
        private_postgres.resume()
        back = eventually(
            lambda: (
                one
                if (one := scrape(worker))("spoolway_replayed_events_total", result="inserted")
                == 120
                else None
            ),
            timeout=30,
        )
        assert back is not None
        eventually(lambda: scrape(worker)("spoolway_breaker_state", state="closed"), timeout=10)
        assert worker.terminate() == 0


def with_sqlite(tmp_path: Path, server: ValkeyServer) -> WorkerProcess:
    """A worker with SQLite that listens on a free port."""
    database = f"sqlite:///{tmp_path / 'logs.db'}"
    return WorkerProcess(database, server.url, tmp_path / "var", SPOOLWAY_HTTP_PORT="0")


def test_metrics_of_sqlite(tmp_path: Path, valkey: ValkeyServer) -> None:
    """It has a size and free pages, and neither a pool nor tables whose size is known."""
    worker = with_sqlite(tmp_path, valkey)
    with ending(worker):
        worker.started()
        found = scrape(worker)
        assert found("spoolway_database_bytes") > 8192
        assert found("spoolway_database_free_bytes") >= 0
        assert FAMILIES.keys() - set(found.names()) == {
            "spoolway_pool_connections",
            "spoolway_pool_limit_connections",
            "spoolway_table_bytes",
            "spoolway_partitions",
            "spoolway_partition_days_ready",
        }


@pytest.mark.chaos  # an answer of Redis is good for five seconds
def test_gauges_of_what_is_away_are_gone_and_not_old(
    tmp_path: Path, private_valkey: ValkeyServer
) -> None:
    """Without Redis nobody knows the backlog; what can be asked is still there."""
    worker = with_sqlite(tmp_path, private_valkey)
    with ending(worker):
        worker.started()
        found = scrape(worker)
        assert found("spoolway_source_up", source="redis") == 1
        assert "spoolway_stream_entries" in set(found.names())
        private_valkey.kill()
        away = eventually(
            lambda: (
                one if not (one := scrape(worker))("spoolway_source_up", source="redis") else None
            ),
            timeout=20,
            every=0.2,
        )
        assert away is not None
        assert "spoolway_stream_entries" not in set(away.names())
        assert away("spoolway_database_bytes") > 8192


async def test_what_hangs_is_no_value_once_its_last_one_is_old() -> None:
    """A disk that does not come back: the answer from before is not told for ever."""
    hangs = asyncio.Event()
    answers = iter(["good"])

    async def ask() -> str:
        for answer in answers:
            return answer
        await hangs.wait()
        return "good again"

    sample = Sample("disk", ask, every=0.05)
    await sample.look(10)
    assert sample.value == "good"

    async def looked() -> bool:
        await sample.look(0.01)
        return sample.value is None

    await aeventually(looked)
    hangs.set()
    await sample.look(10)
    assert sample.value == "good again"
    await sample.close()


def test_dead_letters_are_counted_once_whatever_happens_to_their_files(tmp_path: Path) -> None:
    """Appended, torn, removed, purged: each look counts what is there, and reads only what is new."""
    letters = DeadLetters(tmp_path)
    counts = DeadLetterCounts(tmp_path)
    assert counts._count() == {}
    letters.keep([DeadLetter("refused", "m", b"x" * 3_000_000), DeadLetter("conflict", "m", b"b")])
    assert counts._count() == {"refused": 1, "conflict": 1}
    letters.keep([DeadLetter("refused", "m", b"c")])
    [path] = letters.files()
    with path.open("ab") as file:
        file.write(b'{"reason":"ref')  # a write that goes on
    assert counts._count() == {"refused": 2, "conflict": 1}
    with path.open("ab") as file:
        file.write(b"\n")
    assert counts._count() == {"refused": 2, "conflict": 1, "unreadable": 1}
    letters.remove(path, {kept.digest for kept in letters.letters() if kept.reason == "refused"})
    assert counts._count() == {"conflict": 1, "unreadable": 1}
    path.unlink()
    assert counts._count() == Counter()


def test_reasons_are_the_ones_that_letters_have() -> None:
    """Each reason that the code gives has its own series; what is unknown has one together."""
    source = Path(__file__).parent.parent
    spelled = set()
    for file in [*source.glob("schema/**/errors.py"), *source.glob("worker/**/*.py")]:
        for line in file.read_text().splitlines():
            if line.strip().startswith('reason = "'):
                spelled.add(line.split('"')[1])
            elif 'DeadLetter("' in line:
                spelled.add(line.split('DeadLetter("')[1].split('"')[0])
    assert len(spelled) >= 7
    assert spelled <= set(REASONS)


@pytest.mark.parametrize("events", [1, 15, 16, 17, 31, 32, 100, 4000])
def test_a_sample_stands_for_all_events_of_its_batch(events: int) -> None:
    """However many are looked at, as many are counted as there are."""
    observed = Observed()
    observed.committed([request() for _ in range(events)])
    assert sum(observed.commit_seconds.counts) == events


def test_a_distribution_is_cumulative() -> None:
    """A value at a bound is within it, one above the last is within +Inf alone."""
    found = Distribution(1, 10)
    for value in (0.5, 1, 5, 50):
        found.observe(value)
    assert list(found.cumulative()) == [("1.0", 2), ("10.0", 3), ("+Inf", 4)]
    assert found.sum == 56.5
