"""Fault 9: rows that no database takes, among the good ones, and a database that takes none."""

from collections.abc import Callable, Iterator
from itertools import cycle

import pytest

from spoolway.schema import new_id
from tests.faults.oracle import dead_letters, key_and_hash
from tests.faults.proxy import Proxy
from tests.faults.site import Site, total
from tests.servers import eventually
from tests.workers import drained, push, request_line, rows, spooled, waiting

REPAIRABLE = [
    b'"response":"\\u0000"',  # jsonb: 22P05
    b'"response":["\\ud800"]',  # 22P02
    b'"response":{"a":NaN}',  # 22P02
    b'"response":[-Infinity,Infinity]',
    b'"response":1e200000',  # 22003
    b'"response":' + b"[" * 20_000 + b"]" * 20_000,  # 54001
    b'"user_id":"a\\u0000b"',  # text: 22021
    b'"path":"\\udfff"',
    b'"prompt_tokens":123456789012345678901234567890',  # over 64 bits
    b'"duration_ms":"not a number"',
    b'"outcome":"unheard of"',
    b'"request_time":"yesterday"',
]
"""What no column takes as it is: repaired and stored, the event's other fields untouched."""

HOPELESS = [
    b'{"type":"request","id":"9b2e7d1c-8f0a-4c3e-9d55-%s"}',  # no UUIDv7
    b'{"type":"request","id":"00000000-0001-7000-8000-%s"}',  # of 1970
    b'{"type":"request","id":"ffffffff-fff1-7000-8000-%s"}',  # of the year 10889
    b'{"type":"nothing","id":"%s"}',
    b'{"type":"request","id":"%s"',  # no JSON
]
"""What is no event of this system: dead letters, with their bytes."""


def refuse_model(site: Site, model_name: str = "poison") -> Callable[[], None]:
    """Let the database refuse the requests of one model; return what ends that."""
    if site.database.startswith("sqlite"):
        rows(
            site.database,
            f"CREATE TRIGGER no_model BEFORE INSERT ON request_logs"
            f" WHEN NEW.model_name = '{model_name}' BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        return lambda: void(rows(site.database, "DROP TRIGGER no_model"))
    rows(
        site.database,
        f"ALTER TABLE request_logs ADD CONSTRAINT no_model CHECK (model_name <> '{model_name}')",
    )
    return lambda: void(rows(site.database, "ALTER TABLE request_logs DROP CONSTRAINT no_model"))


def void(_: object) -> None:
    """Return nothing."""


def poison() -> Iterator[bytes]:
    """Yield what dies, each kind in turn, refused rows more often than others."""
    for n, kind in enumerate(cycle(HOPELESS)):
        yield request_line(model_name="poison", body={"n": n})
        yield kind % f"{n:012x}".encode()


@pytest.mark.parametrize(
    "either_logs",
    ["postgresql", pytest.param("sqlite", marks=pytest.mark.chaos)],
    indirect=True,
)
def test_good_rows_land_among_10_per_cent_of_poison(either_site: Site) -> None:
    """A bad row never takes another down: each is a dead letter, all else a row."""
    send_poison_among_good_rows(either_site, 12, lambda _: 10)


@pytest.mark.chaos
@pytest.mark.parametrize("per_thousand", [1, 10, 100])
def test_good_rows_land_among_any_share_of_poison(per_thousand: int, either_site: Site) -> None:
    """0.1 %, 1 % and 10 % of many more."""
    send_poison_among_good_rows(either_site, 100, SHARES[per_thousand])


SHARES: dict[int, Callable[[int], int]] = {
    1: lambda n: n % 10 == 0,
    10: lambda _: 1,
    100: lambda _: 10,
}
"""Bad rows in the nth hundred."""


def send_poison_among_good_rows(site: Site, hundreds: int, bad_in: Callable[[int], int]) -> None:
    """Push hundreds of good rows, repaired ones among them, with bad ones in between."""
    refuse_model(site)
    worker = site.worker().started()
    deadly = poison()
    bad: list[bytes] = []
    for n in range(hundreds):
        lines = [
            b'{"type":"request","id":"%s","body":%d,%s}' % (str(new_id()).encode(), n, one)
            for one in REPAIRABLE
        ]
        lines += [request_line(body={"n": n, "m": m}) for m in range(100 - len(lines))]
        for at in range(bad_in(n)):
            bad.append(next(deadly))
            lines.insert(11 * at, bad[-1])
        site.send(lines, per_frame=len(lines))
    site.settle()
    site.proven(
        fired=eventually(lambda: total(worker, "dead") == len(bad)),
        dead=[key_and_hash(line)[0] for line in bad],
    )
    for letter in dead_letters(site.folder / "dead"):
        assert letter["reason"] in {"refused", "not-uuid7", "outside-window", "undecodable"}
        assert letter["message"]
        assert "raw" in letter or "raw_base64" in letter
        if letter["reason"] == "refused" and not site.database.startswith("sqlite"):
            assert letter["sqlstate"] == "23514"


def test_database_that_refuses_everything_stops_the_worker(site: Site) -> None:
    """100 %: over the count nothing is acknowledged, nothing dies; with the cause fixed it lands."""
    mend = refuse_model(site)
    worker = site.worker(SPOOLWAY_REFUSED_COUNT="50").started()
    site.send_requests(100)
    site.settle()
    lines = [request_line(model_name="poison", body={"n": n}) for n in range(1_000)]
    site.send(lines)
    eventually(lambda: "STOPPED" in worker.output(), timeout=20)
    eventually(lambda: (worker.status() or {})["breaker"] == "refusing")
    assert waiting(site.valkey) == 10, "nothing was acknowledged"
    assert not list(dead_letters(site.folder / "dead")), "nothing died"
    assert spooled(site.folder) == 0
    assert total(worker, "in_flight") > 0
    mend()
    assert worker.terminate() == 0
    site.worker().started()
    found = site.proven(fired=True)
    assert len(found.rows) == 1_101


@pytest.mark.chaos
def test_rows_refused_before_the_cause_was_fixed_are_tried_again(site: Site) -> None:
    """Fixed in the middle of a batch: what was refused by then is good, and must not die."""
    mend = refuse_model(site)
    worker = site.worker(SPOOLWAY_REFUSED_COUNT="20", SPOOLWAY_BATCH_EVENTS="1000").started()
    lines = [request_line(model_name="poison", body={"n": n}) for n in range(2_000)]
    site.send(lines, per_frame=1_000)  # two batches; the second is at it when the first one stops
    eventually(lambda: "STOPPED" in worker.output(), timeout=20, every=0.001)
    mend()
    assert worker.output().count("STOPPED") == 1, "the second batch was still being written"
    eventually(lambda: waiting(site.valkey) == 1, timeout=30, what="the second batch is done with")
    assert worker.terminate() == 0
    site.worker().started()
    site.proven(fired=True)


@pytest.mark.chaos
def test_database_that_refused_everything_is_tried_again_by_itself(either_site: Site) -> None:
    """The same without a restart: within a minute of the cause being fixed all of it is in."""
    site = either_site
    mend = refuse_model(site)
    worker = site.worker(SPOOLWAY_REFUSED_COUNT="50").started()
    site.send([request_line(model_name="poison", body={"n": n}) for n in range(1_000)])
    eventually(lambda: "STOPPED" in worker.output(), timeout=20)
    mend()
    site.settle(timeout=60)
    eventually(lambda: (worker.status() or {})["breaker"] == "closed")
    site.proven(fired=True)


@pytest.mark.chaos
def test_spool_that_the_database_refuses_stays(proxied_site: Site, proxy: Proxy) -> None:
    """100 % on the way back: the segment stays, no dead letter; with the cause fixed it lands."""
    site = proxied_site
    site.environment |= {"SPOOLWAY_REFUSED_COUNT": "50"}
    proxy.refuse()
    worker = site.worker(SPOOLWAY_STARTUP_TIMEOUT="0.1").started()
    site.send([request_line(model_name="poison", body={"n": n}) for n in range(1_000)])
    drained(site.valkey, worker)
    assert spooled(site.folder) == 1_000
    mend = refuse_model(site)
    proxy.restore()
    eventually(lambda: "stays in the spool" in worker.output(), timeout=20)
    assert spooled(site.folder) == 1_000
    assert not list(dead_letters(site.folder / "dead"))
    mend()
    assert worker.terminate() == 0
    site.worker().started()
    site.proven(fired=True)


@pytest.mark.chaos
def test_same_id_with_other_content_is_a_dead_letter_beside_the_first(site: Site) -> None:
    """The first one stays, the second is kept as it came, and nothing else happens."""
    worker = site.worker().started()
    [first] = site.send_requests(1)
    site.settle()
    key = key_and_hash(first)[0]
    other = request_line(id=key, body="other")
    site.send_requests(50)
    # Not by the ledger: the id is known to it with the first content.
    push(site.valkey, [first, other, first])
    site.settle()
    eventually(lambda: total(worker, "dead") == 1)
    [letter] = dead_letters(site.folder / "dead")
    assert (letter["reason"], letter["raw"].encode()) == ("conflict", other)
    eventually(lambda: total(worker, "duplicate") == 2)
    assert dict(site.look().rows)[key] == site.ledger.accepted[key], "the first one stays"
